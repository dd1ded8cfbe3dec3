"""The client itself: one idempotent producer, one reader of the answers, one entry per open request.

Every request ends: with the first answer read for its id, or after its deadline and a grace as a local `timeout`.
"""

import asyncio
import time
import uuid
from collections.abc import AsyncIterable, Iterable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from types import TracebackType
from typing import Any, Self, cast

from aiokafka import TopicPartition
from aiokafka.errors import KafkaError, MessageSizeTooLargeError
from msgspec.structs import replace

from hal9 import wire
from hal9.client.answer import Answer, AnswerStatus, Ask, Counts, read_answer
from hal9.client.ledger import Ledger
from hal9.connection import reach_kafka
from hal9.errors import Transient
from hal9.keys import is_mark, key_error, partition_of
from hal9.log.effects import NoTracer, Record, Tracer
from hal9.log.producer import start_producer, stop_producer
from hal9.log.reading import Reader
from hal9.settings import Settings
from hal9.telemetry.logs import logger

_MEMORY_S = 120.0
"""How long an ended id is remembered: above the greatest deadline and a router's recovery."""
_STOP_S = 5.0

_log = logger("client")


@dataclass(slots=True)
class _Open:
    """A request in flight."""

    id: bytes
    future: "asyncio.Future[Answer]"
    began_s: float
    until_s: float
    span: object = None
    timer: asyncio.TimerHandle | None = None


