"""The client while brokers refuse, go down and hand partitions over, and a process that holds several clients."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from aiokafka import TopicPartition
from msgspec.structs import replace

from hal9 import wire
from hal9.client import Client, shared_client
from hal9.log.producer import start_producer, stop_producer
from hal9.log.reading import Reader
from hal9.settings import Client as ClientSettings
from hal9.settings import Settings
from hal9.testing.echoing import until
from hal9.testing.mock_cluster import (
    BROKERS,
    FETCH,
    NOT_LEADER,
    OUT_OF_ORDER,
    PRODUCE,
    TOO_LARGE,
    MockCluster,
)

PARTITIONS = 6


@pytest.fixture
async def settings(cluster: MockCluster) -> AsyncIterator[Settings]:
    """A service that answers each id once, however often it is asked: with how often it was asked until then."""
    made = Settings(kafka=cluster.kafka, client=ClientSettings(deadline_ms=50_000, grace_ms=1_000))
    names = made.topics.names()
    for log in ("requests", "responses"):
        cluster.create(names[log], PARTITIONS)
    answering = asyncio.create_task(answer(made, names["requests"], names["responses"]))
    yield made
    answering.cancel()
    await asyncio.wait([answering])


async def answer(settings: Settings, requests: str, responses: str) -> None:
    producer = await start_producer(settings.kafka, 30)
    seen: set[bytes] = set()
    try:
        async with Reader(settings.kafka) as reader:
            async for chunk in reader.follow({TopicPartition(requests, number): 0 for number in range(PARTITIONS)}):
                for record in chunk.records:
                    name = wire.header(record.headers, wire.ID) or b""
                    value = b"again" if name in seen else b"first"
                    seen.add(name)
                    headers = [("id", name), ("status", b"ok")]
                    await producer.send(responses, value, record.key, chunk.at.partition, headers=headers)
    finally:
        await stop_producer(producer)


def asks(count: int) -> list[tuple[str, str, bytes]]:
    return [(f"n{number}", "learn", b"") for number in range(count)]


async def test_partitions_that_move_cost_time_and_nothing_else(cluster: MockCluster, settings: Settings) -> None:
    names = settings.topics.names()
    async with Client(settings=settings) as client:
        assert {a.value for a in await client.request_many(asks(100))} == {b"first"}
        for number in range(PARTITIONS):
            for log in ("requests", "responses"):
                cluster.lead(names[log], number, (number + 1) % BROKERS + 1)
        assert await collect(client, 100) == {("ok", b"first")}
    assert (client.counts.ok, client.counts.gave_up, client.counts.resent) == (200, 0, 0)


async def test_a_broker_that_goes_down_and_comes_back_costs_time_and_nothing_else(
    cluster: MockCluster, settings: Settings
) -> None:
    settings = replace(settings, kafka=replace(settings.kafka, request_timeout_ms=2_000))
    async with Client(settings=settings) as client:
        await client.request_many(asks(20))
        cluster.down(2)
        before = client.counts.answered
        asking = asyncio.create_task(collect(client, 60))
        # Those of the other brokers' partitions are answered all the while.
        await until(lambda: client.counts.answered > before + 10)
        assert not asking.done()
        cluster.up(2)
        assert await asking == {("ok", b"first")}
    assert client.counts.gave_up == 0


async def collect(client: Client, count: int) -> set[tuple[str, bytes]]:
    return {(answer.status, answer.value) for answer in await client.request_many(asks(count))}


@pytest.mark.parametrize(
    ("error", "status", "resent"),
    [(OUT_OF_ORDER, ("ok", None), 1), (NOT_LEADER, ("ok", None), 0), (TOO_LARGE, ("rejected", "too-large"), 0)],
    ids=["by a new producer", "by the producer itself", "never"],
)
async def test_a_send_that_fails_is_made_again_under_its_id(
    cluster: MockCluster, settings: Settings, error: int, status: tuple[str, str | None], resent: int
) -> None:
    async with Client(settings=replace(settings, client=replace(settings.client, producers=2))) as client:
        await client.request_many(asks(20))
        cluster.fail(PRODUCE, error)  # all is answered: the next to send is the client
        answer = await client.request("n", retries=3)
        assert (answer.status, answer.error) == status
        assert client.counts.resent == resent
        assert await collect(client, 20) == {("ok", b"first")}


async def test_fetches_that_are_refused_for_a_while_are_asked_again(cluster: MockCluster, settings: Settings) -> None:
    async with Client(settings=settings) as client:
        cluster.fail(FETCH, *[NOT_LEADER] * 4)
        assert {a.status for a in await client.request_many(asks(50))} == {"ok"}


async def test_all_who_ask_in_one_loop_share_a_client_until_the_last_has_left(settings: Settings) -> None:
    seen: list[Client] = []

    async def one() -> None:
        async with shared_client(settings=settings) as client:
            seen.append(client)
            assert (await client.request("n")).ok

    await asyncio.gather(*(one() for _ in range(20)))
    assert len(set(map(id, seen))) == 1
    assert seen[0].counts.ok == 20
    await one()
    assert seen[-1] is not seen[0]
    assert seen[-1].counts.ok == 1
    await until(lambda: "0 open" in repr(seen[-1]))
