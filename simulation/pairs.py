"""Pairs of events: which disturbance a run let follow which, soon enough that the first is not over.

Counted on the scripts that the worlds keep, so it costs next to nothing. An action that turned out impossible counts
too: a script does not say so, and the director picks from what is possible. What follows the last fault is left out.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from hal9.keys import partition_of
from schemas.base import SYSTEMS
from simulation.applied import MUTATING, ODD
from simulation.cast import SERVICES
from simulation.director import Action
from simulation.history import STATE_LOGS

SOON = 40
"""How many actions the second event comes after the first at most: some twenty steps of one partition's services."""
LEAP_MS = 100
"""A clock that goes on by so much leaps: many a timer passes at once."""
SHOWN = 30
"""So many of the rarest pairs are told."""
LISTED = 12
"""So many of those that never followed an event are told."""
Pair = tuple[str, str]
STARTED = "assign migrator"

OF_A_SERVICE = ("crash", "cut", "resume", "lose_producer", "stop", "rebalance")
"""Verbs that are an event of their own for each service."""
EVENTS: tuple[str, ...] = (
    *(f"{verb} {service}" for verb in OF_A_SERVICE for service in SERVICES),
    *(f"force {system}" for system in SYSTEMS),
    *(f"ask {kind}" for kind in (*sorted({*MUTATING}), ODD, "read", "bad", "short", "anonymous", "misplaced")),
    "repeat",
    *(f"route {percentage}" for percentage in (0, 50, 100)),
    "rollback",
    "rollback_layer",
    "pin",
    *(f"flag {name}" for name in ("enabled", "held", "pins", "prefixes", "reads")),
    "trip",
    "oblivion",
    "leap",
    "night",
    "ack unknown",
    STARTED,
    *(f"{verb} {log}" for verb in ("compact", "clean") for log in STATE_LOGS),
    "projector",
    "end_projector",
    "arrive",
    "forget",
    *(f"project {fate}" for fate in ("lost", "late", "never")),
)
"""Every event that there is: what schedules are made of, but for the everyday (to land, to take in, to commit)."""
_KNOWN = frozenset(EVENTS)


def event(action: Action, partitions: int) -> str | None:
    """The event that an action is; None for the everyday."""
    named = _named(action, partitions)
    return named if named in _KNOWN else None


def _named(action: Action, partitions: int) -> str:
    verb, first, last = str(action[0]), str(action[1]) if len(action) > 1 else "", action[-1]
    match verb:
        case "rebalance" | "assign" | "compact" | "clean":
            named = f"{verb} {first}"
        case "ask":
            named = f"{verb} {_kind(action, partitions)}"
        case "route":
            named = f"{verb} {float(first):.0f}"
        case "flag":
            named = f"{verb} {first.partition('=')[0].partition('.')[0]}"
        case "project":
            named = f"{verb} {last!s}"
        case "tick":
            named = f"force {last!s}" if first.startswith("migrator") else ""
        case "clock":
            named = "leap" if int(first) >= LEAP_MS else ""
        case "ack":
            named = "ack unknown" if last else ""
        case _:
            named = f"{verb} {first.rpartition('-')[0]}" if verb in OF_A_SERVICE else verb
    return named


def _kind(action: Action, partitions: int) -> str:
    """What is most special about a request."""
    _, _, key, partition, operation, short, bad, anonymous = action
    if bad:
        return "bad"
    if isinstance(key, bytes) and partition != partition_of(key, partitions):
        return "misplaced"
    if short is not None:
        return "short"
    return "anonymous" if anonymous else str(operation)


def events(script: Iterable[Action], partitions: int) -> Iterator[tuple[int, str]]:
    """The events of a script with their places in it, until all faults end."""
    for place, action in enumerate(script):
        if action[0] == "calm":
            return
        found = event(action, partitions)
        if found is not None:
            yield place, found


def pairs(script: Iterable[Action], partitions: int, soon: int = SOON) -> set[Pair]:
    """The ordered pairs of events of which the second came within `soon` actions of the first."""
    found: set[Pair] = set()
    recent: list[tuple[int, str]] = []
    for place, second in events(script, partitions):
        recent = [(at, first) for at, first in recent if place - at <= soon]
        found.update((first, second) for _, first in recent)
        recent.append((place, second))
    return found


def _impossible(first: str, second: str) -> bool:
    """The migrators are started once, and nothing befalls them before."""
    return second == STARTED and (first == STARTED or first.startswith("force ") or first.endswith(" migrator"))


def told(seen: Counter[Pair], names: Sequence[str] = EVENTS) -> list[str]:
    """How many pairs schedules had, the rarest, and those that none had, by their first event."""
    possible = [(first, second) for first in names for second in names if not _impossible(first, second)]
    rarest = sorted((pair for pair in possible if seen[pair]), key=lambda pair: (seen[pair], pair))
    lines = [f"pairs of events within {SOON} actions: {len(rarest)} of {len(possible)} seen"]
    lines += ["the rarest, with the number of schedules:"] if rarest else []
    lines += [f"  {seen[first, second]:6d}  {first}, {second}" for first, second in rarest[:SHOWN]]
    for first in names:
        missing = [second for at, second in possible if at == first and not seen[first, second]]
        if len(missing) == len(names):
            lines.append(f"never {first}, then anything")
        elif missing:
            more = f" and {len(missing) - LISTED} others" if len(missing) > LISTED else ""
            lines.append(f"never {first}, then: {', '.join(missing[:LISTED])}{more}")
    return lines
