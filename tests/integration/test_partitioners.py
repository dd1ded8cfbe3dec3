"""Any producer's partitioner: requests of librdkafka's default one are answered, and so is a native system with it.

`flat` is played by a consumer and a producer of confluent-kafka, which puts its responses where librdkafka likes.
"""

import asyncio
import json
import os
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from msgspec.structs import replace

confluent_kafka = pytest.importorskip("confluent_kafka", reason="librdkafka's partitioner is what is tested")

from hal9 import wire  # noqa: E402  after the skip
from hal9.keys import partition_of  # noqa: E402
from hal9.local.services import Services  # noqa: E402
from hal9.log.reading import read_range  # noqa: E402
from hal9.settings import Kafka, Settings  # noqa: E402
from hal9.settings import Topics as TopicSettings  # noqa: E402
from hal9.testing.echoing import until  # noqa: E402
from hal9.testing.hostile import Attacker, attacking  # noqa: E402
from hal9.topics import Topics, create  # noqa: E402
from stack.local import Endpoints  # noqa: E402

PARTITIONS = 6


@pytest.fixture(scope="module")
def settings(endpoints: Endpoints, empty_redis: Callable[[], str]) -> Settings:
    kafka = Kafka(bootstrap=endpoints.bootstrap)
    made = Settings(kafka=kafka, topics=TopicSettings(prefix=f"native-{uuid4().hex[:8]}.", partitions=PARTITIONS))
    return replace(made, redis=replace(made.redis, url=empty_redis()))


@pytest.fixture(scope="module")
def topics(settings: Settings) -> Topics:
    return Topics.of(settings.topics)


@contextmanager
def native_system(bootstrap: str, topics: Topics) -> Iterator[list[tuple[int, int]]]:
    """Answers each dispatched request with its value, key and the default partitioner; (dispatched, answered) at."""
    consumer = confluent_kafka.Consumer(
        {"bootstrap.servers": bootstrap, "group.id": uuid4().hex, "auto.offset.reset": "earliest"}
    )
    producer = confluent_kafka.Producer({"bootstrap.servers": bootstrap, "linger.ms": 0})
    consumer.subscribe([topics.name("dispatched")])
    over, places = threading.Event(), list[tuple[int, int]]()

    def serve() -> None:
        while not over.is_set():
            record = consumer.poll(0.05)
            if record is not None and record.error() is None and (record.key() or b"")[:1] != b"\0":
                answer(record)
            producer.poll(0)

    def answer(record: Any) -> None:
        headers = dict(record.headers())
        if headers.get("primary") != b"flat":
            return
        at = record.partition()
        copied = [(name, headers[name]) for name in ("id", "position", "epoch")]
        producer.produce(
            topics.name("responses.flat"),
            b"<" + (record.value() or b"") + b">",
            record.key(),
            headers=[*copied, ("role", b"primary"), ("status", b"ok")],
            on_delivery=lambda _, stored: places.append((at, stored.partition())),
        )

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield places
    finally:
        over.set()
        thread.join()
        producer.flush(10)
        consumer.close()


@pytest.fixture(scope="module")
def environment(settings: Settings) -> dict[str, str]:
    return {
        "HAL9_KAFKA__BOOTSTRAP": settings.kafka.bootstrap,
        "HAL9_REDIS__URL": settings.redis.url,
        "HAL9_TOPICS__PREFIX": settings.topics.prefix,
        "HAL9_TOPICS__PARTITIONS": str(PARTITIONS),
    }


