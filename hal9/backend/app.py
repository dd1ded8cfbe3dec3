"""A system as a service: a handler, its cores, what it says of itself."""

import asyncio
from collections.abc import Collection, Coroutine, Sequence
from importlib import import_module
from typing import Any, Protocol

from msgspec.structs import replace

from hal9.backend.config import BackendConfig
from hal9.backend.core import CORES, BackendCore
from hal9.backend.execution import Limits
from hal9.backend.handler import BatchHandler, Declared, Function, Handler, Outcome, as_batch
from hal9.backend.measured import Measured
from hal9.compare.loading import load
from hal9.errors import ConfigError
from hal9.log.effects import Call
from hal9.log.runtime import Hooks, Runtime
from hal9.service import Context, Cores, Service, run
from hal9.settings import Settings
from hal9.telemetry.families import TWINS_DROPPED
from schemas.base import SYSTEMS, System
from schemas.telemetry import Status


class Remote(Protocol):
    """A handler that is somewhere else: `hal9.backend.remote.HttpHandler` is one."""

    @property
    def unreached(self) -> str | None:
        """Why it cannot be reached at present."""
        ...

    async def call(self, call: Call) -> Sequence[Outcome]:
        """See `hal9.log.calling`."""
        ...

    async def watch(self) -> None:
        """Runs beside the service."""
        ...


class SystemRole:
    """See `hal9.service.Role`."""

    def __init__(self, context: Context, system: System, handler: BatchHandler, remote: Remote | None = None) -> None:
        self.core_type = CORES[system]
        self._handler, self._context, self._remote = handler, context, remote
        self._calling = Measured(remote.call, context.metrics) if remote is not None else None
        self._dropped = 0
        limits = context.settings.system
        self._config = BackendConfig(
            migration=context.settings.migration.id,
            instance=context.instance,
            unique=context.unique,
            limits=Limits(limits.value_bytes, limits.state_bytes),
            batch=limits.batch_max,
            rules=load(context.settings),
            remote=remote is not None,
        )

    def make_core(self, partition: int) -> BackendCore:
        """A new incarnation."""
        return self.core_type(partition, self._config, self._handler, self._context.tracer)

    def attach(self, runtime: Runtime) -> None:
        """Nothing leaves but what the cores send."""

    def beside(self) -> Sequence[Coroutine[Any, Any, None]]:
        """A handler that is somewhere else is looked after."""
        return (self._remote.watch(),) if self._remote is not None else ()

    def trouble(self) -> list[str]:
        """A handler that cannot be reached."""
        unreached = self._remote.unreached if self._remote is not None else None
        return [f"handler: {unreached}"] if unreached is not None else []

    def hooks(self) -> Hooks:
        """Twins that were left out, each second."""
        return Hooks(each_second=self._count, calling=self._calling)

    def _count(self, cores: Cores) -> None:
        # A core that is given up takes its count with it: never less than what was counted.
        dropped = sum(core.beside.twins.dropped for core in cores.values() if isinstance(core, BackendCore))
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
    if settings.system.handler.startswith(("http://", "https://")):
        load(settings)
        run(lambda settings, stop: serve_remote(name, settings, stop), settings)
        return
    Backend(name, load_handler(settings.system.handler)).run(settings)


async def serve_remote(name: System, settings: Settings, stop: asyncio.Event) -> None:
    """Run a system whose handler is at an address, until `stop`. Raises as `HttpHandler.reach`, `Service.serve`."""
    from hal9.backend.remote import HttpHandler  # noqa: PLC0415  no other system needs an HTTP client

    async with HttpHandler(settings.system.handler, settings.system) as remote:
        await remote.reach(stop)
        if stop.is_set():
            return
        handler = Declared(remote.read_only)
        await Service(name, lambda context: SystemRole(context, name, handler, remote)).serve(settings, stop)


def load_handler(path: str) -> Handler | BatchHandler | Function:
    """The object that `module:attribute` names; a class is instantiated. Raises ConfigError."""
    module, colon, attribute = path.partition(":")
    if not colon or not module or not attribute:
        raise ConfigError(f"SYSTEM.HANDLER: {path!r} is neither module:attribute nor http(s)://...")
    try:
        found = getattr(import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise ConfigError(f"SYSTEM.HANDLER: {path!r} cannot be loaded: {error}") from error
    handler: Handler | BatchHandler | Function = found() if isinstance(found, type) else found
    return handler
