"""What a commit may pass: nothing that a successor, which begins there, would have needed.

Everything is judged from the logs, when a commit is stored: each record between the last commit and this one must have
led to what its reader owes for it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from hal9 import wire
from hal9.control.route import Spans
from hal9.keys import bucket_of
from hal9.log.effects import Commit
from hal9.testing.memory import Name, Stored
from schemas.base import FLAT, SYSTEMS, System, decode, other
from schemas.state import marker_decoder
from simulation.history import CHANGES, REPLICA, RESPONSES, STATE_LOGS, Violation

if TYPE_CHECKING:
    from simulation.asked import Position
    from simulation.counting import Counting
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
    fallback: bool = False
    aligned: bool = False
    landed: int = 0
    """How many records had landed anywhere before it."""
    at_ms: int = 0


@dataclass(frozen=True, slots=True)
class Case:
    """A record that a commit passes."""

    witness: "Witness"
    partition: int
    log: str
    record: Stored
    kind: str
    commit: Commit
    now_ms: int


@dataclass(slots=True)
class Passed:
    """What has landed, as far as commits are judged by it."""

    counting: "Counting"
    records: dict[Name, list[tuple[Stored, str]]] = field(default_factory=dict)
    """Those that somebody commits past, with what they are: `data`, `marker` or `seal`."""
    dispatched: dict["Position", Dispatch] = field(default_factory=dict)
    """Newest per position."""
    first: dict["Position", int] = field(default_factory=dict)
    """Where each position was dispatched first."""
    first_ms: dict["Position", int] = field(default_factory=dict)
    """And when."""
    beside: dict[tuple[System, "Position", int | None], int] = field(default_factory=dict)
    """Where a read was first dispatched to a system that is not its owner: in this epoch, or (None) as a fallback."""
    fallbacks: dict["Position", tuple[Name, int]] = field(default_factory=dict)
    """Where a read was last answered as a fallback."""
    responded: set[tuple[System, "Position"]] = field(default_factory=set)
    response_landed: dict[tuple[str, int, int], int] = field(default_factory=dict)
    """Per response (log, partition, offset): how many records had landed anywhere before it."""
    newest: dict[Name, dict[bytes, tuple[int, int]]] = field(default_factory=dict)
    """Per state log and key the newest valid version in it, and where it was appended last."""
    moves: dict[int, list[tuple[int, Spans]]] = field(default_factory=dict)
    """Per partition the epochs of the valid markers, each with the epochs in which buckets last moved."""
    copied: dict[tuple[str, bytes], int] = field(default_factory=dict)
    """Per replica log and key the newest version in it."""
    _checked: dict[tuple[str, Name], int] = field(default_factory=dict)
    _landed: int = 0

    def landed(self, name: Name, record: Stored, kind: str) -> None:
        """A record was stored."""
        log, partition = name
        self._landed += 1
        if kind in ("void", "claim"):
            return
        self.records.setdefault(name, []).append((record, kind))
        if kind == "marker":
            marker = decode(marker_decoder, record.value)
            self.moves.setdefault(partition, []).append((marker.route.epoch, Spans.of(marker.moved)))
        if kind != "data":
            return
        if log == "dispatched":
            self._dispatched(_dispatch(record, self.counting, self._landed))
        elif log in RESPONSES.values():
            found = wire.parse_position(wire.header(record.headers, wire.POSITION))
            position = None if found is None else self.counting.place(*found)
            if position is not None and wire.text(record.headers, wire.ROLE) in ("primary", "fallback"):
                self.responded.add((NAMED[log], position))
                self.response_landed[log, partition, record.offset] = self._landed
                if (wire.text(record.headers, wire.ROLE), wire.text(record.headers, wire.STATUS)) == ("fallback", "ok"):
                    self.fallbacks[position] = name, record.offset
        elif log in STATE_LOGS:
            self._changed(name, record)

    def _changed(self, name: Name, record: Stored) -> None:
        log, partition = name
        key, version = record.key or b"", wire.number(record.headers, wire.VERSION) or 0
        held = self.newest.setdefault(name, {})
        if version >= held.get(key, (0, 0))[0]:
            held[key] = version, record.offset
        if log in REPLICA.values():
            place = (f"{log}/{partition}", key)
            self.copied[place] = max(self.copied.get(place, 0), version)

    def _dispatched(self, found: Dispatch) -> None:
        self.first.setdefault(found.position, found.offset)
        self.first_ms.setdefault(found.position, found.at_ms)
        if found.primary is not None and (found.fallback or found.aligned):
            epoch = None if found.fallback else found.epoch
            self.beside.setdefault((found.primary, found.position, epoch), found.offset)
        before = self.dispatched.get(found.position)
        if found.fallback and before is not None and before.epoch >= found.epoch:
            return  # beside the dispatch to the owner, which its router goes on waiting for
        self.dispatched[found.position] = found

    def moved_after(self, dispatch: Dispatch, salt: str) -> int | None:
        """The first epoch after a dispatch in which its key moved, whatever its layer."""
        bucket, text = bucket_of(salt, dispatch.key), dispatch.key.decode("utf-8", "replace")
        for epoch, moved in self.moves.get(dispatch.position[0], ()):
            if epoch > dispatch.epoch and moved.newest_at(bucket, text) == epoch:
                return epoch
        return None

    def reads_again(self, service: str, name: Name, offset: int) -> bool:
        """Whether a successor reads a record of a log of responses."""
        return offset >= self._checked.get((service, name), 0)

    def made_anew(self) -> None:
        """The requests went with their topic."""
        for name in [name for name in self.records if name[0] == "requests"]:
            del self.records[name]
        self._checked = {(service, name): at for (service, name), at in self._checked.items() if name[0] != "requests"}

    def check(
        self, witness: "Witness", service: str, partition: int, commits: Mapping[str, Commit], now_ms: int
    ) -> None:
        """Every record that a commit passes for the first time has been dealt with. Raises `Violation`."""
        for log, commit in commits.items():
            if log == "requests" and not self.counting.is_of(commit.metadata):
                continue
            name = (log, partition)
            records = self.records.get(name, [])
            at = self._checked.get((service, name), 0)
            while at < len(records) and records[at][0].offset < commit.offset:
                record, kind = records[at]
                judge = _JUDGES.get((service, log))
                if judge is not None and not judge(Case(witness, partition, log, record, kind, commit, now_ms)):
                    raise Violation(
                        "committed past what a successor needs", f"{service} commits {log} {commit.offset}: {record}"
                    )
                at += 1
            self._checked[service, name] = at


def _dispatch(record: Stored, counting: "Counting", landed: int = 0) -> Dispatch:
    primary = wire.text(record.headers, wire.PRIMARY)
    position = counting.place(*(wire.parse_position(wire.header(record.headers, wire.POSITION)) or (-1, -1)))
    epoch = wire.number(record.headers, wire.EPOCH) or 0
    fallback, aligned = (wire.header(record.headers, name) == b"1" for name in (wire.FALLBACK, wire.ALIGNED))
    system = NAMED[primary] if primary else None
    key = record.key or b""
    return Dispatch(record.offset, position, epoch, system, key, fallback, aligned, landed, record.timestamp)


def _request(case: Case) -> bool:
    """It, or a repeat of it, is dispatched or answered, or was moved to another partition."""
    asked = case.witness.positions[case.partition, case.witness.counting.number(case.record.offset)]
    if asked.answers:
        return True
    return any(at in case.witness.passed.dispatched or at[0] != case.partition for at in asked.positions)


def _dispatched(case: Case) -> bool:
    """It is answered, or was dispatched again where the successor reads."""
    if case.kind != "data":
        return True
    found = _dispatch(case.record, case.witness.counting)
    newest = case.witness.passed.dispatched[found.position]
    return newest.offset >= case.commit.offset or bool(case.witness.positions[found.position].answers)


def _response(case: Case) -> bool:
    """It is forwarded, if it is the one that its request waits for; past the deadline nobody waits."""
    record, witness = case.record, case.witness
    found = wire.parse_position(wire.header(record.headers, wire.POSITION)) or (-1, -1)
    position = witness.counting.place(*found)
    newest = witness.passed.dispatched.get(position)
    if newest is None or not _is_owners(newest, case):
        return True
    if wire.header(record.headers, wire.ALIGNED) is not None and not newest.aligned:
        return True  # the owner, which it is by now, owes another one
    if witness.passed.response_landed.get((case.log, case.partition, record.offset), 0) < newest.landed:
        return True  # what was dispatched again since gets a response of its own
    answered = witness.passed.fallbacks.get(position)
    if answered is not None and witness.passed.reads_again("router", *answered):
        return True  # its answer was another one, which is forwarded yet
    moved = witness.passed.moved_after(newest, witness.salt)
    if moved is not None and moved in witness.control.settled.get(case.partition, ()):
        return True  # it is dispatched again, whoever goes on with it
    asked = witness.positions[position]
    return bool(asked.answers) or (asked.due_ms <= case.now_ms)


def _is_owners(newest: Dispatch, case: Case) -> bool:
    """Whether a response is of the owner that was asked last."""
    headers = case.record.headers
    asked = newest.primary == NAMED[case.log] and newest.epoch == wire.number(headers, wire.EPOCH)
    return asked and wire.text(headers, wire.ROLE) == "primary"


def _executed(case: Case, system: System) -> bool:
    """A request of this system has its response, unless a seal voids it; a marker has its seal."""
    validity = case.witness.validity(CHANGES[system], case.partition)
    if case.kind == "marker":
        return any(case.record.key == wire.MARKER + wire.decimal(epoch) for epoch in validity.seals)
    found = _dispatch(case.record, case.witness.counting)
    if found.aligned or (found.fallback and (wire.number(case.record.headers, wire.DEADLINE) or 0) <= case.now_ms):
        return True  # its router asks the owner; nobody waits any more
    if found.primary != system or (system, found.position) in case.witness.passed.responded:
        return True
    return any(validity.sealed(found.epoch, found.key, layer) for layer in (None, *validity.lost.layers))


def _copied(case: Case, system: System) -> bool:
    """A change is in the replica in this version or a newer one, unless it is cold; a seal is there too."""
    replica, key = REPLICA[other(system)], case.record.key or b""
    if case.kind == "seal":
        epoch = int(key.removeprefix(wire.SEAL).partition(b"/")[0])
        return epoch in case.witness.validity(replica, case.partition).seals
    version = wire.number(case.record.headers, wire.VERSION) or 0
    if case.kind == "floor":
        return case.witness.validity(replica, case.partition).floor >= version
    if system == FLAT and case.record.offset < int(case.commit.metadata.partition(";")[0]):
        return True
    if case.witness.passed.copied.get((f"{replica}/{case.partition}", key), 0) >= version:
        return True
    # Compaction took it since: a successor finds a newer one instead.
    left = case.witness.passed.newest.get((CHANGES[system], case.partition), {}).get(key, (0, 0))
    return left[0] > version and left[1] >= case.commit.offset


def _settled(case: Case) -> bool:
    """A marker has settled."""
    settled = case.witness.control.settled.get(case.partition, {})
    return case.kind != "marker" or any(case.record.key == wire.MARKER + wire.decimal(epoch) for epoch in settled)


Judge = Callable[[Case], bool]
_JUDGES: Mapping[tuple[str, str], Judge] = {
    ("router", "requests"): _request,
    ("router", "dispatched"): _dispatched,
    **{("router", RESPONSES[system]): _response for system in SYSTEMS},
    **{(system, "dispatched"): partial(_executed, system=system) for system in SYSTEMS},
    **{("migrator", CHANGES[system]): partial(_copied, system=system) for system in SYSTEMS},
    ("migrator", "dispatched"): _settled,
}
