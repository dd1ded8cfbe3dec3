"""Fetches for any number of cursors, beside any consumer group, over connections of its own.

Why not a consumer: pausing one throws fetched records away, one unreadable record stops it for ever, an error in one
partition loses what it took from another, and how long it waits is not to be set. Here a cursor gets each record from
its start on once, in order; what is unreadable is reported and passed over.

Each broker has two lanes, each a connection with one request under way: the steady lane, which waits at the broker
until something is written, and the prompt lane, for ranges known to exist and for a cursor that becomes due while the
steady lane waits without it. That one asks again every 20 ms, so when nothing else is written the steady lane takes it
along.
"""

import asyncio
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from aiokafka import TopicPartition
from aiokafka.client import AIOKafkaClient
from aiokafka.errors import CorruptRecordException, KafkaError, OffsetOutOfRangeError, for_code

from hal9.connection import kafka_options
from hal9.errors import Hal9Error, Transient, Unreachable
from hal9.log.batches import Damaged, split
from hal9.log.connections import open_connections
from hal9.log.cursor import Cursor
from hal9.log.effects import EARLIEST, LATEST
from hal9.log.fetch_request import FetchRequest
from hal9.log.log_ends import await_topics, list_offsets
from hal9.log.patience import RESPONSE_BYTES, Patience
from hal9.log.supervision import unbroken
from hal9.log.topic_ids import DELETED, topic_ids
from hal9.settings.sections import Kafka
from hal9.telemetry.logs import logger

PROMPT_WAIT_MS = 20
_PAUSE_S = 0.1
_SCOUT_S = 0.5

_log = logger("log.fetching")


class LogReplaced(Hal9Error):
    """A position lies beyond the end of its log: records were lost, or the topic was made anew."""


@dataclass(slots=True, eq=False)
class _Lane:
    node: int
    prompt: bool
    wake: asyncio.Event = field(default_factory=asyncio.Event)
    landed: asyncio.Event = field(default_factory=asyncio.Event)
    flying: int = 0
    """For how many cursors a fetch is under way."""
    error: str | None = None

    def __post_init__(self) -> None:
        self.landed.set()


