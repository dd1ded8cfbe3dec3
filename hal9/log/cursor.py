"""How far one reader has come in one partition, and what was fetched for it and not taken yet. Pure."""

from collections.abc import Callable

from aiokafka import TopicPartition

from hal9.log.batches import Piece
from hal9.log.effects import Record

ENOUGH = 1_000
"""Records fetched and not taken above which no more are fetched: fetching overlaps the work, memory is bounded."""

_UNKNOWN = -1


def always() -> bool:
    """The `wanted` of a reader that is never held up."""
    return True


class Cursor:
    """A reader of one partition, from `start` on, up to `end` if that is given.

    Attributes:
        offset: the next one to be fetched.
        position: the next one to be taken.
        highwater: end of the log when it was last seen, -1 before.
        flying: a fetch is under way.
    """

    __slots__ = (
        "at",
        "closed",
        "end",
        "flying",
        "highwater",
        "offset",
        "partition",
        "position",
        "records",
        "topic",
        "wanted",
    )

    def __init__(
        self,
        topic: str,
        partition: int,
        start: int,
        *,
        end: int | None = None,
        wanted: Callable[[], bool] = always,
    ) -> None:
        self.topic, self.partition, self.wanted = topic, partition, wanted
        self.at = TopicPartition(topic, partition)
        self.offset = self.position = start
        self.end = end
        self.highwater = _UNKNOWN
        self.records: list[Record] = []
        self.flying = self.closed = False

    def __repr__(self) -> str:
        bound = "" if self.end is None else f" of {self.end}"
        return f"<Cursor {self.topic}-{self.partition} at {self.position}{bound}, {len(self.records)} fetched>"

    def done(self) -> bool:
        """Everything up to `end` was taken."""
        return self.end is not None and self.position >= self.end

    def moved(self) -> bool:
        """Something was fetched and not taken: records, or only the news that there are none."""
        return self.position < self.offset

    @property
    def lag(self) -> int:
        """Records between what was taken and the end of the log as last seen (compaction may have taken some)."""
        return max(0, self.highwater - self.position)

    def due(self) -> bool:
        """Whether to fetch for it now."""
        if self.flying or self.closed or len(self.records) >= ENOUGH:
            return False
        return (self.end is None or self.offset < self.end) and self.wanted()

    def landed(self, piece: Piece, highwater: int) -> None:
        """A fetch from `offset` on came back."""
        self.highwater = highwater
        records = piece.records
        if self.end is not None and piece.next_offset > self.end:
            records = [record for record in records if record.offset < self.end]
        self.records += records
        self.offset = piece.next_offset

    def seen(self, end: int) -> None:
        """The log ends at `end`, by another question than a fetch."""
        self.highwater = max(self.highwater, end)

    def take(self, limit: int) -> list[Record]:
        """Up to `limit` of the fetched records; `position` moves behind them."""
        if len(self.records) <= limit:
            taken, self.records = self.records, []
            self.position = self.offset if self.end is None else min(self.offset, max(self.end, self.position))
            return taken
        taken, self.records = self.records[:limit], self.records[limit:]
        self.position = taken[-1].offset + 1
        return taken

    def skip_to(self, start: int) -> None:
        """The log begins at `start` now: what was before it is gone."""
        self.offset = max(self.offset, start)
