"""The model of the log cleaner against the broker's own: the same records, and after each pass the same that are left.

The cleaner's thread sleeps between its passes, here for longer than a test takes; a new value of its sleep starts the
thread anew, which is one pass over each log that is cleanable. The broker cleans the dirtiest log first: the sentinel
is always the cleanest, so that every other log has been cleaned, or passed over, once the sentinel has.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import asdict, dataclass, replace
from itertools import accumulate, count, groupby
from random import Random
from uuid import uuid4

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.record.memory_records import MemoryRecords

from hal9.log.administration import administering
from hal9.settings.sections import Kafka
from hal9.testing import MemoryLog
from hal9.testing.echoing import settled
from simulation.cleaner import CleanerSettings, LogCleaner, Marker, Transactional
from stack.local import LocalStack

HOUR_MS = 3_600_000
NEVER = 2**63 - 1
SETTINGS = CleanerSettings(
    segment_ms=1000,
    segment_records=10**6,
    min_compaction_lag_ms=0,
    max_compaction_lag_ms=NEVER,
    min_cleanable_dirty_ratio=0.01,
    delete_retention_ms=0,
)
KEYS = (b"a", b"b", b"c", "ü".encode(), b"\0seal/1/x", b"\0claim")
STEPS_MS = (0, 0, 0, 1, 400, -700, 600, 1000, 1001)
SLEEP_MS = count(600_000)
DEADLINE_S = 60.0
Row = tuple[bytes | None, bytes | None, int]  # key, value, timestamp


def on_disk(stack: LocalStack, topic: str) -> list[int]:
    """The offsets in the segment files, those of markers too, which no consumer is given."""
    offsets: list[int] = []
    for file in sorted((stack.directory / "kafka" / "data" / f"{topic}-0").glob("*.log")):
        records = MemoryRecords(file.read_bytes())
        while records.has_next():
            offsets += [record.offset for record in records.next_batch()]
    return offsets


def now_ms() -> int:
    return int(time.time() * 1000)


def drawn(rng: Random, size: int, start_ms: int) -> list[Row]:
    """Records whose timestamps go forth and back, and often past segment.ms or just not."""
    times = accumulate((rng.choice(STEPS_MS) for _ in range(size)), initial=start_ms)
    return [(rng.choice(KEYS), None if rng.random() < 0.3 else b"%d" % at, at) for at in times]


async def configure(kafka: Kafka, kind: ConfigResourceType, name: str, config: dict[str, str]) -> None:
    async with administering(kafka, DEADLINE_S) as admin:
        for response in await admin.alter_configs([ConfigResource(kind, name, config)]):
            assert all(code == 0 for code, *_ in response.resources), response


@dataclass
class Topic:
    """A topic of one partition, and the model of its log, which has seen the same records."""

    kafka: Kafka
    producer: AIOKafkaProducer
    consumer: AIOKafkaConsumer
    name: str
    settings: CleanerSettings

    def __post_init__(self) -> None:
        self.log = MemoryLog((self.name, 0))
        self.cleaner = LogCleaner(self.log, self.settings)

    def config(self, policy: str = "compact") -> dict[str, str]:
        named = {name.replace("_", "."): str(value) for name, value in asdict(self.settings).items()}
        del named["segment.records"]
        more = {"cleanup.policy": policy, "segment.bytes": str(1 << 20), "message.timestamp.after.max.ms": str(NEVER)}
        return named | more

    async def create(self, policy: str = "compact") -> None:
        async with administering(self.kafka, DEADLINE_S) as admin:
            await admin.create_topics([NewTopic(self.name, 1, 1, topic_configs=self.config(policy))])

    async def write(self, rows: Iterable[Row]) -> None:
        """Neighbours with the same timestamp are one batch."""
        sent, offsets = [], []
        for timestamp, same in groupby(rows, key=lambda row: row[2]):
            batch = self.producer.create_batch()
            offsets.append(self.log.end)
            for key, value, _ in same:
                assert batch.append(key=key, value=value, timestamp=timestamp) is not None
                self.cleaner.appended(self.log.append(key, value, timestamp=timestamp))
            sent.append(await self.producer.send_batch(batch, self.name, partition=0))
        assert [stored.offset for stored in await asyncio.gather(*sent)] == offsets

    async def left(self) -> list[int]:
        """Of the broker's log; its last record is in the active segment, which is not cleaned."""
        place, offsets = TopicPartition(self.name, 0), list[int]()
        self.consumer.assign([place])
        self.consumer.seek(place, 0)
        async with asyncio.timeout(DEADLINE_S):
            while offsets[-1:] != [self.log.end - 1]:
                for records in (await self.consumer.getmany(timeout_ms=1000)).values():
                    offsets += [record.offset for record in records]
        return offsets

    async def compare(self) -> list[int]:
        """A pass of the model, after which the broker has the same left; what the model took away."""
        gone = self.cleaner.clean(now_ms())
        assert await self.left() == [record.offset for record in self.log]
        return gone


