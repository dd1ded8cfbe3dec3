"""The course of the demo: when the migration starts, when the fault strikes, when the traffic may stop. Pure."""

from dataclasses import dataclass
from enum import Enum

from msgspec.structs import replace

from hal9.control.plan import Plan
from hal9.control.reducer import ControlState
from hal9.demo.report import Ending, Fault


class Stage(Enum):
    """Where the run is."""

    WARMING = "traffic flows, everything at flat"
    MOVING = "the migration runs"
    STRUCK = "the fault has struck: waiting for the rollback"
    RETURNING = "rolled back: waiting until it is safe"
    RESTING = "a few more seconds of traffic"
    OVER = "the traffic stops"


class Act(Enum):
    """What the run does now."""

    START = "start"
    STRIKE = "strike"
    STOP = "stop"


@dataclass(frozen=True, slots=True)
class Times:
    """In seconds of traffic, all from its beginning but `rest_s`."""

    start_s: float
    strike_by_s: float
    """The fault strikes when the last step has passed its gates, so that the guardian alone is left to see it; or, when
    time runs out, from here on as soon as hierarchical owns anything."""
    rest_s: float
    limit_s: float
    """What has not happened by then does not happen."""

    @staticmethod
    def of(seconds: float) -> "Times":
        """For a run of about so many seconds of traffic."""
        return Times(start_s=2.0, strike_by_s=seconds, rest_s=4.0, limit_s=seconds + 45.0)


def fitted(plan: Plan, seconds: float) -> Plan:
    """The plan with soak times such that its last step is reached in time for the fault."""
    steps = len(plan.walk())
    # A step takes two seconds and more beside its soak: backfill, route, hand-over, and panes that have closed.
    soak_s = max(1.0, 0.7 * seconds / steps - 2.5)
    phases = [replace(part, gates=replace(part.gates, soak_s=soak_s)) for part in plan.phases]
    return replace(plan, phases=phases)


class Scenario:
    """Asked again and again with what is known, says what to do; each act once.

    Args:
        fault: what strikes.
        partitions: how many there are to settle.
        times: when.
    """

    def __init__(self, fault: Fault, partitions: int, times: Times) -> None:
        self.fault, self._partitions, self._times = fault, partitions, times
        self.stage = Stage.WARMING
        self.late = False
        """Whether the limit ended it."""
        self._rest_from_s = 0.0

    def __repr__(self) -> str:
        return f"<Scenario {self.fault}: {self.stage.name}>"

    def next(self, state: ControlState, elapsed_s: float) -> Act | None:
        """What to do, `elapsed_s` after the traffic began."""
        if self.stage is Stage.OVER:
            return None
        if elapsed_s >= self._times.limit_s:
            self.late, self.stage = True, Stage.OVER
            return Act.STOP
        return self._next(state, elapsed_s)

    def _next(self, state: ControlState, elapsed_s: float) -> Act | None:
        if self.stage is Stage.RESTING:
            if elapsed_s >= self._rest_from_s + self._times.rest_s:
                self.stage = Stage.OVER
                return Act.STOP
        elif state.rolled_back is not None:
            self.stage = Stage.RETURNING
            if state.settled_everywhere(state.rolled_back, self._partitions):
                self._rest(elapsed_s)
        elif self.stage is Stage.WARMING:
            if elapsed_s >= self._times.start_s:
                self.stage = Stage.MOVING
                return Act.START
        elif self.stage is Stage.MOVING:
            return self._moving(state, elapsed_s)
        return None

    def _moving(self, state: ControlState, elapsed_s: float) -> Act | None:
        if self.fault == "none":
            if finished(state):
                self._rest(elapsed_s)
            return None
        owns = state.route.bound > 0 and state.settled_everywhere(state.epoch, self._partitions)
        if owns and (finished(state) or elapsed_s >= self._times.strike_by_s):
            self.stage = Stage.STRUCK
            return Act.STRIKE
        return None

    def _rest(self, elapsed_s: float) -> None:
        self.stage, self._rest_from_s = Stage.RESTING, elapsed_s


def finished(state: ControlState) -> bool:
    """Whether every step of the plan has passed."""
    walk = state.journal[state.started_entry :]
    return bool(walk) and walk[-1].state == "finished"


def ending(state: ControlState, partitions: int, *, broken: bool) -> Ending:
    """How the run ended; `broken`: something died that should not have."""
    if broken:
        return "failed"
    if state.rolled_back is not None:
        return "rolled_back" if state.settled_everywhere(state.rolled_back, partitions) else "failed"
    if state.frozen is not None:
        return "frozen"
    return "promoted" if finished(state) else "failed"
