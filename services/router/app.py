"""The router as a service: settings in, cores made, outcomes reported each second."""

from collections.abc import Coroutine, Sequence
from typing import Any

from msgspec.structs import replace

from hal9 import wire
from hal9.compare import Tolerance
from hal9.log.effects import Send
from hal9.log.runtime import Hooks, Runtime
from hal9.service import Context, Cores, Service, run
from hal9.settings import Settings
from hal9.telemetry.families import DIVERGENCES
from hal9.telemetry.metrics import OutcomeMetrics
from schemas.base import encode
from schemas.telemetry import Status
from services.router.core import RouterConfig, RouterCore
from services.router.outcomes import OutcomeBook


class RouterRole:
    """See `hal9.service.Role`."""

    core_type = RouterCore

    def __init__(self, context: Context) -> None:
        self._context = context
        self._book = OutcomeBook(context.instance)
        self._metrics = OutcomeMetrics(context.metrics)
        self._runtime: Runtime | None = None
        self._diverged: dict[str, int] = {}
        settings = context.settings
        limits = settings.router
        self._config = RouterConfig(
            migration=settings.migration.id,
            partitions=settings.topics.partitions,
            instance=context.instance,
            unique=context.unique,
            book=self._book,
            limits=wire.Limits(
                value_bytes=limits.value_bytes,
                state_bytes=settings.system.state_bytes,
                deadline_ms=limits.deadline_ms,
            ),
            requests_topic=context.topics.name("requests"),
            id_window_ms=limits.id_window_ms,
            in_flight_max=limits.in_flight_max,
            tolerance=Tolerance(limits.float_rel, limits.float_abs),
        )

    def make_core(self, partition: int) -> RouterCore:
        """A new incarnation."""
        return RouterCore(partition, self._config, self._context.tracer)

    def attach(self, runtime: Runtime) -> None:
        """Outcomes leave through the runtime's producer."""
        self._runtime = runtime

    def beside(self) -> Sequence[Coroutine[Any, Any, None]]:
        """Nothing."""
        return ()

    def trouble(self) -> list[str]:
        """Nothing of its own."""
        return []

    def hooks(self) -> Hooks:
        """Outcomes of the seconds that have passed, each second."""
        return Hooks(each_second=self._report)

    def _report(self, cores: Cores) -> None:
        if self._runtime is None:
            return
        for kind, count in self._book.divergences.items():
            counter = self._context.metrics.counter(DIVERGENCES, kind=kind)
            counter.inc(count - self._diverged.get(kind, 0))
            self._diverged[kind] = count
        key = self._context.settings.migration.id.encode()
        for outcome in self._book.take(self._context.clock.now_ms(), sorted(cores)):
            self._metrics.add(outcome)
            self._runtime.append(Send("outcomes", key, encode(outcome), []))

    def status(self, cores: Cores, status: Status) -> Status:
        """Markers read back, requests under way."""
        routers = {p: core for p, core in cores.items() if isinstance(core, RouterCore)}
        return replace(
            status,
            epochs={p: core.marked for p, core in routers.items() if core.phase == "serve"},
            in_flight=sum(len(core.in_flight) for core in routers.values()),
            waiting=sum(core.waiting for core in routers.values()),
        )


SERVICE = Service("router", RouterRole, head=True)


def main(settings: Settings) -> None:
    """Run the service until SIGTERM or SIGINT."""
    run(SERVICE.serve, settings)