class Passes:
    """The passes of the broker's cleaner, one at a time."""

    def __init__(self, kafka: Kafka, sentinel: Topic) -> None:
        self._kafka, self._sentinel = kafka, sentinel
        self._at_ms = now_ms() - 9 * HOUR_MS

    async def begin(self) -> None:
        """The cleaner sleeps from now on."""
        await self._sentinel.create()
        await self._append(b"bulk", bytes(100_000))
        for _ in range(2):
            await self._append()
        await self.clean()
        await self.clean()

    async def clean(self) -> None:
        """Return when every log that was cleanable has been cleaned once."""
        await self._append()
        sleep = {"log.cleaner.backoff.ms": str(next(SLEEP_MS))}
        await configure(self._kafka, ConfigResourceType.BROKER, "1", sleep)
        end = self._sentinel.log.end
        await settled(self._sentinel.left, [0, end - 2, end - 1], DEADLINE_S)

    async def _append(self, key: bytes = b"s", value: bytes = b"") -> None:
        self._at_ms += 2 * self._sentinel.settings.segment_ms
        await self._sentinel.write([(key, value, self._at_ms)])


Maker = Callable[[CleanerSettings], Topic]


@pytest.fixture
async def topic(kafka: Kafka, producer: AIOKafkaProducer) -> AsyncIterator[Maker]:
    async with AIOKafkaConsumer(bootstrap_servers=kafka.bootstrap) as consumer:
        yield lambda settings: Topic(kafka, producer, consumer, f"cleaned.{uuid4().hex[:8]}", settings)


@pytest.fixture
async def passes(kafka: Kafka, topic: Maker) -> AsyncIterator[Passes]:
    passes = Passes(kafka, topic(replace(SETTINGS, min_cleanable_dirty_ratio=0.0)))
    try:
        await passes.begin()
        yield passes
    finally:
        await configure(kafka, ConfigResourceType.BROKER, "1", {})


async def test_the_same_records_are_left_after_each_pass(topic: Maker, passes: Passes) -> None:
    rng = Random(1)
    topics = [topic(SETTINGS) for _ in range(4)] + [topic(replace(SETTINGS, delete_retention_ms=HOUR_MS))]
    for each in topics:
        await each.create()
    start_ms, gone = now_ms() - 9 * HOUR_MS, 0
    for later_ms in range(0, 3 * HOUR_MS, HOUR_MS):
        for each in topics:
            await each.write(drawn(rng, 40, start_ms + later_ms))
        await passes.clean()
        for each in topics:
            gone += len(await each.compare())
    assert gone > 300


async def test_a_record_goes_for_a_later_one_below_the_cleaned_end_only(topic: Maker, passes: Passes) -> None:
    log, at = topic(SETTINGS), now_ms() - 9 * HOUR_MS
    await log.create()
    await log.write([(b"a", b"valid", at), (b"b", b"", at), (b"a", b"void", at + 1001), (b"a", b"valid", at + 2002)])
    await passes.clean()
    assert await log.compare() == [0]
    await log.write([(b"b", b"", at + 2002)])
    await passes.clean()
    assert await log.compare() == []  # what is new lies in the active segment
    await log.write([(b"b", b"", at + 3003)])
    await passes.clean()
    assert await log.compare() == [1, 2]


async def test_a_tombstone_goes_in_a_later_pass_and_only_if_there_is_something_to_clean(
    topic: Maker, passes: Passes
) -> None:
    log, at = topic(SETTINGS), now_ms() - 9 * HOUR_MS
    await log.create()
    await log.write([(b"a", b"", at), (b"a", None, at), (b"b", None, at), (b"b", b"", at), (b"c", None, at + 1001)])
    await passes.clean()
    assert await log.compare() == [0, 2]
    await passes.clean()
    assert await log.compare() == []  # its retention, 0 ms, is long past
    await log.write([(b"d", b"", at + 2002)])
    await passes.clean()
    assert await log.compare() == [1]
    await log.write([(b"d", b"", at + 3003)])
    await passes.clean()
    assert await log.compare() == [4]


