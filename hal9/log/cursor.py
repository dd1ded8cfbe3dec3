"""How far one reader has come in one partition, and what was fetched for it and not taken yet. Pure."""

from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, Protocol

from aiokafka import TopicPartition

from hal9.log.batches import Damaged
from hal9.log.effects import Record

ENOUGH = 1_000
"""Records fetched and not taken above which no more are fetched: fetching overlaps the work, memory is bounded."""

_UNKNOWN = -1


def always() -> bool:
    """The `wanted` of a reader that is never held up."""
    return True


class Records(Protocol):
    """Some records of one partition; `hal9.log.batches.Batch` is one."""

    @property
    def left(self) -> int:
        """How many there still are, about; 0 only if there are none."""
        ...

    @property
    def next_offset(self) -> int:
        """The offset after them."""
        ...

    @property
    def sound(self) -> bool:
        """Whether nothing unreadable was found among them yet."""
        ...

    def take(self, limit: int) -> list[Any]:
        """Up to `limit` of those left, `Damaged` ones in their places; none only if there are none."""
        ...


class Cursor:
    """A reader of one partition, from `start` on, up to `end` if that is given.

    Attributes:
        offset: the next one to be fetched.
        position: the next one to be taken.
        highwater: end of the log when it was last seen, -1 before.
        flying: a fetch is under way.
        waiting: records that were fetched and not taken, about; exact whenever there are none.
        in_doubt: whether the topic is still the one that it was: nothing is fetched before that is known.
        on_doubt: who finds that out; None: nobody tells topics of one name apart.
        on_damaged: who is told what cannot be read; None: it is taken in its place.
    """

    __slots__ = (
        "_fetched",
        "at",
        "believed",
        "closed",
        "end",
        "flying",
        "highwater",
        "in_doubt",
        "offset",
        "on_damaged",
        "on_doubt",
        "partition",
        "position",
        "topic",
        "waiting",
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
        self._fetched: deque[Records] = deque()
        self.waiting = 0
        self.on_damaged: Callable[[Damaged], None] | None = None
        self.on_doubt: Callable[[], None] | None = None
        self.flying = self.closed = self.in_doubt = self.believed = False

    def __repr__(self) -> str:
        bound = "" if self.end is None else f" of {self.end}"
        return f"<Cursor {self.topic}-{self.partition} at {self.position}{bound}, {self.waiting} fetched>"

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
        if self.flying or self.closed or self.in_doubt or self.waiting >= ENOUGH:
            return False
        return (self.end is None or self.offset < self.end) and self.wanted()

    def landed(self, fetched: Iterable[Records], highwater: int) -> None:
        """A fetch from `offset` on came back."""
        self.highwater, self.believed = highwater, False
        for records in fetched:
            self._fetched.append(records)
            self.waiting += records.left
            self.offset = records.next_offset

    def doubt(self) -> bool:
        """The topic seems to be gone; whether somebody finds out, who has not done so just now."""
        if self.on_doubt is None or self.believed:
            self.believed = False
            return False
        self.in_doubt, self.highwater = True, _UNKNOWN  # so that nobody takes it for one who does not move
        self.on_doubt()
        return True

    def believe(self) -> None:
        """It is the one that it was."""
        self.in_doubt, self.believed = False, self.in_doubt

    def seen(self, end: int) -> None:
        """The log ends at `end`, by another question than a fetch."""
        self.highwater = max(self.highwater, end)

    def take(self, limit: int) -> list[Record]:
        """Up to `limit` of the fetched records; `position` moves behind them."""
        taken: list[Record] = []
        while self._fetched and len(taken) < limit:
            records = self._fetched[0]
            self.waiting -= records.left
            found = records.take(limit - len(taken))
            taken += found if records.sound or self.on_damaged is None else self._sort_out(found, self.on_damaged)
            self.waiting += records.left
            if not records.left:
                self._fetched.popleft()
        if self.end is not None and taken and taken[-1].offset >= self.end:
            taken = [record for record in taken if record.offset < self.end]
            self._fetched.clear()
            self.waiting = 0
        if not self._fetched:
            self.position = self.offset if self.end is None else min(self.offset, max(self.end, self.position))
        elif taken:
            self.position = taken[-1].offset + 1
        return taken

    def _sort_out(self, found: list[Any], tell: Callable[[Damaged], None]) -> list[Any]:
        for record in found:
            if isinstance(record, Damaged) and (self.end is None or record.offset < self.end):
                tell(record)
        return [record for record in found if not isinstance(record, Damaged)]

    def skip_to(self, start: int) -> None:
        """The log begins at `start` now: what was before it is gone."""
        self.offset = max(self.offset, start)
