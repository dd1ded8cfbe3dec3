"""Heartbeats on `status`: `Heartbeat` sends this instance's, `StatusFollower` hears everybody's.

A heartbeat that cannot be sent is logged and left out, never queued up; the service goes on. A clean stop sends a last
one that says so.
"""

import asyncio
import uuid
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Self

from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.errors import KafkaError
from msgspec.structs import replace

from hal9.connection import kafka_options
from hal9.errors import Poison, Transient
from hal9.liveness import Liveness
from hal9.log.clock import Clock
from hal9.log.reading import Reader
from hal9.settings.sections import Kafka
from hal9.telemetry.logs import logger
from schemas.base import decode, encode
from schemas.telemetry import Status, status_decoder

EVERY_S = 0.5
SLICE_MS = 250
"""Every instance beats: who listens wakes for what came in so long, not for each. Half of `EVERY_S` is no silence."""
_SEND_S = 2.0
RECALLED = 1_000
"""Heartbeats before now that are looked at: a minute or so."""
RECALL_S = 10.0
_GOODBYE_S = 0.5
"""A process that stops waits no longer than this for a broker that may be gone."""

_log = logger("heartbeat")


def instance_name(service: str) -> str:
    """A new name for one process of a service: `<service>-<8 hexadecimal digits>`."""
    return f"{service}-{uuid.uuid4().hex[:8]}"


class Heartbeat:
    """Sends `make()` to `status` every 500 ms while entered; on a clean exit, once more with `leaving`."""

    def __init__(self, kafka: Kafka, topic: str, make: Callable[[], Status]) -> None:
        self._topic, self._make = topic, make
        # Not idempotent, one ack: a heartbeat repeated or lost does no harm, one that waits for its turn does.
        self._producer = AIOKafkaProducer(**kafka_options(kafka), acks=1)
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        await self._producer.start()
        self._task = asyncio.create_task(self._beat(), name="hal9-heartbeat")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        if kind is None or kind is asyncio.CancelledError:
            await self._send(replace(self._make(), leaving=True), _GOODBYE_S)
        try:
            async with asyncio.timeout(_GOODBYE_S):
                await self._producer.stop()
        except (KafkaError, TimeoutError, OSError) as problem:
            _log.warning("heartbeat_producer_not_closed", reason=repr(problem))

    async def _beat(self) -> None:
        while True:
            await self._send(self._make())
            await asyncio.sleep(EVERY_S)

    async def _send(self, status: Status, deadline_s: float = _SEND_S) -> None:
        try:
            async with asyncio.timeout(deadline_s):
                await self._producer.send_and_wait(self._topic, encode(status), key=status.instance.encode())
        except (KafkaError, TimeoutError, OSError) as problem:
            _log.warning("heartbeat_not_sent", reason=repr(problem))


class StatusFollower:
    """Hears the heartbeats from now on, and recalls some; `liveness` judges them by this process's clock."""

    def __init__(self, kafka: Kafka, topic: str, dead_after_ms: float = 2_000, clock: Clock | None = None) -> None:
        self._at = TopicPartition(topic, 0)
        self._clock = clock or Clock()
        self._reader = Reader(kafka, slice_ms=SLICE_MS)
        self._dead_after_ms = dead_after_ms
        self._connections = AsyncExitStack()
        self._task: asyncio.Task[None] | None = None
        self.liveness = Liveness(self._clock.now_ms(), dead_after_ms)

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as connections:
            await connections.enter_async_context(self._reader)
            try:
                ends = await self._reader.ends([self._at])
            except Transient as error:
                raise Transient(f"topic {self._at.topic} cannot be read: {error}") from error
            self._connections = connections.pop_all()
        self.liveness = Liveness(self._clock.now_ms(), self._dead_after_ms)
        await self._recall(ends[self._at])
        self._task = asyncio.create_task(self._follow(ends), name="hal9-status-follower")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        await self._connections.aclose()

    async def ended(self) -> None:
        """Never returns while it listens; raises what ended it."""
        if self._task is not None:
            await asyncio.shield(self._task)

    def trouble(self) -> list[str]:
        """Why heartbeats may not be heard, if so."""
        if self._task is not None and self._task.done() and not self._task.cancelled():
            return [f"heartbeats are no longer heard: {self._task.exception()!r}"]
        return self._reader.trouble()

    async def _recall(self, end: int) -> None:
        """The last heartbeats before now: a system that died lately declared what is read-only."""
        heard: list[Status] = []
        start = max(0, end - RECALLED)
        async for records in self._reader.range(self._at.topic, 0, start, end, deadline_s=RECALL_S):
            heard += [status for record in records if (status := self._read(record.value, record.offset)) is not None]
        self.liveness.recall(heard)

    async def _follow(self, ends: Mapping[TopicPartition, int]) -> None:
        async for chunk in self._reader.follow(ends):
            for record in chunk.records:
                self._hear(record.value, record.offset)

    def _hear(self, value: bytes | None, offset: int) -> None:
        status = self._read(value, offset)
        if status is not None:
            self.liveness.fold(status, self._clock.now_ms())

    def _read(self, value: bytes | None, offset: int) -> Status | None:
        if value is None:
            return None
        try:
            return decode(status_decoder, value)
        except Poison as error:
            _log.warning("heartbeat_unreadable", topic=self._at.topic, offset=offset, reason=error.detail)
            return None
