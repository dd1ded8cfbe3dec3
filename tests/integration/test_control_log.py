"""`control` on a real broker: everybody folds the same, and who appends learns the verdict."""

import asyncio
from collections.abc import AsyncIterator
from uuid import uuid4

import pytest
from aiokafka import AIOKafkaProducer

from hal9.control.log import ControlFollower, ControlWriter, following
from hal9.control.reducer import Outcome
from hal9.errors import Transient
from hal9.settings.sections import Kafka
from hal9.testing.unreadable import append_unreadable
from hal9.topics import Topics
from schemas.control import Rollback, Route

MIGRATION = "m1"


@pytest.fixture
async def follower(kafka: Kafka, topics: Topics) -> AsyncIterator[ControlFollower]:
    async with following(kafka, topics, MIGRATION) as follower:
        yield follower


@pytest.fixture
async def writer(kafka: Kafka, topics: Topics, follower: ControlFollower) -> AsyncIterator[ControlWriter]:
    writer = ControlWriter(kafka, topics, follower)
    yield writer
    await writer.close()


def route(epoch: int, percentage: float, record: str | None = None, migration: str = MIGRATION) -> Route:
    return Route(
        id=record or uuid4().hex,
        migration=migration,
        actor="test",
        at_ms=1,
        expected_epoch=epoch,
        percentage=percentage,
    )


async def test_the_verdict_comes_back_with_the_append(writer: ControlWriter, follower: ControlFollower) -> None:
    assert (await writer.append(route(0, 5.0))).verdict == "accepted"
    assert follower.state.epoch == 1
    stale = await writer.append(route(0, 50.0))
    assert stale.verdict == "refused"
    assert "epoch moved on" in stale.reason
    assert follower.state.route.percentage == 5.0


async def test_the_same_record_again_does_nothing(writer: ControlWriter, follower: ControlFollower) -> None:
    record = route(0, 5.0)
    await writer.append(record)
    assert (await writer.append(record)).verdict == "duplicate"
    assert follower.state.epoch == 1


async def test_of_two_writers_one_wins(kafka: Kafka, topics: Topics, follower: ControlFollower) -> None:
    writers = [ControlWriter(kafka, topics, follower) for _ in range(2)]
    outcomes = await asyncio.gather(*(writer.append(route(0, 1.0 + n)) for n, writer in enumerate(writers)))
    assert sorted(outcome.verdict for outcome in outcomes) == ["accepted", "refused"]
    for writer in writers:
        await writer.close()


async def test_a_follower_that_comes_later_has_caught_up_when_it_is_there(
    kafka: Kafka, topics: Topics, writer: ControlWriter, follower: ControlFollower
) -> None:
    for epoch in range(20):
        await writer.append(route(epoch, float(epoch)))
    async with following(kafka, topics, MIGRATION) as later:
        assert later.state == follower.state
        assert later.state.epoch == 20


async def test_listeners_hear_of_each_record_of_their_migration(
    writer: ControlWriter, follower: ControlFollower
) -> None:
    heard: list[tuple[int, Outcome]] = []
    follower.listen(lambda offset, outcome: heard.append((offset, outcome)))
    await writer.append(route(0, 5.0))
    await writer.append(route(0, 5.0, migration="another"))
    await writer.append(route(0, 6.0))
    assert [(offset, outcome.verdict) for offset, outcome in heard] == [(0, "accepted"), (2, "refused")]


async def test_waiting_has_a_deadline(follower: ControlFollower) -> None:
    with pytest.raises(Transient, match=r"0\.05 s"):
        await follower.wait_until(lambda state: state.epoch > 0, deadline_s=0.05)


async def test_garbage_freezes_promotion_and_stops_nobody(
    kafka: Kafka, topics: Topics, writer: ControlWriter, follower: ControlFollower
) -> None:
    async with AIOKafkaProducer(bootstrap_servers=kafka.bootstrap) as producer:
        await producer.send_and_wait(topics.name("control"), b"\xc1 garbage", b"m1", 0)
    assert (await writer.append(route(0, 5.0))).verdict == "refused"
    assert follower.state.frozen is not None
    back = Rollback(
        id=uuid4().hex, migration=MIGRATION, actor="test", at_ms=1, expected_epoch=0, trigger="manual", reason="try"
    )
    assert (await writer.append(back)).verdict == "accepted"


async def test_a_record_that_cannot_be_read_counts_as_not_understood(
    kafka: Kafka, topics: Topics, writer: ControlWriter, follower: ControlFollower
) -> None:
    async with AIOKafkaProducer(bootstrap_servers=kafka.bootstrap) as producer:
        await append_unreadable(producer, topics.name("control"), 0)
    assert (await writer.append(route(0, 5.0))).verdict == "refused"
    assert follower.state.unknown == [0, 1, 2]
    async with following(kafka, topics, MIGRATION) as later:
        assert later.state == follower.state


async def test_an_append_that_cannot_be_made_says_so(topics: Topics, follower: ControlFollower) -> None:
    writer = ControlWriter(Kafka(bootstrap="127.0.0.1:1"), topics, follower)
    with pytest.raises(Transient, match=r"127\.0\.0\.1:1"):
        await writer.append(route(0, 5.0))
    await writer.close()
