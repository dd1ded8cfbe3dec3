"""Appends in order: what is sent to one partition is stored in the order of sending, each record once or not at all.

Sends gather while the loop is busy and leave together; several batches are on their way at a time. After any failure
nothing more is sent until `restart`, for a later record must not be stored when an earlier one was not. Whether
a record without an acknowledgement is stored is not known: its term tells readers whether it counts.
"""

import asyncio
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import groupby
from typing import Any, Protocol

from aiokafka.errors import KafkaError, KafkaTimeoutError

from hal9.errors import Hal9Error, Transient
from hal9.log.clock import Clock
from hal9.log.connections import open_connections
from hal9.log.effects import Send
from hal9.log.producer import start_producer, stop_producer
from hal9.log.supervision import until_first
from hal9.settings.sections import Kafka
from hal9.telemetry.logs import logger
from hal9.topics import LOGS, Topics

RECORD_BYTES = 1_000_000
"""A little below what brokers take by default. Cores keep to smaller limits, so a greater record is a bug."""
DEADLINE_S = 15.0
"""Without an acknowledgement for so long the producer is given up: it would try for ever."""
SEQUENCE_LIMIT = 2**30
"""Records to one partition after which a producer is replaced: aiokafka's sequence numbers break after 2**31."""
_PAUSE_S = 0.5
_RETRY_S = 0.05

_log = logger("log.appender")


class Writer(Protocol):
    """Whoever sends: told what became of it."""

    @property
    def partition(self) -> int:
        """Where its sends go that name no partition."""
        ...

    def stored(self, log: str, partition: int, sends: Sequence[Send]) -> None:
        """Sends are stored, in this order, one behind the other; offset -1 in all of them if it is not known where."""
        ...


class RecordTooLarge(Hal9Error):
    """A core sent what no broker takes."""


Target = tuple[str, int]
"""A log, and a partition of it."""


@dataclass(slots=True)
class Queue:
    """What goes to one partition, in order, and who sends each: two lists, for a pair of each is one more object."""

    sends: list[Send] = field(default_factory=list)
    writers: list[Writer | None] = field(default_factory=list)

    def part(self, start: int, end: int) -> "Queue":
        """From `start` up to `end`."""
        return Queue(self.sends[start:end], self.writers[start:end])


