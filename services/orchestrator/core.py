"""What the orchestrator does next, from the folded control log, the plan and the evidence. Pure.

Every step is journalled on `control` before it is taken, with compare-and-set on the journal (or on the epoch), so
that whoever reads the log after a crash goes on from there, and of two orchestrators one loses and stands by. A
rollback is legal in every state: once one is accepted nothing is promoted, and only its way is watched.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from hal9.control.plan import Plan, Step
from hal9.control.reducer import ControlState
from schemas.base import Tree
from schemas.control import AnyControl, Backfill, ControlRecord, Journal, Rollback, Route, Start
from services.orchestrator.evidence import Evidence
from services.orchestrator.gates import Judgement, judge
from services.orchestrator.walk import Place, own_route, place, present_epochs, target
from services.orchestrator.wayback import WayBack, way_back

R = TypeVar("R", bound=ControlRecord)


@dataclass(frozen=True, slots=True)
class Append:
    """Write this to `control`, read its verdict, decide again."""

    record: AnyControl
    why: str


@dataclass(frozen=True, slots=True)
class Hold:
    """Nothing to do until something changes; why, for a person."""

    why: str


@dataclass(frozen=True, slots=True)
class Returning:
    """A rollback is on its way, or done."""

    way: WayBack


Action = Append | Hold | Returning


def decide(state: ControlState, plan: Plan | None, evidence: Evidence, now_ms: int, me: str) -> list[Action]:
    """What to do now; `plan` is `state.plan` as read, `me` the instance that decides."""
    back = way_back(state, evidence)
    if back is not None:
        return [Returning(back)]
    if plan is None:
        return [Hold("no migration is started" if state.plan is None else "the plan of the start cannot be walked")]
    at = place(state, plan)
    if at is None:
        return [Hold("the journal does not fit the plan")]
    if at.leader not in (None, me) and evidence.lives(at.leader or "", now_ms):
        return [Hold(f"standing by: {at.leader} walks")]
    return [_Walker(state, plan, evidence, now_ms, me, at).next()]


def begin(state: ControlState, plan: Plan, partitions: int, now_ms: int, me: str) -> Start:
    """The record that starts `plan`; compare-and-set on the epoch."""
    return Start(
        id=f"{me}/start/{state.position}",
        migration=state.migration,
        actor=me,
        at_ms=now_ms,
        expected_epoch=state.epoch,
        partitions=partitions,
        plan=plan.tree(),
    )


@dataclass(frozen=True, slots=True)
class _Walker:
    """One decision of one walk."""

    state: ControlState
    plan: Plan
    evidence: Evidence
    now_ms: int
    me: str
    at: Place

    def next(self) -> Action:
        entry, step = self.at.entry, self.at.step
        if step is None:
            return Hold("the plan is done") if entry is not None else self._finish()
        if entry is None:
            return self._enter(step)
        stages: dict[str, Callable[[Step, Journal], Action]] = {
            "entered": self._backfill,
            "routed": self._route,
            "waiting": self._gate,
            "failed": self._fail,
        }
        return stages[entry.state](step, entry)

    def _enter(self, step: Step) -> Action:
        if self.state.frozen is not None:
            return Hold(f"frozen: {self.state.frozen}")
        missing = self.evidence.missing(self.now_ms)
        if missing:
            return Hold(f"{step}: no heartbeat of {', '.join(missing)}")
        if self._held(step):
            percentage = self.state.route.percentage
            return self._journal(step, "passed", {"skipped": percentage}, f"the route is at {percentage:g} % already")
        return self._journal(step, "entered", {"epoch": self.state.epoch}, "the step before it is done")

    def _held(self, step: Step) -> bool:
        """Whether the route is beyond the step: a walk that begins above 0 % lowers nothing."""
        return step.phase != "shadow" and self.state.route.bound > _bound(step.percentage)

    def _backfill(self, step: Step, _: Journal) -> Action:
        if self.state.backfill < step.percentage:
            return Append(self._stamped(Backfill, percentage=step.percentage), f"{step}: its neurons first")
        partitions = range(self.state.partitions or 0)
        behind = [p for p in partitions if self.evidence.backfilled(p, self.now_ms) < step.percentage]
        if step.percentage > 0 and behind:
            return Hold(f"{step}: {len(behind)} of {len(partitions)} partitions are not backfilled to it")
        if self.state.frozen is not None:
            return Hold(f"frozen: {self.state.frozen}")
        return self._journal(step, "routed", {"epoch": self.state.epoch}, "its neurons are there")

    def _route(self, step: Step, entry: Journal) -> Action:
        if own_route(self.state, step, entry) is None:
            if self.state.frozen is not None:
                return Hold(f"frozen: {self.state.frozen}")
            return Append(self._route_record(step), f"{step}: as journalled")
        return self._changed(step) or self._unsettled(step) or self._settled(step)

    def _route_record(self, step: Step) -> Route:
        return self._stamped(
            Route,
            expected_epoch=self.state.epoch,
            percentage=target(self.state, step),
            shadow=step.shadow,
            phase=step.phase,
            step=step.index,
            reason=f"plan {self.plan.name}: {step}",
        )

    def _settled(self, step: Step) -> Action:
        return self._journal(step, "waiting", {"epoch": self.state.epoch}, "every partition has settled")

    def _gate(self, step: Step, entry: Journal) -> Action:
        changed = self._changed(step)
        if changed is not None:
            return changed
        judgement = self._judge(step, entry)
        if judgement.verdict == "regression":
            return self._journal(step, "failed", judgement.evidence, judgement.said("regression"))
        if self.state.frozen is not None:
            return Hold(f"frozen: {self.state.frozen}")
        if judgement.verdict == "insufficient":
            return Hold(f"{step}: {judgement.said('insufficient')}")
        # A pin has made a new epoch: the step is not left before that one is settled too.
        return self._unsettled(step) or self._journal(step, "passed", judgement.evidence, judgement.said("ok"))

    def _judge(self, step: Step, entry: Journal) -> Judgement:
        epochs, began_ms = present_epochs(self.state), self.at.began_ms or entry.at_ms
        return judge(step, epochs, entry.at_ms, began_ms, self.evidence, self.now_ms)

    def _changed(self, step: Step) -> Hold | None:
        """A reason to wait if somebody else has taken the route elsewhere: it is theirs to take back."""
        if self.state.route.bound == _bound(target(self.state, step)):
            return None
        return Hold(f"{step}: the route was changed to {self.state.route.percentage:g} % by somebody else")

    def _unsettled(self, step: Step) -> Hold | None:
        partitions = range(self.state.partitions or 0)
        behind = [p for p in partitions if max(self.state.settled.get(p, {}), default=-1) < self.state.epoch]
        return Hold(f"{step}: {len(behind)} of {len(partitions)} partitions have not settled") if behind else None

    def _fail(self, step: Step, entry: Journal) -> Action:
        if self.state.route.bound == 0:
            return Hold(f"{step}: failed its gates, nothing was moved")
        record = Rollback(
            id=f"orchestrator/gate/{self.state.epoch}/{self.state.started_entry}",
            migration=self.state.migration,
            actor=self.me,
            at_ms=self.now_ms,
            expected_epoch=self.state.epoch,
            trigger="gate",
            evidence=entry.evidence,
            reason=f"{step}: failed its gates",
        )
        return Append(record, "a gate found a regression")

    def _finish(self) -> Action:
        return self._journal(self.plan.walk()[-1], "finished", {"epoch": self.state.epoch}, "every step has passed")

    def _journal(self, step: Step, entry: str, evidence: Tree, why: str) -> Append:
        record = self._stamped(
            Journal,
            expected_entry=len(self.state.journal),
            phase=step.phase,
            step=step.index,
            state=entry,
            percentage=step.percentage,
            evidence=evidence,
        )
        return Append(record, f"{step}: {why}")

    def _stamped(self, kind: type[R], **fields: Any) -> R:
        # The position of the log names the record: the same decision taken again has the same id, a later one has not.
        name = f"{self.me}/{kind.__name__.lower()}/{self.state.position}"
        return kind(id=name, migration=self.state.migration, actor=self.me, at_ms=self.now_ms, **fields)


def _bound(percentage: float) -> int:
    return round(percentage * 100)
