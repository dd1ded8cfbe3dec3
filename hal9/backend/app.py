"""A system as a service: a handler, its cores, what it says of itself."""

from collections.abc import Collection, Coroutine, Sequence
from importlib import import_module
from typing import Any

from msgspec.structs import replace

from hal9.backend.core import CORES, BackendConfig, BackendCore
from hal9.backend.execution import Limits
from hal9.backend.handler import BatchHandler, Function, Handler, as_batch
from hal9.compare.loading import load
from hal9.errors import ConfigError
from hal9.log.runtime import Hooks, Runtime
from hal9.service import Context, Cores, Service, run
from hal9.settings import Settings
from hal9.telemetry.families import TWINS_DROPPED
from schemas.base import SYSTEMS, System
from schemas.telemetry import Status


class SystemRole:
    """See `hal9.service.Role`."""

    def __init__(self, context: Context, system: System, handler: BatchHandler) -> None:
        self.core_type = CORES[system]
        self._handler, self._context = handler, context
        self._dropped = 0
        limits = context.settings.system
        self._config = BackendConfig(
            migration=context.settings.migration.id,
            instance=context.instance,
            unique=context.unique,
            limits=Limits(limits.value_bytes, limits.state_bytes),
            batch=limits.batch_max,
            rules=load(context.settings),
        )

    def make_core(self, partition: int) -> BackendCore:
        """A new incarnation."""
        return self.core_type(partition, self._config, self._handler, self._context.tracer)

    def attach(self, runtime: Runtime) -> None:
        """Nothing leaves but what the cores send."""

    def beside(self) -> Sequence[Coroutine[Any, Any, None]]:
        """Nothing."""
        return ()

    def trouble(self) -> list[str]:
        """Nothing of its own."""
        return []

    def hooks(self) -> Hooks:
        """Twins that were left out, each second."""
        return Hooks(each_second=self._count)

    def _count(self, cores: Cores) -> None:
        # A core that is given up takes its count with it: never less than what was counted.
        dropped = sum(core.twins.dropped for core in cores.values() if isinstance(core, BackendCore))
        self._context.metrics.counter(TWINS_DROPPED).inc(max(dropped - self._dropped, 0))
        self._dropped = dropped

    def status(self, cores: Cores, status: Status) -> Status:
        """Seals, requests under way, and which operations leave the state as it is."""
        systems = {p: core for p, core in cores.items() if isinstance(core, BackendCore)}
        return replace(
            status,
            epochs={p: core.sealed_epoch for p, core in systems.items() if core.phase == "serve"},
            in_flight=sum(core.in_flight for core in systems.values()),
            read_only=sorted(self._handler.read_only),
        )


class Backend:
    """A system of one's own: `Backend("hierarchical", handler, read_only={"read"}).run(settings)`."""

    def __init__(
        self, name: System, handler: Handler | BatchHandler | Function, *, read_only: Collection[str] | None = None
    ) -> None:
        if name not in SYSTEMS:
            raise ConfigError(f"there is no system {name!r}: it is {' or '.join(SYSTEMS)}")
        self.name: System = name
        self.handler = as_batch(handler, read_only)
        self.service = Service(name, lambda context: SystemRole(context, name, self.handler))

    def run(self, settings: Settings) -> None:
        """Run until SIGTERM or SIGINT."""
        load(settings)  # wrong rules are refused before anything is waited for
        run(self.service.serve, settings)


def main(settings: Settings) -> None:
    """Run the system that the settings name."""
    name = settings.system.name
    if not name:
        raise ConfigError("SYSTEM.NAME is not set: --name flat or --name hierarchical")
    Backend(name, load_handler(settings.system.handler)).run(settings)


def load_handler(path: str) -> Handler | BatchHandler | Function:
    """The object that `module:attribute` names; a class is instantiated. Raises ConfigError."""
    module, colon, attribute = path.partition(":")
    if not colon or not module or not attribute:
        raise ConfigError(f"SYSTEM.HANDLER: {path!r} is not module:attribute")
    try:
        found = getattr(import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise ConfigError(f"SYSTEM.HANDLER: {path!r} cannot be loaded: {error}") from error
    handler: Handler | BatchHandler | Function = found() if isinstance(found, type) else found
    return handler
