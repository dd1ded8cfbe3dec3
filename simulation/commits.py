"""What a commit may pass: nothing that a successor, which begins there, would have needed (DESIGN section 7).

Everything is judged from the logs, when a commit is stored: each record between the last commit and this one must have
led to what its reader owes for it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from hal9 import wire
from hal9.log.effects import Commit
from hal9.testing.memory import Name, Stored
from schemas.base import SYSTEMS, System, other
from simulation.history import CHANGES, REPLICA, RESPONSES, Violation

if TYPE_CHECKING:
    from simulation.asked import Position
    from simulation.witness import Witness

NAMED: Mapping[str, System] = {name: system for system in SYSTEMS for name in (system, RESPONSES[system])}


@dataclass(frozen=True, slots=True)
class Dispatch:
    """A record of `dispatched` that counts; `primary` None: a rejection."""

    offset: int
    position: "Position"
    epoch: int
    primary: System | None
    key: bytes


@dataclass(slots=True)
class Passed:
    """What has landed, as far as commits are judged by it."""

    records: dict[Name, list[tuple[Stored, str]]] = field(default_factory=dict)
    """Those that somebody commits past, with what they are: `data`, `marker` or `seal`."""
    dispatched: dict["Position", Dispatch] = field(default_factory=dict)
    """Newest per position."""
    responded: set[tuple[System, "Position"]] = field(default_factory=set)
    copied: dict[tuple[str, bytes], int] = field(default_factory=dict)
    """Per replica log and key the newest version in it."""
    _checked: dict[tuple[str, Name], int] = field(default_factory=dict)

    def landed(self, name: Name, record: Stored, kind: str) -> None:
        """A record was stored."""
        log, partition = name
        if kind in ("void", "claim"):
            return
        self.records.setdefault(name, []).append((record, kind))
        if kind != "data":
            return
        if log == "dispatched":
            found = _dispatch(record)
            self.dispatched[found.position] = found
        elif log in RESPONSES.values():
            position = wire.parse_position(wire.header(record.headers, wire.POSITION))
            if position is not None and wire.text(record.headers, wire.ROLE) == "primary":
                self.responded.add((NAMED[log], position))
        elif log in REPLICA.values():
            place = (f"{log}/{partition}", record.key or b"")
            version = wire.number(record.headers, wire.VERSION) or 0
            self.copied[place] = max(self.copied.get(place, 0), version)

    def check(self, witness: "Witness", service: str, partition: int, commits: Mapping[str, Commit]) -> None:
        """Every record that a commit passes for the first time has been dealt with. Raises `Violation`."""
        for log, commit in commits.items():
            name = (log, partition)
            records = self.records.get(name, [])
            at = self._checked.get((service, name), 0)
            while at < len(records) and records[at][0].offset < commit.offset:
                record, kind = records[at]
                judge = _JUDGES.get((service, log))
                if judge is not None and not judge(witness, partition, log, record, kind, commit):
                    raise Violation(
                        "committed past what a successor needs", f"{service} commits {log} {commit.offset}: {record}"
                    )
                at += 1
            self._checked[service, name] = at


def _dispatch(record: Stored) -> Dispatch:
    primary = wire.text(record.headers, wire.PRIMARY)
    position = wire.parse_position(wire.header(record.headers, wire.POSITION)) or (-1, -1)
    epoch = wire.number(record.headers, wire.EPOCH) or 0
    return Dispatch(record.offset, position, epoch, NAMED[primary] if primary else None, record.key or b"")


def _request(witness: "Witness", partition: int, _log: str, record: Stored, _kind: str, _commit: Commit) -> bool:
    """It, or a repeat of it, is dispatched or answered, or was moved to another partition."""
    asked = witness.positions[partition, record.offset]
    if asked.answers:
        return True
    return any(at in witness.passed.dispatched or at[0] != partition for at in asked.positions)


def _dispatched(witness: "Witness", _partition: int, _log: str, record: Stored, kind: str, commit: Commit) -> bool:
    """It is answered, or was dispatched again where the successor reads."""
    if kind != "data":
        return True
    found = _dispatch(record)
    newest = witness.passed.dispatched[found.position]
    return newest.offset >= commit.offset or bool(witness.positions[found.position].answers)


def _response(witness: "Witness", _partition: int, log: str, record: Stored, _kind: str, _commit: Commit) -> bool:
    """It is forwarded, if it is the one that its request waits for."""
    position = wire.parse_position(wire.header(record.headers, wire.POSITION)) or (-1, -1)
    newest = witness.passed.dispatched.get(position)
    if wire.text(record.headers, wire.ROLE) != "primary" or newest is None:
        return True
    waited_for = newest.primary == NAMED[log] and newest.epoch == wire.number(record.headers, wire.EPOCH)
    return not waited_for or bool(witness.positions[position].answers)


def _executed(system: System) -> "Judge":
    def judge(witness: "Witness", partition: int, _log: str, record: Stored, kind: str, _commit: Commit) -> bool:
        """A request of this system has its response, unless a seal voids it; a marker has its seal."""
        validity = witness.validity(CHANGES[system], partition)
        if kind == "marker":
            return any(record.key == wire.MARKER + wire.decimal(epoch) for epoch in validity.seals)
        found = _dispatch(record)
        if found.primary != system or (system, found.position) in witness.passed.responded:
            return True
        return validity.sealed(found.epoch, found.key)

    return judge


def _copied(system: System) -> "Judge":
    def judge(witness: "Witness", partition: int, _log: str, record: Stored, kind: str, commit: Commit) -> bool:
        """A change is in the replica in this version or a newer one, unless it is cold; a seal is there too."""
        replica = REPLICA[other(system)]
        if kind == "seal":
            epoch = int((record.key or b"").removeprefix(wire.SEAL).partition(b"/")[0])
            return epoch in witness.validity(replica, partition).seals
        if system == "flat" and record.offset < int(commit.metadata.partition(";")[0]):
            return True
        version = wire.number(record.headers, wire.VERSION) or 0
        return witness.passed.copied.get((f"{replica}/{partition}", record.key or b""), 0) >= version

    return judge


def _settled(witness: "Witness", partition: int, _log: str, record: Stored, kind: str, _commit: Commit) -> bool:
    """A marker has settled."""
    settled = witness.control.settled.get(partition, {})
    return kind != "marker" or any(record.key == wire.MARKER + wire.decimal(epoch) for epoch in settled)


Judge = Callable[["Witness", int, str, Stored, str, Commit], bool]
_JUDGES: Mapping[tuple[str, str], Judge] = {
    ("router", "requests"): _request,
    ("router", "dispatched"): _dispatched,
    **{("router", RESPONSES[system]): _response for system in SYSTEMS},
    **{(system, "dispatched"): _executed(system) for system in SYSTEMS},
    **{("migrator", CHANGES[system]): _copied(system) for system in SYSTEMS},
    ("migrator", "dispatched"): _settled,
}
