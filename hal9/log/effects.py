"""What goes in and out of a partition core: records in, sends out, positions to commit.

A *core* is pure: it owns one partition for one incarnation, is fed records, time and the folded control state, and
leaves its effects in attributes that a runtime drains. The same cores run on Kafka (`hal9.log.runtime`) and in memory
(`hal9.testing`).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, Protocol

from msgspec import Struct

if TYPE_CHECKING:
    from hal9.backend.handler import Item, Outcome
    from hal9.control.reducer import ControlState
    from schemas.state import ArchitectureLayer

Headers = Sequence[tuple[str, bytes]]

EARLIEST = -2
LATEST = -1


class Record(Protocol):
    """One record as read; aiokafka's ConsumerRecord is one."""

    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Headers


class Send(Struct, eq=False, gc=False):
    """One record to append; once confirmed, the runtime hands it back as the record read (offset filled in).

    `log` is a topic name without prefix; `partition` is None for the core's own. `token` is what the sender keeps
    with it; it must not lead back to the send, for the garbage collector does not visit sends.
    """

    log: str
    key: bytes | None
    value: bytes | None
    headers: Headers
    token: object = None
    partition: int | None = None
    offset: int = -1
    timestamp: int = -1

    def __repr__(self) -> str:
        return f"Send({self.log}[{self.offset}] {self.key!r} {dict(self.headers)})"


@dataclass(frozen=True, slots=True)
class Commit:
    """A position of one log and the small restore data that rides with it (text, below 4,096 bytes)."""

    offset: int
    metadata: str = ""


class Tracer(Protocol):
    """One span per hop of a sampled request; the header value is W3C `traceparent`."""

    def begin(self, name: str, parent: bytes | None, attributes: Mapping[str, str]) -> tuple[object, bytes | None]:
        """Start a span under `parent`; its handle, and the header for the next hop."""
        ...

    def end(self, span: object, status: str) -> None:
        """End a span that `begin` started."""
        ...


class NoTracer:
    """Passes the header on and records nothing."""

    def begin(
        self,
        name: str,  # noqa: ARG002  the protocol's name
        parent: bytes | None,
        attributes: Mapping[str, str],  # noqa: ARG002  the protocol's name
    ) -> tuple[object, bytes | None]:
        """No span; the same header."""
        return None, parent

    def end(self, span: object, status: str) -> None:
        """Nothing to end."""


@dataclass(frozen=True, slots=True, eq=False)
class Call:
    """Items for a handler that is somewhere else; `then(outcomes, now_ms)`, one outcome each, while the core lives."""

    items: "Sequence[Item]"
    then: "Callable[[Sequence[Outcome], float], None]"
    off: "frozenset[ArchitectureLayer]" = frozenset()
    """Architecture layers that are switched off."""


@dataclass(slots=True)
class Effects:
    """What a core asks of its runtime; the runtime empties it after every call."""

    sends: list[Send] = field(default_factory=list)
    ask_end: list[str] = field(default_factory=list)
    """Logs whose end offset the core wants to know; answered by `PartitionCore.end`."""
    scan: list[tuple[str, int, int]] = field(default_factory=list)
    """(log, from, to): read a range beside the normal position; answered by `PartitionCore.scanned`."""
    rewind: list[str] = field(default_factory=list)
    """Logs, not read yet, that are to be read from their beginning and not from where `start` said."""
    calls: list[Call] = field(default_factory=list)
    """To be answered in any order, at any time, or never if the incarnation ends."""
    notes: list[tuple[str, Mapping[str, object]]] = field(default_factory=list)
    """Decisions to be logged, each an event's name and its fields; never one per request."""
    restart: str | None = None
    """A reason: drop this incarnation and take the partition over again, with new claims."""


class PartitionCore(Protocol):
    """One partition, one incarnation. Calls never block, never raise for what a record holds."""

    reads: ClassVar[tuple[str, ...]]
    """Logs read through the group (same partition number in each)."""
    claimed: ClassVar[tuple[str, ...]]
    """Those of `reads` this core writes under a claim: its own sends come back through `read`, in log order."""
    partition: int
    effects: Effects

    # A core may have a class attribute `identified`, logs whose topic ids it is told by `identify(ids)` before `start`;
    # when one of those topics is deleted and made anew, its incarnation ends and a new one begins.

    def start(self, committed: Mapping[str, Commit], now_ms: float) -> Mapping[str, int]:
        """Begin: the offset (or EARLIEST, LATEST) from which to read each of `reads`."""
        ...

    def wants(self, log: str) -> bool:
        """Whether the core takes records of `log` now (an unclaimed one); the runtime pauses it otherwise."""
        ...

    def read(self, log: str, records: Sequence[Record], now_ms: float) -> None:
        """Records of `log`, in offset order, each exactly once per incarnation (compaction leaves gaps)."""
        ...

    def end(self, log: str, offset: int, now_ms: float) -> None:
        """The end offset of `log` that was asked for: the next one to be written."""
        ...

    def scanned(self, log: str, records: Sequence[Record], next_offset: int, now_ms: float) -> None:
        """A piece of a range asked for by `scan`, ending before `next_offset`."""
        ...

    def acked(self, send: Send, now_ms: float) -> None:
        """A send to an unclaimed log is stored, at `send.offset`."""
        ...

    def control(self, state: "ControlState", now_ms: float) -> None:
        """The folded control log has moved on (also called once after `start`)."""
        ...

    def tick(self, now_ms: float) -> None:
        """Time passes: called at least every 100 ms."""
        ...

    def commits(self) -> Mapping[str, Commit]:
        """What may be committed now."""
        ...

    def idle(self) -> bool:
        """Nothing in flight: a clean stop need not wait for this partition."""
        ...
