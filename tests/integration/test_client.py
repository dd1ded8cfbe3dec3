"""The client against a real broker, with a scripted answerer in the router's place."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.structs import ConsumerRecord
from msgspec.structs import replace
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from hal9 import topics
from hal9.client import Answer, Client
from hal9.errors import Transient, Unreachable
from hal9.keys import partition_of
from hal9.settings import Client as ClientSettings
from hal9.settings import Kafka, Settings
from hal9.settings import Topics as TopicSettings
from hal9.telemetry.tracing import OtelTracer, make_provider, parse_traceparent

Reply = tuple[bytes | None, bytes, list[tuple[str, bytes]]]
Script = Callable[[ConsumerRecord], list[Reply]]


@pytest.fixture(scope="module")
def settings(bootstrap: str) -> Settings:
    prefix = f"client-{uuid.uuid4().hex[:8]}."
    made = Settings(
        kafka=Kafka(bootstrap=bootstrap),
        topics=TopicSettings(prefix=prefix, partitions=3),
        client=ClientSettings(deadline_ms=20_000, grace_ms=200),
    )
    asyncio.run(topics.create(made.kafka, topics.Topics.of(made.topics)))
    return made


@asynccontextmanager
async def answerer(settings: Settings, script: Script) -> AsyncIterator[list[ConsumerRecord]]:
    """Plays the router: what `script` makes of each request is appended to `responses`, same partition."""
    names = settings.topics.names()
    seen: list[ConsumerRecord] = []
    consumer = AIOKafkaConsumer(names["requests"], bootstrap_servers=settings.kafka.bootstrap)
    producer = AIOKafkaProducer(bootstrap_servers=settings.kafka.bootstrap)

    async def serve() -> None:
        async for record in consumer:
            seen.append(record)
            for key, value, headers in script(record):
                await producer.send(names["responses"], value, key=key, partition=record.partition, headers=headers)

    await consumer.start()
    await consumer.seek_to_end()
    await producer.start()
    task = asyncio.create_task(serve())
    try:
        yield seen
    finally:
        task.cancel()
        await asyncio.wait([task])
        await producer.stop()
        await consumer.stop()


def headers_of(record: ConsumerRecord) -> dict[str, bytes]:
    return dict(record.headers)


def echo(record: ConsumerRecord, **more: bytes) -> list[Reply]:
    fields = {"status": b"ok", "served-by": b"flat", "epoch": b"3", **more}
    name = headers_of(record)["id"]
    return [(record.key, b"<" + record.value + b">", [("id", name), *fields.items()])]


def silence() -> tuple[asyncio.Event, Script]:
    """A script that never answers, and the event of its first request."""
    read = asyncio.Event()

    def silent(record: ConsumerRecord) -> list[Reply]:
        read.set()
        return []

    return read, silent


async def test_a_request_is_answered(settings: Settings) -> None:
    async with answerer(settings, echo) as seen, Client(settings=settings) as client:
        answer = await client.request("neuron-1", b"x", operation="activate", deadline_s=30, request_id="mine")
        assert (answer.status, answer.value, answer.served_by, answer.epoch) == ("ok", b"<x>", "flat", 3)
        assert (answer.id, answer.error, answer.local) == ("mine", None, False)
        headers = headers_of(seen[0])
        assert headers["operation"] == b"activate"
        assert seen[0].partition == partition_of(b"neuron-1", 3)
        assert 25_000 < int(headers["deadline-ms"]) - seen[0].timestamp < 35_000
        assert "traceparent" not in headers


async def test_many_are_answered_in_the_order_of_asking(settings: Settings) -> None:
    settings = replace(settings, client=replace(settings.client, in_flight_max=40))
    asks = [(f"neuron-{i % 17}", "learn", b"%d" % i) for i in range(500)]
    async with answerer(settings, echo), Client(settings=settings) as client:
        answers = await client.request_many(asks, concurrency=200)
    assert [answer.value for answer in answers] == [b"<%d>" % i for i in range(500)]
    assert len({answer.id for answer in answers}) == 500
    assert (client.counts.sent, client.counts.answered, client.counts.ok) == (500, 500, 500)


async def test_the_first_answer_counts_and_repeats_are_removed_and_counted(settings: Settings) -> None:
    def twice(record: ConsumerRecord) -> list[Reply]:
        mark: Reply = (b"\0claim/1", b"", [("id", headers_of(record)["id"]), ("status", b"error")])
        foreign: Reply = (record.key, b"", [("id", b"another client's"), ("status", b"ok")])
        return [mark, foreign, *echo(record), *echo(record, status=b"error"), *echo(record)]

    async with answerer(settings, twice), Client(settings=settings) as client:
        answers = await client.request_many([("n", "learn", b"%d" % i) for i in range(20)])
        # The repeats of the last request come after its answer.
        while client.repeated < 40:
            await client.request("n")
    assert {answer.status for answer in answers} == {"ok"}
    assert client.counts.answered == client.counts.sent
    assert client.counts.error == 0


@pytest.mark.parametrize("status", ["error", "rejected", "timeout"])
async def test_what_is_not_ok_says_why(settings: Settings, status: str) -> None:
    def refuse(record: ConsumerRecord) -> list[Reply]:
        return echo(record, status=status.encode(), error=b"bad-value")

    async with answerer(settings, refuse), Client(settings=settings) as client:
        answer = await client.request("n", b"x")
    assert (answer.status, answer.error, answer.local) == (status, "bad-value", False)
    assert getattr(client.counts, status) == 1


async def test_without_an_answer_the_client_gives_up_by_itself_and_a_late_one_changes_nothing(
    settings: Settings,
) -> None:
    held: list[Reply] = []

    def hold(record: ConsumerRecord) -> list[Reply]:
        if headers_of(record)["operation"] == b"release":
            return [*held, *held, *echo(record)]
        held.extend(echo(record))
        return []

    async with answerer(settings, hold), Client(settings=settings) as client:
        answer = await client.request("n", b"x", deadline_s=0.2)
        assert (answer.status, answer.error, answer.local) == ("timeout", "no-answer", True)
        assert answer.served_by is None
        assert answer.elapsed_ms >= 400
        assert (await client.request("n", operation="release")).status == "ok"
        counts = client.counts
    assert (counts.gave_up, counts.timeout, counts.late, counts.repeated) == (1, 1, 1, 1)
    assert counts.answered == counts.sent == 2


@pytest.mark.parametrize("key", ["", "\0claim/1", "x" * 257, b"\xff"])
async def test_a_key_that_is_no_neuron_id_is_refused_before_it_is_sent(settings: Settings, key: str | bytes) -> None:
    async with Client(settings=settings) as client:
        with pytest.raises(ValueError, match="key"):
            await client.request(key)
        assert client.counts.sent == 0


async def test_what_is_too_large_for_the_broker_is_rejected_here(settings: Settings) -> None:
    async with Client(settings=settings) as client:
        answer = await client.request("n", bytes(3_000_000))
    assert (answer.status, answer.error, answer.local) == ("rejected", "too-large", True)


async def test_no_more_than_the_limit_is_in_flight(settings: Settings) -> None:
    settings = replace(settings, client=replace(settings.client, in_flight_max=3))
    most = 0

    def watch(record: ConsumerRecord) -> list[Reply]:
        nonlocal most
        most = max(most, client.counts.sent - client.counts.answered)
        return echo(record)

    async with answerer(settings, watch), Client(settings=settings) as client:
        await client.request_many([("n", "learn", b"") for _ in range(50)], concurrency=50)
    assert most == 3


async def test_closing_ends_what_is_open(settings: Settings) -> None:
    read, silent = silence()
    async with answerer(settings, silent):
        async with Client(settings=settings) as client:
            waiting = asyncio.create_task(client.request("n"))
            await read.wait()
        answer: Answer = await waiting
    assert (answer.status, answer.error, answer.local) == ("timeout", "closed", True)
    with pytest.raises(Transient, match="not open"):
        await client.request("n")


async def test_a_caller_that_goes_leaves_nothing_open(settings: Settings) -> None:
    read, silent = silence()
    async with answerer(settings, silent), Client(settings=settings) as client:
        waiting = asyncio.create_task(client.request("n"))
        await read.wait()
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert client.counts.timeout == 1
        assert "0 open" in repr(client)


async def test_a_sampled_request_carries_its_trace(settings: Settings) -> None:
    exporter = InMemorySpanExporter()
    provider = make_provider("client", "client-1", SimpleSpanProcessor(exporter))
    tracer = OtelTracer(provider, head_ratio=1.0)
    async with answerer(settings, echo) as seen, Client(settings=settings, tracer=tracer) as client:
        await client.request("n", operation="activate")
    (span,) = exporter.get_finished_spans()
    context = parse_traceparent(headers_of(seen[0])["traceparent"])
    assert context is not None
    assert (context.trace_id, context.span_id) == (span.context.trace_id, span.context.span_id)
    assert span.name == "send requests"
    attributes: Any = span.attributes
    assert attributes["hal9.operation"] == "activate"


async def test_missing_topics_are_named(bootstrap: str) -> None:
    kafka = Kafka(bootstrap=bootstrap, request_timeout_ms=500)
    settings = Settings(kafka=kafka, topics=TopicSettings(prefix="nowhere."))
    with pytest.raises(Transient, match=r"nowhere\.requests"):
        async with Client(settings=settings):
            pass


async def test_a_broker_that_is_not_there_is_named(unused_tcp_port: int) -> None:
    settings = Settings(kafka=Kafka(bootstrap=f"127.0.0.1:{unused_tcp_port}", wait_s=0.3))
    with pytest.raises(Unreachable, match=str(unused_tcp_port)):
        async with Client(settings=settings):
            pass
