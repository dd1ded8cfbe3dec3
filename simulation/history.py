"""What the logs of one partition say happened: the changes that count, in order, per key; answers; stores."""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from hal9 import wire
from hal9.errors import Hal9Error
from hal9.log.validity import Validity
from hal9.testing.memory import MemoryLogs, Stored
from schemas.base import SYSTEMS, System, Tree, decode
from schemas.state import envelope_decoder

CHANGES: Mapping[System, str] = {"flat": "neurons.changes", "hierarchical": "units.changes"}
REPLICA: Mapping[System, str] = {"flat": "neurons.replica", "hierarchical": "units.replica"}
RESPONSES: Mapping[System, str] = {"flat": "responses.flat", "hierarchical": "responses.hierarchical"}


class Violation(Hal9Error):
    """The logs, or a live core, contradict what DESIGN section 7 promises."""


@dataclass(frozen=True, slots=True)
class Change:
    """One record of a change log that counts."""

    log: str
    offset: int
    key: bytes
    header: wire.Change
    state: Tree | None
    answer: bytes | None

    @property
    def position(self) -> int:
        """Position of the request that caused it; -1 if none did."""
        return -1 if self.header.position is None else self.header.position

    def __repr__(self) -> str:
        answer = self.header.answer_status
        return (
            f"v{self.header.version} {self.log}[{self.offset}] {self.key!r} of {self.position}: {self.state} {answer}"
        )


def change_of(log: str, record: Stored) -> Change:
    """A record of a state log that is no mark."""
    header = wire.parse_change(record)
    key = record.key or b""
    if record.value is None:
        return Change(log, record.offset, key, header, None, None)
    envelope = decode(envelope_decoder, record.value)
    return Change(log, record.offset, key, header, envelope.state, envelope.answer)


class Witness:
    """Judges every record of the change logs as it is appended, so that compaction can hide nothing."""

    def __init__(self, salt: str) -> None:
        self._validity = {CHANGES[system]: Validity(system=system, salt=salt) for system in SYSTEMS}
        self.changes: list[Change] = []
        self.voided = 0

    def saw(self, log: str, record: Stored) -> str:
        """Judge a record appended to any log; `data`, `void`, `seal` or `claim` for change logs, else empty."""
        validity = self._validity.get(log)
        if validity is None:
            return ""
        kind = validity.feed(record)
        if kind == "data":
            self.changes.append(change_of(log, record))
        self.voided += kind == "void"
        return kind


def chains(changes: list[Change]) -> dict[bytes, list[Change]]:
    """Per key the versions 1, 2, 3, ...; Violation if two differ, one is missing, or positions do not grow."""
    found: dict[bytes, dict[int, Change]] = defaultdict(dict)
    for change in changes:
        versions = found[change.key]
        first = versions.setdefault(change.header.version, change)
        if first.position != change.position or first.state != change.state:
            raise Violation(f"two changes with one version count: {first} / {change}")
    chains: dict[bytes, list[Change]] = {}
    for key, versions in found.items():
        missing = set(range(1, max(versions) + 1)) - set(versions)
        if missing:
            raise Violation(f"{key!r}: version {min(missing)} is missing")
        chains[key] = [versions[number] for number in sorted(versions)]
        _in_order(chains[key])
    return chains


def _in_order(chain: list[Change]) -> None:
    last = -1
    for change in chain:
        if change.position >= 0 and change.position <= last:
            raise Violation(f"position {change.position} after {last}: {change}")
        last = max(last, change.position)


def store(logs: MemoryLogs, partition: int, system: System, salt: str) -> dict[bytes, Change]:
    """A system's state per key: the greatest version that counts over its change log and its replica log."""
    best: dict[bytes, Change] = {}
    for log, validity in (
        (CHANGES[system], Validity(system=system, salt=salt)),
        (REPLICA[system], Validity(salt=salt)),
    ):
        for record in logs[log, partition]:
            if validity.feed(record) != "data":
                continue
            change = change_of(log, record)
            if change.key not in best or change.header.version > best[change.key].header.version:
                best[change.key] = change
    return best


def markers(logs: MemoryLogs, partition: int) -> Iterator[int]:
    """Epochs of the valid markers."""
    validity = Validity()
    for record in logs["dispatched", partition]:
        if validity.feed(record) == "marker":
            yield validity.epoch
