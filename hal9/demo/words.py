"""Control records in plain words: what the decision log of the screen shows. Pure."""

from hal9.control.reducer import ControlState
from schemas.control import AnyControl, Backfill, Freeze, Journal, Pin, Rollback, SetFlags, Settled, Start
from schemas.control import Route as RouteRecord

_STATES = {
    "entered": "begins",
    "routed": "its neurons are there, the route may change",
    "waiting": "everything is handed over, the gates judge",
    "passed": "passed its gates",
    "failed": "failed its gates",
    "finished": "that was the last step, the plan is done",
}


def share(percentage: float) -> str:
    """A percentage without needless zeros."""
    return f"{percentage:g} %"


def place(record: Journal) -> str:
    """Phase and step of a journal entry."""
    return record.phase if record.phase == "shadow" else f"{record.phase} {share(record.percentage)}"


def said(record: AnyControl, state: ControlState) -> str | None:
    """What an accepted record did; `state` is from after it. None for what is told otherwise (settled)."""
    text: str | None
    match record:
        case Start():
            text = f"migration started by {_who(record.actor)}: plan {record.plan.get('name', '?')}"
        case RouteRecord():
            shadowed = f", {share(record.shadow)} shadowed" if record.shadow else ""
            text = f"epoch {state.epoch}: {share(record.percentage)} to hierarchical{shadowed}"
        case Rollback():
            back = f"of layer {record.scope['layer']}" if record.scope else f"to {share(state.route.percentage)}"
            why = f"{record.trigger}: {record.reason}" if record.reason else record.trigger
            text = f"epoch {state.epoch}: ROLLBACK {back} by {_who(record.actor)}, {why}"
        case Pin():
            text = f"epoch {state.epoch}: {len(record.keys)} neurons pinned where they are ({record.reason})"
        case SetFlags():
            text = f"epoch {state.epoch}: flags set by {_who(record.actor)} ({record.reason or 'no reason given'})"
        case Freeze():
            text = f"frozen by {_who(record.actor)}: {record.reason or record.trigger}"
        case Backfill():
            text = f"backfill of the first {share(record.percentage)} ordered"
        case Journal():
            text = f"{place(record)}: {_STATES[record.state]}"
        case Settled():
            text = None
    return text


def settled(state: ControlState, epoch: int, partitions: int) -> str:
    """That every partition has handed over."""
    forced = sum(1 for p in range(partitions) if any(s.forced for e, s in state.settled[p].items() if e >= epoch))
    by_force = f", in {forced} of them by forced seals" if forced else ""
    return f"epoch {epoch}: settled in all {partitions} partitions{by_force}"


def _who(actor: str) -> str:
    """The service of an instance name (`guardian-1a2b3c4d`), anybody else by the full name."""
    service, dash, unique = actor.rpartition("-")
    return service if dash and len(unique) == 8 else actor  # noqa: PLR2004  as instances are named
