"""What the guardian knows of the log of outcomes: the panes, how far it has read, for how long nothing new came. Pure.

A checkpoint says from which offset the panes can be built again, so it stays small and is never wrong: the log is.
"""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct

from hal9.errors import Poison
from hal9.stats.panes import Arrival, Panes
from schemas.base import Count, decode
from schemas.telemetry import outcome_decoder

PROMPT_MS = 1_000
"""A healthy broker says where a log ends within milliseconds."""

Read = Arrival | Literal["seen", "foreign"]
"""`seen`: read before. `foreign`: another migration's."""


class Checkpoint(Struct, frozen=True, kw_only=True):
    """A position in `outcomes`."""

    next_offset: Annotated[Count, Meta(description="everything before it was read")]
    replay_from: Annotated[Count, Meta(description="lowest offset of an outcome that the panes hold")]


checkpoint_decoder = msgspec.msgpack.Decoder(Checkpoint)


class Watch:
    """The panes and positions of one incarnation; starts at `next_offset`, which was never read."""

    def __init__(self, migration: str, panes: Panes, next_offset: int, now_ms: int) -> None:
        self.panes = panes
        self._key = migration.encode()
        self.next_offset = next_offset
        self._first_offset: dict[int, int] = {}
        self._quiet_from_ms = self._quiet_to_ms = self._progress_ms = now_ms

    def __repr__(self) -> str:
        return f"<Watch next {self.next_offset}, quiet {self.quiet_ms} ms, {self.panes!r}>"

    def feed(self, offset: int, key: bytes | None, value: bytes | None, now_ms: int) -> Read:
        """Read one record. Poison if it is no outcome; it counts as read all the same."""
        if offset < self.next_offset:
            return "seen"
        self.passed(offset + 1, now_ms)
        if key is not None and key != self._key:
            return "foreign"
        outcome = decode(outcome_decoder, value)
        arrival = self.panes.add(outcome, now_ms)
        if arrival == "future":
            raise Poison("future-outcome", f"{outcome.router} reports {outcome.at_ms}, at {now_ms}")
        if arrival in ("merged", "late"):
            self._quiet_from_ms = self._quiet_to_ms = now_ms
            self._first_offset.setdefault(outcome.at_ms // 1000, offset)
        return arrival

    def passed(self, next_offset: int, now_ms: int) -> None:
        """Everything before `next_offset` was read, or cannot be."""
        self.next_offset = max(self.next_offset, next_offset)
        self._progress_ms = now_ms

    def ended(self, end: int | None, asked_ms: int, now_ms: int) -> None:
        """Asked at `asked_ms`, the log was said to end before offset `end`; None: that could not be found out.

        A log that does not answer at once takes no records either: what it held meanwhile is no silence of routers.
        """
        if end is None or now_ms - asked_ms > PROMPT_MS:
            self._quiet_from_ms = self._quiet_to_ms = self._progress_ms = now_ms
        elif end <= self.next_offset:
            self._quiet_to_ms = self._progress_ms = now_ms

    @property
    def quiet_ms(self) -> int:
        """For how long the log was seen to hold no outcome that was not read."""
        return self._quiet_to_ms - self._quiet_from_ms

    def idle_ms(self, now_ms: int) -> int:
        """How long ago the last outcome came."""
        return now_ms - self._quiet_from_ms

    def stalled_ms(self, now_ms: int) -> int:
        """For how long nothing was read although there is something to read."""
        return now_ms - self._progress_ms

    def checkpoint(self) -> Checkpoint:
        """Where a successor starts to read."""
        oldest_s = self.panes.oldest_s
        for second in [s for s in self._first_offset if s < oldest_s]:
            del self._first_offset[second]
        replay_from = min(self._first_offset.values(), default=self.next_offset)
        return Checkpoint(next_offset=self.next_offset, replay_from=replay_from)
