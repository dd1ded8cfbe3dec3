"""The router as a service: settings in, cores made, outcomes reported each second."""

from collections.abc import Coroutine, Sequence
from typing import Any, get_args

from msgspec.structs import replace

from hal9 import wire
from hal9.compare.loading import load
from hal9.heartbeat import StatusFollower
from hal9.log.effects import Send
from hal9.log.runtime import Hooks, Runtime
from hal9.service import Context, Cores, Service, run
from hal9.settings import Router, Settings
from hal9.telemetry.families import BREAKER_STATE, DIVERGENCES, TWINS_DROPPED
from hal9.telemetry.logs import logger
from hal9.telemetry.metrics import OutcomeMetrics
from schemas.base import encode
from schemas.reports import DivergenceKind
from schemas.telemetry import Outcome, Status
from services.router.breaker import BreakerPolicy, State
from services.router.config import RouterConfig
from services.router.core import RouterCore
from services.router.load import LoadPolicy
from services.router.outcomes import OutcomeBook
from services.router.protection import Protection, ProtectionPolicy
from services.router.sampling import Sampling

_log = logger("router")


def protection_policy(settings: Router) -> ProtectionPolicy:
    """What the settings say."""
    breaker = BreakerPolicy(
        window_s=settings.breaker_window_s,
        min_requests=settings.breaker_min_requests,
        error_share=settings.breaker_error_share,
        slow_share=settings.breaker_slow_share,
        slow_ms=settings.breaker_slow_ms,
        open_ms=settings.breaker_open_ms,
        probes=settings.breaker_probes,
    )
    load = LoadPolicy(
        count=settings.in_flight_max,
        bytes=settings.in_flight_bytes,
        process_count=settings.process_in_flight_max,
        process_bytes=settings.process_in_flight_bytes,
        key_share=settings.key_share,
        shed_ms=settings.deadline_ms / 4,
    )
    return ProtectionPolicy(
        breaker, settings.breaker, settings.shadow_rate, settings.shadow_burst, load, settings.fallback_after
    )


class RouterRole:
    """See `hal9.service.Role`."""

    core_type = RouterCore

    def __init__(self, context: Context) -> None:
        self._context = context
        self._metrics = OutcomeMetrics(context.metrics)
        self._runtime: Runtime | None = None
        self._diverged: dict[str, int] = {}
        for kind in get_args(DivergenceKind):
            context.metrics.counter(DIVERGENCES, kind=kind)
        self._dropped = self._ended = 0
        settings = context.settings
        limits = settings.router
        sampling = Sampling(limits.divergence_rate, limits.divergence_burst)
        self._book = OutcomeBook(context.instance, sampling)
        self._statuses = StatusFollower(settings.kafka, context.topics.name("status"), clock=context.clock)
        self._protection = Protection(protection_policy(limits))
        for system in self._protection.breakers:
            context.metrics.gauge(BREAKER_STATE, system=system).set(State.CLOSED.level)
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
            protection=self._protection,
            rules=load(settings),
        )

    def make_core(self, partition: int) -> RouterCore:
        """A new incarnation."""
        return RouterCore(partition, self._config, self._context.tracer)

    def attach(self, runtime: Runtime) -> None:
        """Outcomes leave through the runtime's producer."""
        self._runtime = runtime

    def beside(self) -> Sequence[Coroutine[Any, Any, None]]:
        """Hear which operations the systems declare read-only."""
        return (self._listen(),)

    async def _listen(self) -> None:
        async with self._statuses:
            await self._statuses.ended()

    def trouble(self) -> list[str]:
        """Heartbeats that are not heard: what is read-only may have changed."""
        return self._statuses.trouble()

    def hooks(self) -> Hooks:
        """What is read-only, before each tick; outcomes of the seconds that have passed, each second."""
        return Hooks(self._judge, self._report)

    def _judge(self, cores: Cores) -> None:
        self._protection.budget.recount(core.load for core in cores.values() if isinstance(core, RouterCore))
        self._protection.read_only = self._statuses.liveness.read_only()

    def _report(self, cores: Cores) -> None:
        if self._runtime is None:
            return
        for kind, count in self._book.divergences.items():
            counter = self._context.metrics.counter(DIVERGENCES, kind=kind)
            counter.inc(count - self._diverged.get(kind, 0))
            self._diverged[kind] = count
        ended = self._config.rules.ended(self._context.clock.now_ms())
        for rule in ended[self._ended :]:
            _log.warning("comparison_rule_ended", rule=rule.label, owner=rule.owner)
        self._ended = len(ended)
        self._context.metrics.counter(TWINS_DROPPED).inc(self._book.twins_dropped - self._dropped)
        self._dropped = self._book.twins_dropped
        key = self._context.settings.migration.id.encode()
        self._book.dropped(self._protection.gate.take())
        outcomes = self._book.take(self._context.clock.now_ms(), sorted(cores))
        for outcome in outcomes:
            self._metrics.add(outcome)
            self._runtime.append(Send("outcomes", key, encode(outcome), []))
        self._protect(outcomes, self._runtime)

    def _protect(self, outcomes: list[Outcome], runtime: Runtime) -> None:
        now_ms = self._context.clock.now_ms()
        for move in self._protection.look(outcomes, now_ms):
            self._context.metrics.gauge(BREAKER_STATE, system=move.system).set(move.after.level)
            _log.warning(
                "breaker_moved",
                system=move.system,
                before=move.before.value,
                after=move.after.value,
                why=move.event.value,
                epoch=move.epoch,
                evidence=move.evidence,
            )
        command = self._protection.command(now_ms, self._context.instance)
        if command is not None:
            runtime.append(Send("control", command.migration.encode(), encode(command), []))

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
    load(settings)  # wrong rules are refused before anything is waited for
    run(SERVICE.serve, settings)
