"""The client itself: requests out, answers in, one entry per open request.

Every request ends: with the first answer read for its id, or after its deadline and a grace as a local `timeout`.
One client serves any number of tasks of one event loop; `hal9.client.SyncClient` serves threads.
"""

import asyncio
import time
import uuid
from collections.abc import Sequence
from functools import partial
from types import TracebackType
from typing import Any, Self

from msgspec.structs import replace

from hal9 import wire
from hal9.client.answer import Answer, AnswerStatus, Ask, Counts, read_answer
from hal9.client.attempts import Attempts
from hal9.client.entry import Entry, checked
from hal9.client.errors import ClientClosed, NotSent, TooLarge
from hal9.client.ledger import Ledger
from hal9.client.many import Answers, Asks
from hal9.client.room import Room
from hal9.client.transport import KafkaTransport, Transport
from hal9.errors import Transient
from hal9.keys import is_mark, partition_of
from hal9.log.effects import NoTracer, Record, Tracer
from hal9.settings import Settings

_MEMORY_S = 120.0
"""How long an ended id is remembered: above the greatest deadline and a router's recovery."""


class Client:
    """Sends requests and awaits their answers; use it as an async context manager.

    Args:
        bootstrap: `host:port` of Kafka; the settings' if None.
        settings: addresses, topic names, deadlines, bounds.
        tracer: starts a span per sampled request (`hal9.telemetry.tracing`).
        transport: what carries requests and answers instead of Kafka, in tests.
    """

    def __init__(
        self,
        bootstrap: str | None = None,
        settings: Settings | None = None,
        *,
        tracer: Tracer | None = None,
        transport: Transport | None = None,
    ) -> None:
        settings = settings or Settings()
        kafka = settings.kafka if bootstrap is None else replace(settings.kafka, bootstrap=bootstrap)
        self._settings = settings.client
        names = settings.topics.names()
        self._transport = transport or KafkaTransport(
            kafka, names["requests"], names["responses"], self._settings.producers
        )
        self._tracer = tracer or NoTracer()
        self._ledger = Ledger(_MEMORY_S)
        self._open: dict[bytes, Entry] = {}
        self._room = Room(self._settings.in_flight_max, self._settings.in_flight_bytes)
        self._opened = False
        self._failure: BaseException | None = None
        self.counts = Counts()

    def __repr__(self) -> str:
        return f"<Client {self._transport!r}: {len(self._open)} open, {self.counts}>"

    @property
    def repeated(self) -> int:
        """Answers beyond the first of a request, removed."""
        return self.counts.repeated

    async def __aenter__(self) -> Self:
        try:
            await self._transport.open(self._arrived, self._lost)
        except BaseException:
            await self._transport.close()
            raise
        self._opened = True
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._opened = False
        for entry in list(self._open.values()):
            self._give_up(entry, "closed")
        await self._transport.close()

    async def request(
        self,
        key: str | bytes,
        value: bytes = b"",
        *,
        operation: str = "process",
        deadline_s: float | None = None,
        request_id: str | None = None,
        retries: int | None = None,
    ) -> Answer:
        """Ask, and await the answer: at the latest a grace after the deadline, as `timeout` and `local`.

        While too many requests, or too many bytes of them, are under way it waits first; the deadline begins after
        that. A caller that is cancelled leaves nothing behind; what was sent may be done all the same.

        Args:
            key: the neuron's id.
            value: opaque to everything but the system.
            operation: what to do.
            deadline_s: from sending, at most 60; the settings' if None.
            request_id: its identity, at most 128 bytes; a new one if None. Within 60 s it is one request, however
                often it is sent.
            retries: times to send it again, under its id and with its deadline, when sending failed or nothing is
                heard; the settings' if None.

        Raises:
            ValueError: the key is no neuron id, or the id is in use or too long.
            ClientClosed: the client is not open.
            Transient: the answers can no longer be read.
        """
        raw_key, name = checked(key, request_id or uuid.uuid4().hex)
        size = len(raw_key) + len(value)
        await self._room.enter(size)
        try:
            self._check()
            deadline_ms = self._settings.deadline_ms if deadline_s is None else round(deadline_s * 1000)
            tries = self._settings.retries if retries is None else retries
            entry = self._begin_request(name, raw_key, value, deadline_ms, tries)
            try:
                return await self._converse(entry, operation, deadline_ms)
            finally:
                if not entry.future.done() or entry.future.cancelled():
                    self._give_up(entry, "cancelled")
        finally:
            self._room.leave(size)

    def request_many(
        self,
        asks: Asks,
        *,
        concurrency: int | None = None,
        deadline_s: float | None = None,
        retries: int | None = None,
        ordered: bool = True,
    ) -> Answers:
        """Ask all of `(key, operation, value)` or `Ask`, at most `concurrency` at once (the settings' in flight).

        `await` it for the list of answers, or `async for` over it for one after another: in the order of the asks, or
        with `ordered=False` as they come. Asks are drawn no faster than answers are taken.
        """

        async def one(ask: Ask) -> Answer:
            return await self.request(
                ask.key,
                ask.value,
                operation=ask.operation,
                deadline_s=deadline_s if ask.deadline_s is None else ask.deadline_s,
                request_id=ask.id,
                retries=retries,
            )

        return Answers(asks, one, concurrency or self._settings.in_flight_max, ordered=ordered)

    def _check(self) -> None:
        if self._failure is not None:
            raise Transient(f"the answers can no longer be read: {self._failure}") from self._failure
        if not self._opened:
            raise ClientClosed("the client is not open")

    def _begin_request(self, name: bytes, key: bytes, value: bytes, deadline_ms: int, retries: int) -> Entry:
        loop = asyncio.get_running_loop()
        self._ledger.open(name)
        now_s = loop.time()
        until_s = now_s + (deadline_ms + self._settings.grace_ms) / 1000
        entry = Entry(name, key, value, Attempts(retries, now_s + deadline_ms / 1000), now_s, until_s)
        self._open[name] = entry
        self.counts.sent += 1
        entry.timer = loop.call_at(entry.until_s, self._give_up, entry, "no-answer")
        return entry

    # ------------------------------------------------------------------ sending
    async def _converse(self, entry: Entry, operation: str, deadline_ms: int) -> Answer:
        entry.span, trace = self._tracer.begin("send requests", None, {"hal9.operation": operation})
        headers = [
            (wire.ID, entry.id),
            (wire.OPERATION, operation.encode()),
            (wire.DEADLINE, wire.decimal(max(0, time.time_ns() // 1_000_000 + deadline_ms))),
        ]
        if trace is not None:
            headers.append((wire.TRACEPARENT, trace))
        entry.headers = headers
        await self._send(entry)
        while True:
            answer = await entry.future
            if answer is not None:
                return answer
            await self._send_again(entry)

    async def _send(self, entry: Entry) -> None:
        number = entry.attempts.begin()
        partition = partition_of(entry.key, self._transport.partitions)
        sending = self._transport.send(entry.key, entry.value, entry.headers, partition)
        try:
            # A full buffer may hold up the sending for longer than anybody waits.
            async with asyncio.timeout_at(entry.until_s):
                stored = await sending
        except TooLarge:
            self._give_up(entry, "too-large", "rejected")
        except (NotSent, Transient, TimeoutError):
            self._not_stored(entry)
        else:
            stored.add_done_callback(partial(self._stored, entry, number))
            if entry.attempts.left:
                self._again_at(entry, entry.attempts.after_silence(asyncio.get_running_loop().time()))

    async def _send_again(self, entry: Entry) -> None:
        """An answer that comes meanwhile ends it: what was sent before may have been stored."""
        self.counts.resent += 1
        sending = asyncio.create_task(self._send(entry))
        either: set[asyncio.Future[Any]] = {sending, entry.future}
        try:
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        finally:
            sending.cancel()
            await asyncio.wait({sending})

    def _stored(self, entry: Entry, number: int, stored: "asyncio.Future[Any]") -> None:
        error = None if stored.cancelled() else stored.exception()
        if error is None:
            entry.stored = True
        elif isinstance(error, TooLarge):
            self._give_up(entry, "too-large", "rejected")
        elif number == entry.attempts.made:
            self._not_stored(entry)

    def _not_stored(self, entry: Entry) -> None:
        """Whether it was stored is unknown then, which is what `timeout` says, unless it may be sent again."""
        again_s = entry.attempts.after_failure(asyncio.get_running_loop().time())
        if again_s is None and not entry.stored:
            self._give_up(entry, "not-sent")
        else:
            self._again_at(entry, again_s)

    def _again_at(self, entry: Entry, at_s: float | None) -> None:
        if entry.again is not None:
            entry.again.cancel()
        if at_s is not None and entry.id in self._open:
            entry.again = asyncio.get_running_loop().call_at(at_s, self._wake, entry)

    def _wake(self, entry: Entry) -> None:
        # A new future first: the answer may come before the sender is running again.
        waiting, entry.future = entry.future, asyncio.get_running_loop().create_future()
        if not waiting.done():
            waiting.set_result(None)

    # ------------------------------------------------------------------ answers
    def _arrived(self, records: Sequence[Record]) -> None:
        now_s = asyncio.get_running_loop().time()
        for record in records:
            # Most are other clients': they cost one look at one header.
            name = wire.header(record.headers, wire.ID)
            if name is None or name not in self._ledger or is_mark(record.key):
                continue
            arrival = self._ledger.arrived(name, now_s)
            if arrival == "repeated":
                self.counts.repeated += 1
                continue
            self.counts.answered += 1
            if arrival == "late":
                self.counts.late += 1
            else:
                entry = self._open[name]
                self._end(entry, read_answer(record, (now_s - entry.began_s) * 1000))

    def _give_up(self, entry: Entry, error: str, status: AnswerStatus = "timeout") -> None:
        """End a request by this client's own word; nothing if it has ended."""
        if self._open.get(entry.id) is not entry:
            return
        now_s = asyncio.get_running_loop().time()
        self._ledger.give_up(entry.id, now_s)
        self.counts.gave_up += 1
        elapsed_ms = (now_s - entry.began_s) * 1000
        self._end(entry, Answer(status, b"", error, None, None, entry.id.decode(), elapsed_ms, local=True))

    def _end(self, entry: Entry, answer: Answer) -> None:
        del self._open[entry.id]
        entry.rest()
        setattr(self.counts, answer.status, getattr(self.counts, answer.status) + 1)
        self._tracer.end(entry.span, answer.status)
        if not entry.future.done():
            entry.future.set_result(answer)

    def _lost(self, error: BaseException) -> None:
        """Reading never ends by itself: without it every open request must be told."""
        self._failure = error
        for entry in list(self._open.values()):
            self._give_up(entry, "unreadable")