class Client:
    """Sends requests and awaits their answers; use it as an async context manager.

    Args:
        bootstrap: `host:port` of Kafka; the settings' if None.
        settings: addresses, topic names, deadlines.
        tracer: starts a span per sampled request (`hal9.telemetry.tracing`).
    """

    def __init__(
        self, bootstrap: str | None = None, settings: Settings | None = None, *, tracer: Tracer | None = None
    ) -> None:
        settings = settings or Settings()
        self._kafka = settings.kafka if bootstrap is None else replace(settings.kafka, bootstrap=bootstrap)
        self._settings = settings.client
        names = settings.topics.names()
        self._requests, self._responses = names["requests"], names["responses"]
        self._tracer = tracer or NoTracer()
        self._ledger = Ledger(_MEMORY_S)
        self._open: dict[bytes, _Open] = {}
        self._room = asyncio.Semaphore(self._settings.in_flight_max)
        self._partitions = 0
        self._connections = AsyncExitStack()
        self._producer: Any = None
        self._reading: asyncio.Task[None] | None = None
        self._failure: BaseException | None = None
        self.counts = Counts()

    def __repr__(self) -> str:
        return f"<Client {self._kafka.bootstrap}: {len(self._open)} open, {self.counts}>"

    @property
    def repeated(self) -> int:
        """Answers beyond the first of a request, removed."""
        return self.counts.repeated

    async def __aenter__(self) -> Self:
        await reach_kafka(self._kafka)
        async with AsyncExitStack() as connections:
            self._producer = await start_producer(self._kafka, self._kafka.wait_s)
            connections.push_async_callback(_stop, self._producer)
            reader = await connections.enter_async_context(Reader(self._kafka))
            self._partitions = len(await self._partitions_of(self._requests))
            answers = [TopicPartition(self._responses, p) for p in await self._partitions_of(self._responses)]
            # The end is known before anything is asked: no answer can be missed.
            ends = await reader.ends(answers)
            self._connections = connections.pop_all()
        self._reading = asyncio.create_task(self._read(reader, ends), name="hal9-client-reader")
        self._reading.add_done_callback(self._reading_ended)
        return self

    async def _partitions_of(self, topic: str) -> set[int]:
        try:
            return cast("set[int]", await self._producer.partitions_for(topic))
        except KafkaError as error:
            raise Transient(f"topic {topic} is not there ({error}); `hal9 topics create` makes it") from error

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for entry in list(self._open.values()):
            self._give_up(entry, "closed")
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.wait([self._reading])
        await self._connections.aclose()

    async def request(
        self,
        key: str | bytes,
        value: bytes = b"",
        *,
        operation: str = "process",
        deadline_s: float | None = None,
        request_id: str | None = None,
    ) -> Answer:
        """Ask, and await the answer: at the latest a grace after the deadline, as `timeout` and `local`.

        Raises:
            ValueError: the key is no neuron id, or the id is in use or too long.
            Transient: the answers can no longer be read.
        """
        raw_key = key.encode() if isinstance(key, str) else key
        problem = key_error(raw_key)
        if problem is not None:
            raise ValueError(problem)
        name = (request_id or uuid.uuid4().hex).encode()
        if len(name) > wire.MAX_ID_BYTES:
            raise ValueError(f"the id has {len(name)} bytes, more than {wire.MAX_ID_BYTES}")
        async with self._room:
            self._check()
            deadline_ms = self._settings.deadline_ms if deadline_s is None else round(deadline_s * 1000)
            entry = self._begin_request(name, deadline_ms)
            try:
                await self._send(entry, raw_key, value, operation, deadline_ms)
                return await entry.future
            finally:
                if not entry.future.done() or entry.future.cancelled():
                    self._give_up(entry, "cancelled")

    def _check(self) -> None:
        if self._failure is not None:
            raise Transient(f"the answers can no longer be read: {self._failure}") from self._failure
        if self._reading is None or self._reading.done():
            raise Transient("the client is not open")

    def _begin_request(self, name: bytes, deadline_ms: int) -> _Open:
        loop = asyncio.get_running_loop()
        self._ledger.open(name)
        until_s = loop.time() + (deadline_ms + self._settings.grace_ms) / 1000
        entry = _Open(name, loop.create_future(), loop.time(), until_s)
        self._open[name] = entry
        self.counts.sent += 1
        entry.timer = loop.call_at(until_s, self._give_up, entry, "no-answer")
        return entry

    async def _send(self, entry: _Open, key: bytes, value: bytes, operation: str, deadline_ms: int) -> None:
        entry.span, trace = self._tracer.begin("send requests", None, {"hal9.operation": operation})
        headers = [
            (wire.ID, entry.id),
            (wire.OPERATION, operation.encode()),
            (wire.DEADLINE, wire.decimal(max(0, time.time_ns() // 1_000_000 + deadline_ms))),
        ]
        if trace is not None:
            headers.append((wire.TRACEPARENT, trace))
        partition = partition_of(key, self._partitions)
        send = self._producer.send(self._requests, value, key=key, partition=partition, headers=headers)
        try:
            # A full buffer may hold up the sending for longer than anybody waits.
            async with asyncio.timeout_at(entry.until_s):
                stored = await send
        except MessageSizeTooLargeError:
            self._give_up(entry, "too-large", "rejected")
        except (KafkaError, TimeoutError):
            self._give_up(entry, "not-sent")
        else:
            stored.add_done_callback(partial(self._stored, entry))

    def _stored(self, entry: _Open, stored: "asyncio.Future[Any]") -> None:
        # Whether it was stored is unknown then, which is what `timeout` says.
        if not stored.cancelled() and stored.exception() is not None:
            self._give_up(entry, "not-sent")

    async def request_many(
        self,
        asks: Iterable[tuple[str | bytes, str, bytes]] | AsyncIterable[tuple[str | bytes, str, bytes]],
        *,
        concurrency: int | None = None,
        deadline_s: float | None = None,
    ) -> list[Answer]:
        """Ask all of `(key, operation, value)`, at most `concurrency` at once; the answers in the order of the asks."""
        tasks: list[asyncio.Task[Answer]] = []
        room = asyncio.Semaphore(concurrency or self._settings.in_flight_max)

        async def one(ask: Ask) -> Answer:
            try:
                return await self.request(ask.key, ask.value, operation=ask.operation, deadline_s=deadline_s)
            finally:
                room.release()

        async with asyncio.TaskGroup() as group:
            async for ask in _each(asks):
                await room.acquire()
                tasks.append(group.create_task(one(Ask(*ask))))
        return [task.result() for task in tasks]

    async def _read(self, reader: Reader, ends: Mapping[TopicPartition, int]) -> None:
        async for chunk in reader.follow(ends):
            for record in chunk.records:
                self._answered(record)

    def _answered(self, record: Record) -> None:
        name = wire.header(record.headers, wire.ID)
        if name is None or is_mark(record.key):
            return
        match self._ledger.arrived(name, asyncio.get_running_loop().time()):
            case "first":
                self.counts.answered += 1
                entry = self._open[name]
                self._end(entry, read_answer(record, _elapsed_ms(entry)))
            case "late":
                self.counts.answered += 1
                self.counts.late += 1
            case "repeated":
                self.counts.repeated += 1
            case "foreign":
                pass

    def _give_up(self, entry: _Open, error: str, status: AnswerStatus = "timeout") -> None:
        """End a request by this client's own word; nothing if it has ended."""
        if entry.id not in self._open:
            return
        self._ledger.give_up(entry.id, asyncio.get_running_loop().time())
        self.counts.gave_up += 1
        self._end(entry, Answer(status, b"", error, None, None, entry.id.decode(), _elapsed_ms(entry), local=True))

    def _end(self, entry: _Open, answer: Answer) -> None:
        del self._open[entry.id]
        if entry.timer is not None:
            entry.timer.cancel()
        setattr(self.counts, answer.status, getattr(self.counts, answer.status) + 1)
        self._tracer.end(entry.span, answer.status)
        if not entry.future.done():
            entry.future.set_result(answer)

    def _reading_ended(self, reading: "asyncio.Task[None]") -> None:
        """The reading never ends by itself: without it every open request must be told."""
        if reading.cancelled():
            return
        self._failure = reading.exception()
        for entry in list(self._open.values()):
            self._give_up(entry, "unreadable")


async def _stop(producer: Any) -> None:
    """A broker that is gone must not hold up the end of a program; nothing is left to be saved."""
    try:
        async with asyncio.timeout(_STOP_S):
            await stop_producer(producer)
    except (KafkaError, TimeoutError, OSError) as error:
        _log.warning("producer_not_closed", reason=repr(error))


def _elapsed_ms(entry: _Open) -> float:
    return (asyncio.get_running_loop().time() - entry.began_s) * 1000


async def _each(
    asks: Iterable[tuple[str | bytes, str, bytes]] | AsyncIterable[tuple[str | bytes, str, bytes]],
) -> AsyncIterable[tuple[str | bytes, str, bytes]]:
    if isinstance(asks, AsyncIterable):
        async for ask in asks:
            yield ask
    else:
        for ask in asks:
            yield ask
