"""A hostile producer, and what comes of what it produces: answers, quarantined records, partitions that still serve.

It writes raw records to any topic, also ones that no client would write.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.record.default_records import _DefaultRecordBatchBuilderPy as Builder

from hal9 import wire
from hal9.keys import partition_of
from hal9.log.effects import Record
from hal9.log.reading import Reader
from hal9.settings.sections import Kafka
from hal9.testing.echoing import until
from hal9.topics import Topics
from schemas.base import decode, encode
from schemas.reports import Quarantined, quarantined_decoder

RawHeaders = Sequence[tuple[str, bytes | None]]
BATCH_BYTES = 64 * 1024 * 1024
"""Of a batch before it is compressed: only what is stored is held to the broker's limit."""


class NotText(str):
    """A header name whose bytes are not UTF-8."""

    __slots__ = ()

    def encode(self, encoding: str = "utf-8", errors: str = "strict") -> bytes:  # noqa: ARG002  str's
        """Those bytes."""
        return b"\xff\xfe"


@dataclass(slots=True)
class Answers:
    """What was read since the attack began: all answers by id, in order, and what was quarantined."""

    by_id: dict[str, list[Record]] = field(default_factory=dict)
    quarantined: list[Quarantined] = field(default_factory=list)

    def said(self, name: str) -> list[str]:
        """The answers to an id: `ok`, or status and code."""
        found = []
        for record in self.by_id.get(name, ()):
            status, code = wire.text(record.headers, wire.STATUS), wire.text(record.headers, wire.ERROR)
            found.append(f"{status} {code}" if code else f"{status}")
        return found

    def reasons(self, log: str) -> list[str]:
        """Why records of a log were quarantined; one reason for a record, however many services report it."""
        return list({(q.partition, q.offset): q.reason for q in self.quarantined if q.topic == log}.values())


class Attacker:
    """Produces, and reads what comes of it."""

    def __init__(self, kafka: Kafka, topics: Topics, producer: Any) -> None:
        self._kafka, self._topics, self._producer = kafka, topics, producer
        self.answers = Answers()

    async def produce(
        self,
        log: str,
        key: bytes | None = None,
        value: bytes | None = None,
        headers: RawHeaders = (),
        partition: int | None = None,
        *,
        codec: int = 0,
    ) -> str:
        """Append one record as it is; the id that the request has if it names none. `codec`: 1 gzip, 2, 3, 4."""
        number = partition_of(key or b"", self._topics.partitions) if partition is None else partition
        batch = self._producer.create_batch()
        batch._builder = Builder(2, codec, 0, -1, -1, 0, BATCH_BYTES)  # noqa: SLF001
        batch.append(key=key, value=value, timestamp=None, headers=list(headers))
        batch.close()
        topic = self._topics.name(log)
        stored = await (await self._producer.send_batch(batch, topic, partition=number))
        return wire.default_id(topic, number, stored.offset)

    async def request(
        self, key: bytes, operation: str, value: bytes | None = None, *, partition: int | None = None
    ) -> str:
        """A request without fault; its id."""
        name = uuid4().hex
        headers = [(wire.ID, name.encode()), (wire.OPERATION, operation.encode())]
        await self.produce("requests", key, value, headers, partition)
        return name

    async def answered(self, wanted: dict[str, list[str]], deadline_s: float = 20.0) -> None:
        """Return when each id has as many answers as wanted, in any order; AssertionError if they are others."""

        def there() -> bool:
            return all(len(self.answers.by_id.get(name, ())) >= len(said) for name, said in wanted.items())

        with suppress(TimeoutError):  # what is compared then shows which are missing
            await until(there, deadline_s)
        said = {name: self.answers.said(name) for name in wanted}
        wrong = {name: (said[name], wanted[name]) for name in wanted if sorted(said[name]) != sorted(wanted[name])}
        if wrong:
            raise AssertionError(f"id: (said, wanted): {wrong}")

    async def quarantined(self, log: str, reasons: Sequence[str], deadline_s: float = 20.0) -> None:
        """Return when these reasons, in any order, stand in quarantine for records of a log; else AssertionError."""
        with suppress(TimeoutError):
            await until(lambda: len(self.answers.reasons(log)) >= len(reasons), deadline_s)
        if sorted(self.answers.reasons(log)) != sorted(reasons):
            raise AssertionError(f"{log}: wanted {reasons}, found {self.answers.quarantined}")

    async def every_partition_serves(self) -> None:
        """A neuron is created, taught and read on each partition."""
        keys = [_key_on(number, self._topics.partitions) for number in range(self._topics.partitions)]
        lesson = encode({"inputs": [1.0, 2.0], "delta": 0.5})
        born = encode({"neuron_id": "n", "weights": [1.0, 2.0]})
        for operation, value in (("create", born), ("learn", lesson), ("read", b"")):
            await self.answered({await self.request(key, operation, value): ["ok"] for key in keys})

    async def follow(self, reader: Reader, ends: dict[TopicPartition, int]) -> None:
        """Read answers and quarantine until cancelled."""
        quarantine = self._topics.name("quarantine")
        async for chunk in reader.follow(ends):
            for record in chunk.records:
                if chunk.at.topic == quarantine:
                    self.answers.quarantined.append(decode(quarantined_decoder, record.value))
                else:
                    name = wire.text(record.headers, wire.ID)
                    self.answers.by_id.setdefault(name or "", []).append(record)


def _key_on(partition: int, partitions: int) -> bytes:
    while partition_of(key := uuid4().hex.encode(), partitions) != partition:
        pass
    return key


@asynccontextmanager
async def attacking(kafka: Kafka, topics: Topics) -> AsyncIterator[Attacker]:
    """An attacker who sees every answer and every quarantined record from now on."""
    read = [TopicPartition(topics.name("responses"), number) for number in range(topics.partitions)]
    read.append(TopicPartition(topics.name("quarantine"), 0))
    async with AIOKafkaProducer(bootstrap_servers=kafka.bootstrap, acks="all") as producer, Reader(kafka) as reader:
        attacker = Attacker(kafka, topics, producer)
        following = asyncio.create_task(attacker.follow(reader, await reader.ends(read)))
        try:
            yield attacker
        finally:
            following.cancel()
            with suppress(asyncio.CancelledError):
                await following
