"""Whether everything adds up at the end: each learnt request once, in the owner's state, bit for bit. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

from hal9.demo.trail import Position, Trail

SHOWN = 3
"""Examples named in a finding; the count says the rest."""


@dataclass(frozen=True, slots=True)
class Taught:
    """One `learn` request, and how it was answered."""

    id: str
    key: str
    value: bytes
    status: str


@dataclass(frozen=True, slots=True)
class Learning:
    """The `learn` requests that must be in the stores.

    Attributes:
        due: their keys and values, in the order of their positions.
        findings: what does not add up between answers and logs, in words.
    """

    due: list[tuple[str, bytes]]
    findings: list[str]


def learning(taught: Sequence[Taught], trail: Trail) -> Learning:
    """Which of what was taught must have had its effect: answered ok, or timed out and held by the change logs."""
    due: list[tuple[Position, Taught]] = []
    lost, unasked, ghosts = [], [], []
    for one in taught:
        position = trail.positions.get((one.key, one.id))
        held = position is not None and position in trail.applied
        if one.status == "ok":
            if position is None:
                unasked.append(one)
                continue
            if not held:
                lost.append(one)
            due.append((position, one))
        elif held and position is not None:
            if one.status == "timeout":
                due.append((position, one))
            else:
                ghosts.append(one)
    findings = [
        *_finding("learn requests were answered ok and are not in `dispatched`", unasked),
        *_finding("learn requests were answered ok and are in no change log", lost),
        *_finding("learn requests were answered error or rejected, and changed state all the same", ghosts),
    ]
    if trail.unreadable:
        findings.append(f"{trail.unreadable} records of the logs cannot be read")
    due.sort(key=lambda entry: entry[0])
    return Learning([(one.key, one.value) for _, one in due], findings)


def _finding(what: str, found: Sequence[Taught]) -> list[str]:
    return [f"{len(found)} {what}: {listed([f'{one.key} (id {one.id})' for one in found])}"] if found else []


def listed(names: Sequence[str]) -> str:
    """The first few of them."""
    return ", ".join(names[:SHOWN]) + (", ..." if len(names) > SHOWN else "")
