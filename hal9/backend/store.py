"""What a system holds of one partition in memory: newest state per key, answers by position. Pure.

A view of two logs: it can be rebuilt from them at any time.
"""

from collections import deque
from collections.abc import Callable
from typing import Any, get_args

import msgspec
from msgspec import Struct

from hal9 import wire
from hal9.log.effects import Record
from schemas.base import decode, encode
from schemas.state import Envelope, Layer, envelope_decoder

LAYERS = frozenset(get_args(Layer))

State = dict[str, Any]
_ENVELOPE_BYTES = 64
KEPT_BYTES = 32 * 1024 * 1024
"""Of answers kept, per partition. The oldest go first: their positions are answered `timeout` if they come again."""
_KEPT_BYTES = 500
"""What keeping one takes beside its answer, about."""


class Held(Struct, eq=False, gc=False):
    """One version of the state of a key.

    `sequence` is the number of the own change that made it (0: read from a log), `offset` where that lies in the own
    change log (None: not there, or not read back yet); `own` says that it came from the own change log; `unmapped`
    that there is a state, which the other system holds and which could not be mapped to one of this system. `shared`:
    records of the key lie, or lay, in both logs of this system; `agreed`: so does this deletion; `forgotten`: it is a
    null value in one of them. `follows`: the version that it was made on, if not the one before.
    """

    version: int
    state: State | None
    position: int
    epoch: int
    sequence: int = 0
    offset: int | None = None
    own: bool = False
    unmapped: bool = False
    layer: str | None = None
    """The layer that the key is owned by: the first one that it was seen in, until its deletion is forgotten."""
    shared: bool = False
    agreed: bool = False
    forgotten: bool = False
    follows: int | None = None

    @property
    def made_on(self) -> int:
        """The version of the state that it was made on; 0 if there was none."""
        return max(self.version - 1, 0) if self.follows is None else self.follows

    @property
    def absent(self) -> bool:
        """Whether the key has no state, at neither system."""
        return self.state is None and not self.unmapped

    def bare(self) -> "Held":
        """The same without the state: what is kept for every position must not keep every old state alive."""
        bare = Held(self.version, None, self.position, self.epoch, self.sequence, self.offset, self.own)
        bare.follows = self.follows
        return bare


NOTHING = Held(0, None, -1, 0)


class Kept(Struct, eq=False, gc=False):
    """The answer to a position, and which version it made (without its state)."""

    status: str
    error: str | None
    answer: bytes | None
    held: Held
    at_ms: float


def read_change(record: Record) -> tuple[wire.Change, Envelope]:
    """One state record; Poison if it is none. A null value is a deletion whose answer is no longer needed."""
    change = wire.parse_change(record)
    return change, Envelope() if record.value is None else decode(envelope_decoder, record.value)


def envelope(state: State | None, answer: bytes | None) -> bytes:
    """The value of a state record; TypeError or OverflowError if the state is no msgpack tree."""
    return encode(Envelope(state=state, answer=answer))


def too_large(value: bytes, answer: bytes | None, limit: int) -> bool:
    """Whether the state in an encoded envelope has more than `limit` bytes (the envelope's own few apart)."""
    return len(value) > limit + len(answer or b"") + _ENVELOPE_BYTES


class Store:
    """Newest version per key over both logs, and the answers of the last `answers_ms` within `kept_bytes`."""

    def __init__(
        self,
        answers_ms: float,
        layer_of: Callable[[object], str | None] = lambda _: None,
        kept_bytes: int = KEPT_BYTES,
    ) -> None:
        self._answers_ms, self._left, self.layer_of = answers_ms, kept_bytes, layer_of
        self.states: dict[bytes, Held] = {}
        self.floor = 0
        """Greatest version that a key may have had which the logs know no more: its deletion was forgotten."""
        self.kept: dict[int, Kept] = {}
        self._kept_order: deque[tuple[float, int]] = deque()

    def held(self, key: bytes) -> Held:
        """The newest version of a key; version 0 if there is none."""
        return self.states.get(key, NOTHING)

    def next_version(self, held: Held) -> int:
        """The version after this one: what has no state may have had more versions than anybody here remembers."""
        return (max(held.version, self.floor) if held.absent else held.version) + 1

    def keep(self, position: int, kept: Kept) -> None:
        """Remember the answer to a position; the first one stays."""
        if position not in self.kept:
            self.kept[position] = kept
            self._left -= _KEPT_BYTES + len(kept.answer or b"")
            self._kept_order.append((kept.at_ms, position))

    def located(self, held: Held, offset: int) -> None:
        """A version was read (back) in the own change log at `offset`."""
        held.offset = offset
        kept = self.kept.get(held.position)
        if kept is not None and kept.held.version == held.version:
            kept.held.offset = offset

    def learn(self, key: bytes, change: wire.Change, found: Envelope, at_ms: float, now_ms: float) -> Held:
        """A valid record of one of the logs: newest state and answer. Returns the version that it carries."""
        before = self.states.get(key, NOTHING)
        position = before.position if change.position is None else change.position
        unmapped = change.unmapped is not None
        held = Held(change.version, found.state, position, change.epoch, unmapped=unmapped, follows=change.follows)
        named = change.layer or self.layer_of(found.state)
        if change.version > before.version:
            # A life that begins after a deletion is of the layer that the log names: the deletion may be forgotten.
            begins = before.absent and not held.absent
            held.layer = named if begins and before.version else before.layer or named
            self.states[key] = held
        elif key in self.states:
            before.layer = held.layer = before.layer or named
        if change.position is not None and change.answer_status is not None and at_ms > now_ms - self._answers_ms:
            kept = Kept(change.answer_status, change.answer_error, found.answer, held.bare(), at_ms)
            self.keep(change.position, kept)
        return held

    def expire(self, now_ms: float) -> None:
        """Forget answers nobody can ask for any more, and the oldest beyond what may be kept."""
        oldest = now_ms - self._answers_ms
        while self._kept_order and (self._kept_order[0][0] <= oldest or self._left < 0):
            kept = self.kept.pop(self._kept_order.popleft()[1], None)
            if kept is not None:
                self._left += _KEPT_BYTES + len(kept.answer or b"")


def layer_of_unit(state: object) -> Layer | None:
    """The cognitive layer that a unit names; None if it is no unit, or of no such layer."""
    layer: Any = state.get("layer") if isinstance(state, dict) else None
    return layer if layer in LAYERS else None


EncodeError = (TypeError, OverflowError, ValueError, RecursionError, msgspec.MsgspecError)
"""What encoding a state that is no msgpack tree raises."""
