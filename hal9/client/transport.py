"""How requests leave and answers come: the seam of the client, and Kafka behind it.

`hal9.testing.transport` is the same without Kafka. A producer that is of no use any more is replaced by the next send;
answers are followed from their end at opening, through broken connections, new leaders and restarts of brokers.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from typing import Any, Protocol, cast

from aiokafka import TopicPartition
from aiokafka.errors import KafkaError, KafkaTimeoutError, MessageSizeTooLargeError

from hal9.client.errors import NotSent, TooLarge
from hal9.connection import reach_kafka
from hal9.errors import Transient
from hal9.log.effects import Headers, Record
from hal9.log.producer import start_producer, stop_producer
from hal9.log.reading import Reader
from hal9.settings.sections import Kafka
from hal9.telemetry.logs import logger

STOP_S = 5.0
"""A broker that is gone must not hold up the end of a program for longer; nothing is left to be saved."""

Arrived = Callable[[Sequence[Record]], None]
Lost = Callable[[BaseException], None]

_log = logger("client")


class Transport(Protocol):
    """Where requests go and answers come from. All calls from one event loop."""

    @property
    def partitions(self) -> int:
        """Of the requests; known once it is open."""
        ...

    async def open(self, arrived: Arrived, lost: Lost) -> None:
        """Connect. From now on every answer goes to `arrived`; `lost` says that none will come any more.

        Raises:
            Unreachable, Transient: no Kafka, no topics.
        """
        ...

    async def send(self, key: bytes, value: bytes, headers: Headers, partition: int) -> "asyncio.Future[Any]":
        """Hand over one request; the future ends when it is stored, or with `TooLarge` or `NotSent`, as this may."""
        ...

    async def close(self) -> None:
        """Disconnect; also after an `open` that failed."""
        ...


class _Lane:
    """One producer, and its successor when it has failed for good."""

    def __init__(self, kafka: Kafka, topic: str) -> None:
        self._kafka, self._topic = kafka, topic
        self._turn = asyncio.Lock()
        self._leaving: set[asyncio.Task[None]] = set()
        self.producer: Any = None

    async def get(self) -> Any:
        """The producer; raises Transient if a new one is needed and no broker answers."""
        async with self._turn:
            if self.producer is None:
                self.producer = await start_producer(self._kafka, self._kafka.wait_s)
        return self.producer

    async def send(self, key: bytes, value: bytes, headers: Headers, partition: int) -> "asyncio.Future[Any]":
        producer = self.producer or await self.get()
        try:
            sent = await producer.send(self._topic, value, key=key, partition=partition, headers=headers)
        except KafkaError as error:
            raise self._told(producer, error) from error
        stored = asyncio.get_running_loop().create_future()

        def done(sent: "asyncio.Future[Any]") -> None:
            if stored.done():
                return
            error = None if sent.cancelled() else sent.exception()
            if isinstance(error, KafkaError):
                stored.set_exception(self._told(producer, error))
            elif error is not None or sent.cancelled():
                stored.set_exception(NotSent(repr(error)))
            else:
                stored.set_result(None)

        sent.add_done_callback(done)
        return stored

    def _told(self, producer: Any, error: KafkaError) -> Exception:
        """What an error of Kafka is to the caller. One that no second try cures is cured by a new producer."""
        if isinstance(error, MessageSizeTooLargeError):
            return TooLarge(str(error))
        if not error.retriable and not isinstance(error, KafkaTimeoutError) and producer is self.producer:
            _log.warning("producer_replaced", reason=repr(error))
            self.producer = None
            task = asyncio.create_task(_stop(producer))
            self._leaving.add(task)
            task.add_done_callback(self._leaving.discard)
        return NotSent(repr(error))

    async def close(self) -> None:
        producer, self.producer = self.producer, None
        if producer is not None:
            await _stop(producer)
        if self._leaving:
            await asyncio.wait(self._leaving)


class KafkaTransport:
    """See `Transport`: some idempotent producers, one reader of all answers."""

    def __init__(self, kafka: Kafka, requests: str, responses: str, producers: int = 1) -> None:
        self._kafka, self._requests, self._responses = kafka, requests, responses
        self._lanes = [_Lane(kafka, requests) for _ in range(producers)]
        self._connections = AsyncExitStack()
        self._reading: asyncio.Task[None] | None = None
        self.partitions = 0

    def __repr__(self) -> str:
        return self._kafka.bootstrap

    async def open(self, arrived: Arrived, lost: Lost) -> None:
        """Connect; the end of the answers is known before anything is asked, so that none can be missed."""
        await reach_kafka(self._kafka)
        for lane in self._lanes:
            self._connections.push_async_callback(lane.close)
            await lane.get()
        reader = await self._connections.enter_async_context(Reader(self._kafka))
        self.partitions = len(await self._partitions_of(self._requests))
        ends = await reader.ends(
            [TopicPartition(self._responses, p) for p in await self._partitions_of(self._responses)]
        )
        self._reading = asyncio.create_task(_read(reader, ends, arrived), name="hal9-client-reader")

        def over(reading: "asyncio.Task[None]") -> None:
            if not reading.cancelled():
                lost(reading.exception() or Transient("the reader has ended"))

        self._reading.add_done_callback(over)

    async def _partitions_of(self, topic: str) -> set[int]:
        producer = await self._lanes[0].get()
        try:
            return cast("set[int]", await producer.partitions_for(topic))
        except KafkaError as error:
            raise Transient(f"topic {topic} is not there ({error}); `hal9 topics create` makes it") from error

    async def send(self, key: bytes, value: bytes, headers: Headers, partition: int) -> "asyncio.Future[Any]":
        """Through the lane of the partition, so that the requests of a key keep their order."""
        return await self._lanes[partition % len(self._lanes)].send(key, value, headers, partition)

    async def close(self) -> None:
        """Disconnect."""
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.wait([self._reading])
        await self._connections.aclose()


async def _read(reader: Reader, ends: Mapping[TopicPartition, int], arrived: Arrived) -> None:
    async for chunk in reader.follow(ends):
        arrived(chunk.records)


async def _stop(producer: Any) -> None:
    try:
        async with asyncio.timeout(STOP_S):
            await stop_producer(producer)
    except (KafkaError, TimeoutError, OSError) as error:
        _log.warning("producer_not_closed", reason=repr(error))
