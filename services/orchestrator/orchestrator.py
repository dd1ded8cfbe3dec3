"""The orchestrator at work: decides on what it sees, appends, reads the verdict back, decides again.

Nothing is kept here that the logs do not hold: whoever comes after a crash decides the same.
"""

import asyncio
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from hal9.control.plan import Plan, from_tree
from hal9.control.progress import effective
from hal9.control.reducer import ControlState, Outcome
from hal9.errors import ConfigError, Transient
from hal9.log.clock import Clock
from hal9.telemetry.families import EPOCH, PHASE, ROLLBACK_READY, TRAFFIC_PERCENTAGE
from hal9.telemetry.logs import logger
from hal9.telemetry.metrics import Metrics
from schemas.base import Tree
from schemas.control import PHASES, AnyControl, Start
from services.orchestrator.core import Append, Hold, Returning, begin, decide
from services.orchestrator.evidence import Evidence
from services.orchestrator.wayback import WayBack, ready_to_return

SERVICE = "orchestrator"

_FIGURES = re.compile(r"[0-9.]+")

_log = logger("orchestrator")


@dataclass(frozen=True, slots=True)
class Ports:
    """What the orchestrator works with."""

    control: ControlState
    append: Callable[[AnyControl], Awaitable[Outcome]]
    evidence: Callable[[], Evidence]
    blind: Callable[[], list[str]]
    """Why the control log or the evidence may be behind, if so."""
    metrics: Metrics
    clock: Clock


class Orchestrator:
    """One instance; `run` until cancelled."""

    def __init__(self, instance: str, first: Plan | None, partitions: int, ports: Ports) -> None:
        self._me, self._first, self._partitions = instance, first, partitions
        self._control, self._ports = ports.control, ports
        self._tree: Tree | None = None
        self._plan: Plan | None = None
        self._way: WayBack | None = None
        self._woken = asyncio.Event()
        self.holding: list[str] = []
        metrics = ports.metrics
        self._epoch, self._phase, self._ready = (metrics.gauge(f) for f in (EPOCH, PHASE, ROLLBACK_READY))
        self._intended, self._effective = (
            metrics.gauge(TRAFFIC_PERCENTAGE, kind=kind) for kind in ("intended", "effective")
        )

    def __repr__(self) -> str:
        return f"<Orchestrator {self._me}: {self._control!r}, {'; '.join(self.holding) or 'acting'}>"

    def wake(self) -> None:
        """Something was folded: decide now."""
        self._woken.set()

    async def run(self, every_s: float) -> None:
        """Decide again and again, at least each `every_s` seconds."""
        while True:
            self._woken.clear()
            if not await self.turn():
                try:
                    async with asyncio.timeout(every_s):
                        await self._woken.wait()
                except TimeoutError:
                    continue

    async def turn(self) -> bool:
        """One decision; whether something was written and the next one should follow at once."""
        self._measure()
        blind = self._ports.blind()
        if blind:
            self._hold(blind)
            return False
        if self._control.plan is None and self._first is not None:
            return await self._write(self._begin(self._first), f"plan {self._first.name}, as set")
        now_ms = self._ports.clock.now_ms()
        holding: list[str] = []
        for action in decide(self._control, self._walked(), self._ports.evidence(), now_ms, self._me):
            match action:
                case Append(record, why):
                    return await self._write(record, why)
                case Hold(why):
                    holding.append(why)
                case Returning(way):
                    holding.append(self._returning(way, now_ms))
        self._hold(holding)
        return False

    def _begin(self, plan: Plan) -> Start:
        return begin(self._control, plan, self._partitions, self._ports.clock.now_ms(), self._me)

    def _walked(self) -> Plan | None:
        """The plan of the start; None if there is none that this version walks."""
        tree = self._control.plan
        if tree is not self._tree:
            self._tree, self._plan = tree, None
            if tree is not None:
                try:
                    plan = from_tree(tree, "of the start")
                    plan.refuse_unsupported()
                    self._plan = plan
                except ConfigError as error:
                    _log.error("plan_refused", reason=str(error))
        return self._plan

    async def _write(self, record: AnyControl, why: str) -> bool:
        kind = type(record).__name__.lower()
        try:
            outcome = await self._ports.append(record)
        except Transient as error:
            # Whether it was written will show when the log is read; the same decision has the same id.
            _log.warning("record_not_confirmed", type=kind, id=record.id, reason=str(error))
            return False
        _log.info(
            "record_written",
            type=kind,
            id=record.id,
            verdict=outcome.verdict,
            epoch=outcome.epoch,
            why=why,
            refused=outcome.reason,
        )
        self.holding = []
        return outcome.verdict == "accepted"

    def _hold(self, why: list[str]) -> None:
        if _shape(why) != _shape(self.holding):
            _log.info("holding", why="; ".join(why))
        self.holding = why

    def _returning(self, way: WayBack, now_ms: int) -> str:
        """Report the way back, each stage once."""
        before, self._way = self._way, way
        after_ms = now_ms - self._rolled_back_ms(way.epoch)
        known = before is not None and before.epoch == way.epoch
        if not known:
            _log.warning("rollback_accepted", epoch=way.epoch, after_ms=after_ms)
        if way.acknowledged and not (known and before is not None and before.acknowledged):
            _log.warning("rollback_acknowledged", epoch=way.epoch, after_ms=after_ms)
        if way.safe and not (known and before is not None and before.safe):
            _log.warning("rollback_safe", epoch=way.epoch, after_ms=after_ms)
        return str(way)

    def _rolled_back_ms(self, epoch: int) -> int:
        record = self._control.history[epoch].record
        return record.at_ms if record is not None else 0

    def _measure(self) -> None:
        state, now_ms = self._control, self._ports.clock.now_ms()
        self._epoch.set(state.epoch)
        self._phase.set(PHASES.index(state.phase) + 1 if state.phase is not None else 0)
        self._intended.set(state.route.percentage)
        self._effective.set(effective(state, state.partitions or 0))
        self._ready.set(ready_to_return(state, self._ports.evidence(), now_ms))


def _shape(why: list[str]) -> str:
    """What is said apart from the figures: a wait is one decision, however its count goes on."""
    return _FIGURES.sub("#", "; ".join(why))
