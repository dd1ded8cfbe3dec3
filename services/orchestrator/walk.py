"""Where a walk stands, read from the journal and the history of the route alone; so a crash forgets nothing. Pure.

A step's entries, each written before what it announces: `entered` (then the backfill), `routed` (then the route),
`waiting` (all partitions have settled; its time starts the soak), `passed` or `failed`. `finished` ends the walk.
"""

from dataclasses import dataclass

from hal9.control.plan import Plan, Step
from hal9.control.reducer import ControlState
from schemas.control import Journal, Pin, Route


@dataclass(frozen=True, slots=True)
class Place:
    """The step in question (None: the plan is done) and its newest entry (None: it is not entered yet)."""

    step: Step | None
    entry: Journal | None
    began_ms: int | None
    """When the walk's first entry was written."""
    leader: str | None
    """Who wrote the newest entry of the walk."""


def place(state: ControlState, plan: Plan) -> Place | None:
    """Where the walk of the present start stands; None if its journal does not fit the plan."""
    entries = state.journal[state.started_entry :]
    steps = plan.walk()
    if not entries:
        return Place(steps[0], None, None, None)
    last = entries[-1]
    began_ms, leader = entries[0].at_ms, last.actor
    if last.state == "finished":
        return Place(None, last, began_ms, leader)
    at = [number for number, step in enumerate(steps) if (step.phase, step.index) == (last.phase, last.step)]
    if not at:
        return None
    if last.state != "passed":
        return Place(steps[at[0]], last, began_ms, leader)
    following = steps[at[0] + 1 :]
    return Place(following[0] if following else None, None, began_ms, leader)


def own_route(state: ControlState, step: Step, routed: Journal) -> int | None:
    """The epoch that the step's own route record made, if it was accepted after the entry that announces it."""
    since = routed.evidence.get("epoch")
    for version in reversed(state.history):
        record = version.record
        if version.epoch <= (since if isinstance(since, int) else 0):
            return None
        if isinstance(record, Route) and (record.phase, record.step) == (step.phase, step.index):
            return version.epoch
    return None


def present_epochs(state: ControlState) -> range:
    """The present epoch and those before it with the same owners: a pin holds a key where it is and moves none."""
    first = state.epoch
    for version in reversed(state.history):
        if not isinstance(version.record, Pin):
            break
        first = version.epoch - 1
    return range(first, state.epoch + 1)


def target(state: ControlState, step: Step) -> float:
    """The percentage a step routes to. A walk that begins above 0 % lowers nothing."""
    return max(step.percentage, state.route.percentage) if step.phase == "shadow" else step.percentage
