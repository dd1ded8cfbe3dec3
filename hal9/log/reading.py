"""Reading beside any consumer group: a bounded range, or from a position on for as long as somebody listens.

For whoever only looks: the client, the command line, the projector, the followers of `control` and `status`. Records
come in the order of their partition, each once. What cannot be read is logged and passed over, or comes as `Damaged`.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterable, Mapping
from types import TracebackType
from typing import NamedTuple, Self

from aiokafka import TopicPartition

from hal9.errors import Transient
from hal9.log.batches import Damaged
from hal9.log.cursor import Cursor
from hal9.log.effects import EARLIEST, LATEST, Record
from hal9.log.fetching import Fetching
from hal9.settings.sections import Kafka
from hal9.telemetry.logs import logger

CHUNK = 500
"""Records handed over at once."""

_log = logger("log.reading")


class Followed(NamedTuple):
    """Records of one partition, and the position after them (which may move without any: they were unreadable)."""

    at: TopicPartition
    records: list[Record]
    position: int


class Reader:
    """Connections to read with; an async context manager. Any number of ranges and followings at a time.

    With `damaged`, unreadable records come in their place, as `hal9.log.batches.Damaged`.
    """

    def __init__(self, kafka: Kafka, *, damaged: bool = False, slice_ms: int = 0) -> None:
        on_damaged = None if damaged else self._damaged
        self._fetching = Fetching(kafka, self._moved, on_damaged, slice_ms=slice_ms)
        self._events: dict[Cursor, asyncio.Event] = {}
        self._running: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        """Connects; raises Unreachable."""
        try:
            await self._fetching.start()
        except BaseException:
            await self._fetching.close()
            raise
        self._running = asyncio.create_task(self._fetching.run())
        self._running.add_done_callback(self._over)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Disconnects."""
        try:
            if self._running is not None:
                self._running.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await self._running
        finally:
            await self._fetching.close()

    def trouble(self) -> list[str]:
        """Why nothing may be coming, if so."""
        return self._fetching.trouble()

    async def ends(self, partitions: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
        """The end of each partition: the offset after its last record. Raises Transient."""
        return await self._fetching.ends(partitions)

    async def since(self, partitions: Iterable[TopicPartition], at_ms: int) -> dict[TopicPartition, int]:
        """The first offset of each partition whose record is not older than `at_ms`; its end if there is none.

        Raises Transient.
        """
        wanted = list(partitions)
        # The ends first: what is written between the questions must not be passed over.
        ends, found = await self._fetching.ends(wanted), await self._fetching.ends(wanted, at=max(0, at_ms))
        return {at: offset if offset >= 0 else ends[at] for at, offset in found.items()}

    async def range(
        self, topic: str, partition: int, start: int, end: int, *, deadline_s: float
    ) -> AsyncIterator[list[Record]]:
        """The records start <= offset < end, in chunks (`start` may be EARLIEST, `end` LATEST: the end as it is now).

        Raises:
            Transient: not all of it was read within `deadline_s`.
        """
        at = TopicPartition(topic, partition)
        until_s = asyncio.get_running_loop().time() + deadline_s
        last = (await self.ends([at]))[at] if end == LATEST else end
        cursor = Cursor(topic, partition, max(start, 0), end=last)
        event = self._open(cursor, asyncio.Event())
        try:
            while not cursor.done():
                try:
                    async with asyncio.timeout_at(until_s):
                        await self._wait(event)
                except TimeoutError as error:
                    raise Transient(f"{cursor!r} did not get there within {deadline_s:g} s") from error
                if records := cursor.take(CHUNK):
                    yield records
                if cursor.moved():
                    event.set()
        finally:
            self._close(cursor)

    async def follow(self, starts: Mapping[TopicPartition, int]) -> AsyncIterator[Followed]:
        """Records from each start on (or EARLIEST, LATEST: from the end as it is now), in chunks, without end.

        *Now* is when the first chunk is asked for: who must not miss what is written in between asks `ends` first.
        """
        latest = [at for at, start in starts.items() if start == LATEST]
        ends = await self.ends(latest) if latest else {}
        event = asyncio.Event()
        cursors: dict[TopicPartition, Cursor] = {}
        try:
            for at, start in starts.items():
                cursor = cursors[at] = Cursor(at.topic, at.partition, max(ends.get(at, start), 0))
                self._open(cursor, event)
            while True:
                await self._wait(event)
                for at, cursor in cursors.items():
                    if cursor.moved():
                        records = cursor.take(CHUNK)
                        yield Followed(at, records, cursor.position)
                    if cursor.moved():
                        event.set()
                self._fetching.poke()
        finally:
            for cursor in cursors.values():
                self._close(cursor)

    def _open(self, cursor: Cursor, event: asyncio.Event) -> asyncio.Event:
        self._events[cursor] = event
        self._fetching.open(cursor)
        return event

    def _close(self, cursor: Cursor) -> None:
        self._fetching.drop(cursor)
        self._events.pop(cursor, None)

    async def _wait(self, event: asyncio.Event) -> None:
        await event.wait()
        event.clear()
        if self._running is None or self._running.done():
            if self._running is not None and not self._running.cancelled():
                self._running.result()
            raise Transient("the reader is closed")

    def _over(self, _: asyncio.Task[None]) -> None:
        for event in self._events.values():
            event.set()

    def _moved(self, cursor: Cursor) -> None:
        event = self._events.get(cursor)
        if event is not None:
            event.set()

    def _damaged(self, cursor: Cursor, damaged: Damaged) -> None:
        _log.warning(
            "record_unreadable",
            topic=cursor.topic,
            partition=cursor.partition,
            offset=damaged.offset,
            detail=damaged.detail,
        )


async def read_range(
    kafka: Kafka, topic: str, partition: int = 0, start: int = EARLIEST, end: int = LATEST, *, deadline_s: float = 30.0
) -> list[Record]:
    """All records start <= offset < end of one partition, over connections of its own; see `Reader.range`."""
    async with Reader(kafka) as reader:
        chunks = reader.range(topic, partition, start, end, deadline_s=deadline_s)
        return [record async for chunk in chunks for record in chunk]