@pytest.fixture(scope="module")
def places(
    settings: Settings, topics: Topics, environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[list[tuple[int, int]]]:
    """A router in a process of its own, and the native system."""
    asyncio.run(create(settings.kafka, topics))
    running = Services(tmp_path_factory.mktemp("native"), environment)
    with native_system(settings.kafka.bootstrap, topics) as places:
        try:
            running.start(["router"])
            running.await_ready(lambda _: None, ["router"])
            yield places
        finally:
            running.stop()


@pytest.fixture
async def reading(settings: Settings, topics: Topics, places: object) -> AsyncIterator[Attacker]:
    async with attacking(settings.kafka, topics) as attacker:
        yield attacker


def produce(
    settings: Settings, topics: Topics, records: Sequence[tuple[bytes | None, list[tuple[str, bytes]]]]
) -> list[tuple[int, int]]:
    """With the default partitioner of librdkafka; where each was stored."""
    producer = confluent_kafka.Producer({"bootstrap.servers": settings.kafka.bootstrap})
    stored: dict[int, tuple[int, int]] = {}
    for number, (key, headers) in enumerate(records):
        producer.produce(
            topics.name("requests"),
            b"%d" % number,
            key,
            headers=headers,
            on_delivery=lambda _, record, number=number: stored.update({number: (record.partition(), record.offset())}),
        )
    assert producer.flush(30) == 0
    return [stored[number] for number in range(len(records))]


async def test_requests_of_librdkafka_are_answered_with_headers_and_without(
    settings: Settings, topics: Topics, reading: Attacker, places: list[tuple[int, int]]
) -> None:
    bare = [(b"bare-%d" % number, list[tuple[str, bytes]]()) for number in range(30)]
    full = [
        (b"full-%d" % number, [("id", b"full-%d" % number), *((f"h{i}", b"%d" % i) for i in range(31))])
        for number in range(30)
    ]
    at = await asyncio.to_thread(produce, settings, topics, bare + full)
    names = [wire.default_id(topics.name("requests"), *where) for where in at[:30]] + [f"full-{n}" for n in range(30)]
    await reading.answered({name: ["ok"] for name in names})
    assert [reading.answers.by_id[name][0].value for name in names] == [b"<%d>" % number for number in range(60)]
    misplaced = [
        (key, where) for (key, _), where in zip(bare + full, at, strict=True) if partition_of(key, 6) != where[0]
    ]
    assert len(misplaced) > 30, "librdkafka's default partitioner agrees with murmur2 by chance alone"
    # The native system hears where its responses were stored a little later than the router reads them.
    await until(lambda: sum(dispatched != answered for dispatched, answered in places) > 30)
    for log in ("dispatched", "responses"):
        for number in range(PARTITIONS):
            found = await read_range(settings.kafka, topics.name(log), number)
            assert {partition_of(r.key or b"", 6) for r in found if (r.key or b"\0")[:1] != b"\0"} <= {number}
    (headers,) = [
        dict(record.headers)
        for record in await read_range(settings.kafka, topics.name("dispatched"), partition_of(b"full-0", 6))
        if record.key == b"full-0"
    ]
    assert all(headers[f"h{i}"] == b"%d" % i for i in range(31))


async def test_one_id_is_one_request_wherever_its_copies_lie(
    settings: Settings, topics: Topics, reading: Attacker
) -> None:
    key, name = b"twice", uuid4().hex
    headers = [("id", name.encode())]
    await asyncio.to_thread(produce, settings, topics, [(key, headers)])
    await reading.answered({name: ["ok"]})
    for number in range(PARTITIONS):
        await reading.produce("requests", key, b"x", headers, number)
    await reading.answered({name: ["ok"] * (PARTITIONS + 1)})
    assert {record.value for record in reading.answers.by_id[name]} == {b"<0>"}
    found = await read_range(settings.kafka, topics.name("dispatched"), partition_of(key, PARTITIONS))
    assert len([record for record in found if record.key == key]) == 1


async def test_requests_without_a_key_are_rejected_wherever_they_lie(
    settings: Settings, topics: Topics, reading: Attacker
) -> None:
    at = await asyncio.to_thread(produce, settings, topics, [(None, []), (None, [("id", b"mine")]), (b"", [])])
    names = [wire.default_id(topics.name("requests"), *at[0]), "mine", wire.default_id(topics.name("requests"), *at[2])]
    await reading.answered({name: ["rejected bad-key"] for name in names})


async def test_many_requests_are_sent_from_the_shell_and_summed_up(
    environment: dict[str, str], places: object, tmp_path: Path
) -> None:
    lines = [json.dumps({"key": f"n{number % 7}", "value": {"number": number}}) for number in range(300)]
    out = tmp_path / "answers.jsonl"
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "hal9", "request", "send", "-", "--out", str(out), "-o", "json", "--retries", "1"),
        env=os.environ | environment,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(60):
        said, complaints = await process.communicate("\n".join(lines).encode())
    assert (process.returncode, complaints) == (0, b"")
    summary = json.loads(said)
    assert (summary["sent"], summary["ok"], summary["not_ok"]) == (300, 300, {})
    assert [(row["served_by"], row["answered"]) for row in summary["latencies"]] == [("all", 300), ("flat", 300)]
    answers = {row["line"]: row for row in map(json.loads, out.read_text().splitlines())}
    assert sorted(answers) == list(range(1, 301))
    assert {row["key"] for row in answers.values()} == {f"n{number}" for number in range(7)}