class Fetching:
    """Serves cursors until cancelled; `on_data(cursor)` says that a cursor has moved.

    What is unreadable is told to `on_damaged`; without that it comes in its place among the records, as `Damaged`.
    With `slice_ms` what follows a log gets its records gathered over so long, instead of each at once.
    """

    def __init__(
        self,
        kafka: Kafka,
        on_data: Callable[[Cursor], None],
        on_damaged: Callable[[Cursor, Damaged], None] | None,
        *,
        slice_ms: int = 0,
    ) -> None:
        self._kafka, self._on_data, self._on_damaged = kafka, on_data, on_damaged
        self._client: Any = AIOKafkaClient(**kafka_options(kafka))
        self._cursors: dict[Cursor, None] = {}
        self._lanes: dict[tuple[int, bool], _Lane] = {}
        self._group: asyncio.TaskGroup | None = None
        self._patience = Patience(slice_ms)

    def __repr__(self) -> str:
        flying = [f"{'prompt' if lane.prompt else 'steady'} {lane.flying}" for lane in self._lanes.values()]
        return f"<Fetching {len(self._cursors)} cursors, under way: {', '.join(flying) or 'none'}>"

    async def start(self) -> None:
        """Connect; raises Unreachable when no broker answers within the deadline of a request."""
        try:
            async with asyncio.timeout(self._kafka.request_timeout_ms / 1000):
                await unbroken(self._client.bootstrap())
        except (KafkaError, OSError) as error:
            raise Unreachable(f"Kafka at {self._kafka.bootstrap}: {error}") from error

    async def close(self) -> None:
        """Close the connections."""
        await self._client.close()

    def open(self, cursor: Cursor) -> Cursor:
        """Serve a cursor from now on."""
        if self._on_damaged is not None:
            cursor.on_damaged = partial(self._on_damaged, cursor)
        self._cursors[cursor] = None
        self._client.add_topic(cursor.topic).add_done_callback(lambda _: self.poke())
        self.poke()
        return cursor

    def drop(self, cursor: Cursor) -> None:
        """Serve it no more; what comes for it still is thrown away."""
        cursor.closed, cursor.on_damaged = True, None
        self._cursors.pop(cursor, None)

    def poke(self) -> None:
        """Cursors may have become due."""
        if self._group is None or not any(cursor.due() for cursor in self._cursors):
            return
        for broker in self._client.cluster.brokers():
            if (broker.nodeId, False) not in self._lanes:
                for prompt in (False, True):
                    lane = self._lanes[broker.nodeId, prompt] = _Lane(broker.nodeId, prompt)
                    self._group.create_task(self._serve(lane))
        for lane in self._lanes.values():
            lane.wake.set()

    def trouble(self) -> list[str]:
        """Brokers whose last fetch failed, and how."""
        return [f"fetching from broker {lane.node}: {lane.error}" for lane in self._lanes.values() if lane.error]

    @property
    def connections(self) -> int:
        """Open connections."""
        return open_connections(self._client)

    async def run(self) -> None:
        """Fetch until cancelled; raises LogReplaced."""
        try:
            async with asyncio.TaskGroup() as self._group:
                self.poke()
                self._group.create_task(self._scout())
        except ExceptionGroup as errors:
            raise errors.exceptions[0] from errors
        finally:
            self._group = None
            self._lanes.clear()

    async def _scout(self) -> None:
        """Find the leaders of partitions that have none that is known."""
        while True:
            await asyncio.sleep(_SCOUT_S)
            if any(self._leader(cursor) is None for cursor in self._cursors):
                await self._client.force_metadata_update()
            self.poke()

    def _leader(self, cursor: Cursor) -> int | None:
        node = self._client.cluster.leader_for_partition(cursor.at)
        return node if node is not None and node >= 0 else None

    # ------------------------------------------------------------------ lanes
    async def _serve(self, lane: _Lane) -> None:
        while True:
            lane.wake.clear()
            cursors = self._due(lane)
            if not cursors:
                lane.error = None  # what failed was asked by the other lane since, or is not wanted any more
                await lane.wake.wait()
                continue
            for cursor in cursors.values():
                cursor.flying = True
            lane.flying = len(cursors)
            lane.landed.clear()
            try:
                pause = await self._fetch(lane, cursors)
            finally:
                lane.flying = 0
                lane.landed.set()
                for cursor in cursors.values():
                    cursor.flying = False
            if pause:
                await asyncio.sleep(_PAUSE_S)
            elif not lane.prompt and not self._patience.busy and not any(cursor.moved() for cursor in cursors.values()):
                # It waited in vain: what the prompt lane asks for again and again may land, and be due here.
                await self._lanes[lane.node, True].landed.wait()

    def _due(self, lane: _Lane) -> dict[tuple[str, int], Cursor]:
        """By partition; a second cursor of one partition waits its turn."""
        everything = lane.prompt and self._lanes[lane.node, False].flying
        chosen: dict[tuple[str, int], Cursor] = {}
        for cursor in self._cursors:
            ranged = cursor.end is not None
            if ranged != lane.prompt and not everything:
                continue
            if cursor.due() and self._leader(cursor) == lane.node:
                chosen.setdefault((cursor.topic, cursor.partition), cursor)
        return chosen

    async def _fetch(self, lane: _Lane, cursors: dict[tuple[str, int], Cursor]) -> bool:
        """One request; True if something went wrong that a pause may cure."""
        offsets: dict[str, list[tuple[int, int]]] = {}
        for cursor in cursors.values():
            offsets.setdefault(cursor.topic, []).append((cursor.partition, cursor.offset))
        wait_ms, bytes_wanted = (PROMPT_WAIT_MS, 1) if lane.prompt else self._patience.terms(time.monotonic())
        request = FetchRequest(wait_ms, bytes_wanted, RESPONSE_BYTES, offsets)
        try:
            answers = await self._client.send(lane.node, request, group="prompt" if lane.prompt else "steady")
        except (KafkaError, OSError) as error:
            if lane.error is None:
                _log.warning("fetch_failed", broker=lane.node, error=repr(error))
            lane.error = repr(error)
            self._client.force_metadata_update()
            return True
        wrong: str | None = None
        for topic, partition, code, highwater, data in answers:
            if code or data:
                cursor = cursors.get((topic, partition)) or next(iter(cursors.values()))
                wrong = await self._landed(cursor, code, highwater, data) or wrong
            else:
                cursors[topic, partition].highwater = highwater
        if wrong and lane.error is None:
            _log.warning("fetch_refused", broker=lane.node, error=wrong)
        lane.error = wrong
        return wrong is not None

    async def _landed(self, cursor: Cursor, code: int, highwater: int, data: memoryview) -> str | None:
        """Hand one partition's answer to its cursor; what went wrong, if anything did."""
        if cursor.closed:
            return None
        if code in DELETED and cursor.doubt():
            self._client.force_metadata_update()
            return None
        if code == OffsetOutOfRangeError.errno:
            return await self._out_of_range(cursor)
        if code:
            self._client.force_metadata_update()
            return f"{cursor.topic}-{cursor.partition}: {for_code(code).__name__}"
        try:
            batches = split(bytes(data), cursor.offset)  # a copy: what waits must not keep the whole answer in memory
        except CorruptRecordException as error:
            return f"{cursor.topic}-{cursor.partition}: {error}"
        cursor.landed(batches, highwater)
        self._patience.came(sum([batch.left for batch in batches]))
        if cursor.moved():
            # Who was served goes to the end of the line: a broker fills an answer in the order of the question.
            del self._cursors[cursor]
            self._cursors[cursor] = None
            self._on_data(cursor)
        return None

    async def _out_of_range(self, cursor: Cursor) -> str | None:
        at = cursor.at
        try:
            start = (await list_offsets(self._client, [at], EARLIEST))[at]
            end = (await list_offsets(self._client, [at], LATEST))[at]
        except (KafkaError, OSError) as error:
            return f"{cursor.topic}-{cursor.partition}: {error!r}"
        if cursor.offset > end:
            raise LogReplaced(
                f"position {cursor.offset} of {at.topic}-{at.partition} lies beyond its end, {end}: "
                "records were lost, or the topic was made anew (then the group's positions must go too)"
            )
        _log.info("records_expired", topic=at.topic, partition=at.partition, before=cursor.offset, start=start)
        cursor.skip_to(start)
        self._on_data(cursor)
        return None

    # ------------------------------------------------------------------ topics and ends
    async def topic_ids(self, topics: Iterable[str]) -> dict[str, str]:
        """Name -> id of those that exist; raises Transient."""
        try:
            async with asyncio.timeout(self._kafka.request_timeout_ms / 1000):
                return await topic_ids(self._client, list(topics))
        except (KafkaError, OSError, TimeoutError) as error:
            raise Transient(f"the ids of topics are not to be had: {error!r}") from error

    async def ends(self, partitions: Iterable[TopicPartition], *, at: int = LATEST) -> dict[TopicPartition, int]:
        """The end (or EARLIEST: the start) of each partition.

        Raises:
            Transient: no answer within the deadline of a request.
            TopicMissing: the brokers know no such topic.
        """
        wanted = list(partitions)
        reason: BaseException | None = None
        try:
            async with asyncio.timeout(self._kafka.request_timeout_ms / 1000):
                while True:
                    try:
                        await await_topics(self._client, {partition.topic for partition in wanted})
                        return await list_offsets(self._client, wanted, at)
                    except KafkaError as error:
                        reason = error
                    await self._client.force_metadata_update()
                    await asyncio.sleep(_PAUSE_S)
        except TimeoutError as error:
            raise Transient(f"the ends of {len(wanted)} partitions are not to be had: {reason!r}") from error
