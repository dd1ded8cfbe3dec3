"""The migrator as a service: cores, liveness of the systems, the Redis projection, counts of validations."""

from collections import Counter
from collections.abc import Coroutine, Sequence
from typing import Any

from msgspec.structs import replace

from hal9.backend.core import CHANGES
from hal9.connection import reach_redis
from hal9.heartbeat import StatusFollower
from hal9.log.effects import Send
from hal9.log.runtime import Hooks, Runtime
from hal9.service import Context, Cores, Service, run
from hal9.settings import Settings
from hal9.telemetry.families import (
    HANDOVER,
    MIGRATION_PERCENTAGE,
    NEURONS_MIGRATED,
    QUARANTINED,
    REPLICATION_LAG,
    VALIDATIONS,
)
from schemas.base import encode, other
from schemas.telemetry import Status, Validation
from services.migrator.config import MigratorConfig
from services.migrator.core import MigratorCore
from services.migrator.projector import Projector
from services.migrator.transform import copy_of_neuron, copy_of_unit


class MigratorRole:
    """See `hal9.service.Role`."""

    core_type = MigratorCore

    def __init__(self, context: Context) -> None:
        self._context = context
        self._runtime: Runtime | None = None
        self._checked = self._failed = 0
        settings = context.settings
        self._statuses = StatusFollower(
            settings.kafka, context.topics.name("status"), settings.migrator.dead_after_ms, context.clock
        )
        self._projector = Projector(settings)
        self._config = MigratorConfig(
            migration=settings.migration.id,
            partitions=settings.topics.partitions,
            instance=context.instance,
            unique=context.unique,
            to_unit=lambda neuron, layer: copy_of_neuron(neuron, layer=layer),
            to_neuron=copy_of_unit,
            force_seal_ms=settings.migrator.force_seal_ms,
            state_bytes=settings.system.state_bytes,
            backfill_rate=settings.migrator.backfill_rate / settings.topics.partitions,
            backfill_burst=max(1.0, settings.migrator.backfill_burst / settings.topics.partitions),
        )

    def make_core(self, partition: int) -> MigratorCore:
        """A new incarnation."""
        return MigratorCore(partition, self._config)

    def attach(self, runtime: Runtime) -> None:
        """Counts of validations leave through the runtime's producer."""
        self._runtime = runtime

    def hooks(self) -> Hooks:
        """Who is dead, before each tick; what was validated, each second."""
        return Hooks(self._judge, self._report)

    def beside(self) -> Sequence[Coroutine[Any, Any, None]]:
        """Hear the heartbeats, and project units into Redis."""
        return (self._listen(), self._project())

    async def _listen(self) -> None:
        async with self._statuses:
            await self._statuses.ended()

    async def _project(self) -> None:
        settings = self._context.settings
        await reach_redis(settings.redis, settings.kafka.wait_s)
        await self._projector.run()

    def trouble(self) -> list[str]:
        """A Redis that does not answer: it falls behind, nothing else does."""
        return self._projector.trouble()

    def _judge(self, cores: Cores) -> None:
        dead = self._statuses.liveness.dead(self._context.clock.now_ms())
        for core in _cores(cores).values():
            core.dead = dead

    def _report(self, cores: Cores) -> None:
        metrics, found = self._context.metrics, _cores(cores).values()
        checked, reasons = sum(core.translation.checked for core in found), Counter[str]()
        for core in found:
            reasons.update(core.failed)
            core.translation.checked, core.failed = 0, Counter()
        failed = reasons.total()
        metrics.gauge(NEURONS_MIGRATED).set(sum(core.migrated for core in found))
        metrics.gauge(MIGRATION_PERCENTAGE).set(min((core.backfilled for core in found), default=0.0))
        lag = self._runtime.lag() if self._runtime is not None else {}
        for system, log in CHANGES.items():
            behind = lag.get(self._context.topics.name(log), 0)
            metrics.gauge(REPLICATION_LAG, direction=f"{system}_to_{other(system)}").set(behind)
        for core in found:
            stages = core.handovers.stages
            finished, stages.finished = stages.finished, []
            for stage, seconds in finished:
                metrics.histogram(HANDOVER, stage=stage).observe(seconds)
        for reason, count in reasons.items():
            metrics.counter(QUARANTINED, reason=reason).inc(count)
        if not checked and not failed:
            return
        metrics.counter(VALIDATIONS, result="ok").inc(max(0, checked - failed))
        metrics.counter(VALIDATIONS, result="failed").inc(failed)
        if self._runtime is not None:
            validation = Validation(
                migrator=self._context.instance,
                at_ms=int(self._context.clock.now_ms()),
                checked=checked,
                failed=failed,
            )
            key = self._context.settings.migration.id.encode()
            self._runtime.append(Send("validations", key, encode(validation), []))

    def status(self, cores: Cores, status: Status) -> Status:
        """What has settled, how far the backfill is, what is quarantined."""
        found = _cores(cores)
        copied: dict[str, int] = {}
        for core in found.values():
            for system, count in core.copied.items():
                copied[system] = copied.get(system, 0) + count
        return replace(
            status,
            epochs={p: core.settled_epoch for p, core in found.items() if core.phase == "serve"},
            backfilled={p: core.backfilled for p, core in found.items() if core.phase == "serve"},
            copied=copied,
            quarantined=sum(len(core.unmapped.codes) for core in found.values()),
            handing_over={p: waits for p, core in found.items() if (waits := core.handing_over(status.at_ms))},
        )


SERVICE = Service("migrator", MigratorRole)


def main(settings: Settings) -> None:
    """Run the service until SIGTERM or SIGINT."""
    run(SERVICE.serve, settings)


def _cores(cores: Cores) -> dict[int, MigratorCore]:
    return {p: core for p, core in cores.items() if isinstance(core, MigratorCore)}