async def test_a_young_segment_is_held_back_by_min_compaction_lag(topic: Maker, passes: Passes) -> None:
    log, old, young = topic(replace(SETTINGS, min_compaction_lag_ms=HOUR_MS)), now_ms() - 2 * HOUR_MS, now_ms()
    await log.create()
    await log.write([(b"a", b"", old), (b"a", b"", old), (b"b", b"", old + 1001), (b"b", b"", young)])
    await log.write([(b"c", b"", old)] * 2 + [(b"c", b"", young + 1001)])
    await passes.clean()
    assert await log.compare() == [0]


async def test_the_dirty_ratio_and_max_compaction_lag_decide_when(topic: Maker, passes: Passes) -> None:
    half = topic(replace(SETTINGS, min_cleanable_dirty_ratio=0.5))
    late = topic(replace(SETTINGS, min_cleanable_dirty_ratio=1.0, max_compaction_lag_ms=HOUR_MS))
    early = topic(replace(late.settings, max_compaction_lag_ms=24 * HOUR_MS))
    short = topic(replace(SETTINGS, segment_ms=NEVER, max_compaction_lag_ms=1000))
    at, logs, found = now_ms() - 9 * HOUR_MS, (half, late, early, short), []
    for log in logs:
        await log.create()
        await log.write([(b"%d" % number, b"", at) for number in range(20)])
    for size in (0, 5, 30):
        for log in logs:
            await log.write([(b"0", b"", at)] * size + [(b"0", b"", at + 1001)])
        await passes.clean()
        found.append([len(await log.compare()) for log in logs])
        at += 2002
    assert found == [[0, 0, 0, 0], [0, 6, 0, 6], [37, 31, 0, 31]]


async def test_a_full_segment_rolls(topic: Maker, passes: Passes) -> None:
    log, at = topic(replace(SETTINGS, segment_ms=NEVER, segment_records=3)), now_ms() - 9 * HOUR_MS
    await log.create()
    await log.write([(b"a", bytes(340_000), at + number) for number in range(8)])  # 1 MiB holds three
    await passes.clean()
    assert await log.compare() == [0, 1, 2, 3, 4]


async def test_records_without_a_key_go_once_the_policy_is_compact(topic: Maker, passes: Passes) -> None:
    log, at = topic(SETTINGS), now_ms() - HOUR_MS
    await log.create("delete")
    await log.write([(b"a", b"", at), (None, b"", at), (b"b", b"", at), (b"c", b"", at + 1001)])
    await configure(log.kafka, ConfigResourceType.TOPIC, log.name, log.config())
    for _ in range(2):  # the broker may learn of the policy after the first pass has begun
        await passes.clean()
    assert await log.compare() == [1]


async def test_aborted_records_and_markers_go_as_the_model_says(
    topic: Maker, passes: Passes, stack: LocalStack
) -> None:
    log, at = topic(replace(SETTINGS, segment_ms=HOUR_MS)), now_ms()
    await log.create()
    writer = AIOKafkaProducer(bootstrap_servers=log.kafka.bootstrap, transactional_id=uuid4().hex)
    place = TopicPartition(log.name, 0)

    async def transact(ends: Marker, *keys: bytes) -> None:
        await writer.begin_transaction()
        for key in keys:
            await writer.send_and_wait(log.name, b"", key=key, timestamp_ms=at)
            log.cleaner.appended(log.log.append(key, b"", timestamp=at), Transactional(0))
        await (writer.commit_transaction() if ends is Marker.COMMIT else writer.abort_transaction())
        log.cleaner.appended(log.log.append(b"", b"", timestamp=at), Transactional(0, ends))
        # The marker may come after the answer.
        await settled(lambda: log.consumer.end_offsets([place]), {place: log.log.end}, DEADLINE_S)

    async with writer:
        await log.write([(b"a", b"", at), (b"b", b"", at)])
        await transact(Marker.ABORT, b"a", b"c")  # 2, 3, marker 4
        await transact(Marker.COMMIT, b"b")  # 5, marker 6
        await log.write([(b"b", b"", at)])  # 7
        await transact(Marker.COMMIT, b"d")  # 8, marker 9
        at += 2 * HOUR_MS
        await transact(Marker.COMMIT, b"e")  # the producer's last records stay out of the cleaner's reach
        gone = []
        for _ in range(3):
            await passes.clean()
            gone.append(log.cleaner.clean(now_ms()))
            assert on_disk(stack, log.name) == [record.offset for record in log.log]
            at += 2 * HOUR_MS
            await log.write([(b"f", b"", at)])
            await transact(Marker.COMMIT, b"e")
    assert gone == [[1, 2, 3, 5], [], [4, 6, 10]]
