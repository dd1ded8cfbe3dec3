"""What the logs of a partition say happened: changes, stores, markers."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from hal9 import wire
from hal9.errors import Hal9Error
from hal9.log.validity import Validity
from hal9.testing.memory import MemoryLogs, Stored
from schemas.base import System, Tree, decode
from schemas.state import envelope_decoder

CHANGES: Mapping[System, str] = {"flat": "neurons.changes", "hierarchical": "units.changes"}
REPLICA: Mapping[System, str] = {"flat": "neurons.replica", "hierarchical": "units.replica"}
RESPONSES: Mapping[System, str] = {"flat": "responses.flat", "hierarchical": "responses.hierarchical"}
STATE_LOGS = (*CHANGES.values(), *REPLICA.values())


class Violation(Hal9Error):
    """The logs, or a live core, contradict what docs/hand-over.md promises.

    Attributes:
        promise: the one that was broken, in words that are the same whatever the details.
    """

    def __init__(self, promise: str, detail: object = "") -> None:
        super().__init__(f"{promise}: {detail}" if detail else promise)
        self.promise = promise


@dataclass(frozen=True, slots=True)
class Change:
    """One record of a change log that counts."""

    log: str
    offset: int
    key: bytes
    header: wire.Change
    state: Tree | None
    answer: bytes | None
    unused: bool = False
    """It stands for a version that nobody made: a later life of a key begins above the floor."""

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
