"""Reading beside any group, on a real broker."""

import asyncio
from contextlib import suppress
from uuid import uuid4

import pytest
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from hal9.errors import Transient, Unreachable
from hal9.log import log_ends
from hal9.log.cursor import Cursor
from hal9.log.effects import EARLIEST, LATEST
from hal9.log.fetching import Fetching
from hal9.log.log_ends import TopicMissing
from hal9.log.reading import CHUNK, Reader, read_range
from hal9.settings.sections import Kafka
from hal9.testing.echoing import until


@pytest.fixture
async def topic(kafka: Kafka) -> str:
    name = f"reading-{uuid4().hex[:8]}"
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka.bootstrap)
    await admin.start()
    try:
        await admin.create_topics([NewTopic(name, 2, 1)])
    finally:
        await admin.close()
    return name


async def write(producer: AIOKafkaProducer, topic: str, partition: int, *numbers: int) -> None:
    for number in numbers:
        sent = await producer.send(topic, b"%d" % number, b"k", partition)
    await sent


async def test_a_range_is_what_lies_in_it(kafka: Kafka, topic: str, producer: AIOKafkaProducer) -> None:
    await write(producer, topic, 0, *range(3 * CHUNK))
    records = await read_range(kafka, topic, 0)
    assert [record.offset for record in records] == list(range(3 * CHUNK))
    assert [record.value for record in await read_range(kafka, topic, 0, 3, 6)] == [b"3", b"4", b"5"]
    assert await read_range(kafka, topic, 0, 6, 3) == []
    assert await read_range(kafka, topic, 1) == []


async def test_a_range_comes_in_chunks(kafka: Kafka, topic: str, producer: AIOKafkaProducer) -> None:
    await write(producer, topic, 0, *range(2 * CHUNK + 1))
    async with Reader(kafka) as reader:
        chunks = [len(chunk) async for chunk in reader.range(topic, 0, EARLIEST, LATEST, deadline_s=30)]
    assert sum(chunks) == 2 * CHUNK + 1
    assert max(chunks) <= CHUNK


async def test_a_range_that_does_not_exist_yet_has_a_deadline(
    kafka: Kafka, topic: str, producer: AIOKafkaProducer
) -> None:
    await write(producer, topic, 0, 0)
    with pytest.raises(Transient, match=r"0\.3 s"):
        await read_range(kafka, topic, 0, 0, 2, deadline_s=0.3)


async def test_following_begins_where_it_is_told_and_misses_nothing(
    kafka: Kafka, topic: str, producer: AIOKafkaProducer
) -> None:
    zero, one = TopicPartition(topic, 0), TopicPartition(topic, 1)
    await write(producer, topic, 0, 0, 1)
    await write(producer, topic, 1, 0, 1)
    async with Reader(kafka) as reader:
        ends = await reader.ends([zero, one])
        assert ends == {zero: 2, one: 2}
        await write(producer, topic, 0, 2)
        heard: dict[TopicPartition, list[bytes | None]] = {zero: [], one: []}
        positions: dict[TopicPartition, int] = {}
        async for at, records, position in reader.follow({zero: ends[zero], one: EARLIEST}):
            heard[at] += [record.value for record in records]
            positions[at] = position
            if positions == {zero: 3, one: 2}:
                await write(producer, topic, 1, 2)
            if positions == {zero: 3, one: 3}:
                break
    assert heard == {zero: [b"2"], one: [b"0", b"1", b"2"]}


async def test_a_topic_that_does_not_exist_is_an_error_in_time(kafka: Kafka) -> None:
    quick = Kafka(bootstrap=kafka.bootstrap, request_timeout_ms=300)
    with pytest.raises(Transient, match="are not to be had"):
        await read_range(quick, f"nothing-{uuid4().hex}")


async def test_no_broker_is_an_error_with_its_address() -> None:
    with pytest.raises(Unreachable, match=r"127\.0\.0\.1:1"):
        await read_range(Kafka(bootstrap="127.0.0.1:1"), "any")


async def test_a_cursor_that_came_late_is_soon_waited_for_together_with_the_others(kafka: Kafka, topic: str) -> None:
    fetching = Fetching(kafka, lambda _cursor: None, None)
    await fetching.start()
    running = asyncio.create_task(fetching.run())
    try:
        fetching.open(Cursor(topic, 0, 0))
        await until(lambda: "steady 1" in repr(fetching))
        fetching.open(Cursor(topic, 1, 0))
        await until(lambda: repr(fetching) == "<Fetching 2 cursors, under way: steady 2, prompt 0>")
    finally:
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running
        await fetching.close()


async def test_a_topic_that_was_not_made_is_named(kafka: Kafka, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_ends, "_UNKNOWN_S", 0.5)
    async with Reader(kafka) as reader:
        with pytest.raises(TopicMissing, match=r"topic nowhere is not there; `hal9 topics create`"):
            await reader.ends([TopicPartition("nowhere", 0)])