class Appender:
    """One idempotent producer and what waits for it."""

    def __init__(self, kafka: Kafka, topics: Topics, clock: Clock, *, deadline_s: float = DEADLINE_S) -> None:
        self._kafka, self._topics, self._clock, self._deadline_s = kafka, topics, clock, deadline_s
        self._producer: Any = None
        self._pending: dict[Target, Queue] = {}
        self._wake = asyncio.Event()
        self._under_way: dict[object, float] = {}
        self._sent: dict[Target, int] = {}
        self._failed: asyncio.Future[None] | None = None
        self._stopping: set[asyncio.Task[None]] = set()
        self.appended = 0
        self.observe: Callable[[float], None] = lambda _seconds: None

    def __repr__(self) -> str:
        waiting = sum(len(queue.sends) for queue in self._pending.values())
        return f"<Appender {len(self._under_way)} batches under way, {waiting} records waiting>"

    @property
    def quiet(self) -> bool:
        """Nothing waits and nothing is under way."""
        return not self._pending and not self._under_way

    @property
    def waited_s(self) -> float:
        """How long the oldest batch under way has waited for its acknowledgement."""
        oldest = next(iter(self._under_way.values()), None)
        return 0.0 if oldest is None else time.monotonic() - oldest

    @property
    def ready(self) -> bool:
        """Whether there is a producer that has not failed."""
        return self._failed is not None and not self._failed.done()

    @property
    def connections(self) -> int:
        """Open connections."""
        return open_connections(None if self._producer is None else self._producer.client)

    def add(self, writer: Writer | None, sends: Iterable[Send]) -> None:
        """Send; `writer` is told when it is stored (None: nobody)."""
        home = 0 if writer is None else writer.partition
        log: str | None = None
        number: int | None = None
        queue = Queue()
        for send in sends:
            if send.log is not log or send.partition is not number:  # mostly they go where the one before went
                log, number = send.log, send.partition
                queue = self._queue((log, home if number is None else number))
            queue.sends.append(send)
            queue.writers.append(writer)
        self._wake.set()

    def _queue(self, at: Target) -> Queue:
        queue = self._pending.get(at)
        if queue is None:
            queue = self._pending[at] = Queue()
        return queue

    async def restart(self, deadline_s: float) -> None:
        """A new producer in place of the old one, whose waiting sends are dropped; raises Transient."""
        old, self._producer, self._failed = self._producer, None, None
        self._pending, self._under_way, self._sent = {}, {}, {}
        if old is not None:
            self._put_away(old)
        names = [self._topics.name(log) for log in LOGS]
        self._producer = await start_producer(self._kafka, deadline_s, names)
        self._failed = asyncio.get_running_loop().create_future()

    async def close(self, deadline_s: float) -> None:
        """Stop at once; what waits is not sent."""
        if self._producer is not None:
            self._put_away(self._producer)
            self._producer = None
        if self._stopping:
            await asyncio.wait(self._stopping, timeout=deadline_s)
        for task in self._stopping:
            task.cancel()

    def _put_away(self, producer: Any) -> None:
        task = asyncio.create_task(stop_producer(producer))
        self._stopping.add(task)
        task.add_done_callback(self._stopping.discard)

    # ------------------------------------------------------------------ sending
    async def run(self) -> None:
        """Send until something fails.

        Raises:
            Transient: the producer is of no use any more, `restart`.
            RecordTooLarge: a bug.
        """
        failed = self._failed
        if failed is None:
            raise Transient("there is no producer")

        async def failure() -> None:
            await failed

        await until_first(failure(), self._flush(), self._watch())

    async def _flush(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            taken, self._pending = self._pending, {}
            now_ms = self._clock.now_ms()
            for at, queue in taken.items():
                start = 0
                while start < len(queue.sends):
                    batch = self._producer.create_batch()
                    end = _fill(batch, queue.sends, start, now_ms)
                    await self._submit(batch, at, queue.part(start, end))
                    start = end

    async def _submit(self, batch: Any, at: Target, chunk: Queue) -> None:
        batch.close()
        log, number = at
        ticket = object()
        self._under_way[ticket] = time.monotonic()
        sent = self._sent[at] = self._sent.get(at, 0) + len(chunk.sends)
        future = await self._enqueue(batch, self._topics.name(log), number)
        if future is None:
            return
        future.add_done_callback(partial(self._done, ticket, at, chunk))
        if sent >= SEQUENCE_LIMIT:
            self._fail(Transient("the producer's sequence numbers are used up"))

    async def _enqueue(self, batch: Any, topic: str, number: int) -> Any:
        while self.ready:
            try:
                return await self._producer.send_batch(batch, topic, partition=number)
            except KafkaTimeoutError:
                pass  # the one before it has not left yet: how long to wait is for `_watch` to say
            except KafkaError as error:
                if not error.retriable:
                    self._fail(Transient(f"{topic}-{number} takes no records: {error!r}"))
            except AssertionError:
                self._fail(Transient(f"there is no partition {topic}-{number}"))
            await asyncio.sleep(_RETRY_S)
        return None

    async def _watch(self) -> None:
        looked = time.monotonic()
        while True:
            await asyncio.sleep(_PAUSE_S)
            now = time.monotonic()
            stopped_s, looked = now - looked - _PAUSE_S, now
            if stopped_s > _PAUSE_S:
                # This process was stopped, or had no turn: that time is not the broker's.
                self._under_way = {ticket: since + stopped_s for ticket, since in self._under_way.items()}
            if self.waited_s > self._deadline_s:
                self._fail(Transient(f"no acknowledgement for {self._deadline_s:g} s"))

    def _fail(self, error: BaseException) -> None:
        if self._failed is not None and not self._failed.done():
            self._failed.set_exception(error)

    def _done(self, ticket: object, at: Target, chunk: Queue, future: asyncio.Future[Any]) -> None:
        error = None if future.cancelled() else future.exception()
        started = self._under_way.pop(ticket, None)
        if started is None or future.cancelled():
            return  # of a producer that was given up
        if error is not None:
            self._fail(Transient(f"{at[0]}-{at[1]}: {error!r}"))
            return
        self.observe(time.monotonic() - started)
        try:
            self._stored(at, chunk, future.result())
        except BaseException as bug:  # noqa: BLE001  raised again where the process ends of it
            self._fail(bug)

    def _stored(self, at: Target, chunk: Queue, metadata: Any) -> None:
        """Give the sends their places, and back to their writers."""
        log, number = at
        self.appended += len(chunk.sends)
        if metadata.offset >= 0:
            for offset, send in enumerate(chunk.sends, metadata.offset):
                send.offset = offset
        if metadata.timestamp >= 0:
            for send in chunk.sends:
                send.timestamp = metadata.timestamp
        start = 0
        for writer, run in groupby(chunk.writers):
            end = start + len(list(run))
            if writer is not None:
                writer.stored(log, number, chunk.sends[start:end])
            start = end


def _fill(batch: Any, queue: list[Send], start: int, now_ms: int) -> int:
    """Put as many sends as fit into a batch; the index of the first that did not."""
    append = batch._builder.append  # noqa: SLF001  the wrapper around it costs a third of what it does
    for index in range(start, len(queue)):
        send = queue[index]
        headers = send.headers if type(send.headers) is list else list(send.headers)
        placed = append(index - start, now_ms, send.key, send.value, headers)
        if placed is None:
            break
        if placed.size > RECORD_BYTES:
            what = f"a record for {send.log} with key {(send.key or b'')[:64]!r}"
            raise RecordTooLarge(f"{what} has {placed.size} bytes, more than {RECORD_BYTES}")
        send.timestamp = now_ms
    else:
        index = len(queue)
    batch._relative_offset = index - start  # noqa: SLF001
    return index
