"""Heartbeats over a real broker: heard while sent, a clean leave is heard too, garbage is passed over."""

import asyncio
import uuid
from collections.abc import Awaitable, Callable

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from hal9.errors import Transient
from hal9.heartbeat import Heartbeat, StatusFollower, instance_name
from hal9.settings import Kafka
from schemas.telemetry import Status

Condition = Callable[[Callable[[], bool]], Awaitable[None]]


@pytest.fixture
async def topic(bootstrap: str) -> str:
    name = f"status-{uuid.uuid4().hex[:8]}"
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    await admin.create_topics([NewTopic(name, 1, 1)])
    await admin.close()
    return name


@pytest.fixture
def until() -> Condition:
    async def wait(condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(30):
            while not condition():  # noqa: ASYNC110  what is waited for happens in another task's objects
                await asyncio.sleep(0.01)

    return wait


async def test_a_heartbeat_is_heard_while_it_beats_and_its_leave_at_once(
    bootstrap: str, topic: str, until: Condition
) -> None:
    kafka = Kafka(bootstrap=bootstrap)
    name = instance_name("flat")

    def make() -> Status:
        return Status(instance=name, service="flat", at_ms=0, read_only=["read"], in_flight=3)

    async with StatusFollower(kafka, topic, dead_after_ms=600_000) as follower:
        now = follower.liveness._started_ms
        async with Heartbeat(kafka, topic, make):
            await until(lambda: bool(follower.liveness.alive("flat", now)))
        await until(lambda: not follower.liveness.alive("flat", now))
        (last,) = follower.liveness.newest("flat")
        assert (last.instance, last.in_flight, last.leaving) == (name, 3, True)
        assert follower.trouble() == []


async def test_a_process_that_dies_says_no_good_bye(bootstrap: str, topic: str, until: Condition) -> None:
    kafka = Kafka(bootstrap=bootstrap)

    async def die() -> None:
        async with Heartbeat(kafka, topic, lambda: Status(instance="flat-1", service="flat", at_ms=0)):
            await until(lambda: bool(follower.liveness.newest("flat")))
            raise RuntimeError

    async with StatusFollower(kafka, topic) as follower:
        with pytest.raises(RuntimeError):
            await die()
        await until(lambda: "flat" in follower.liveness.dead(follower._clock.now_ms()))
        assert not follower.liveness.newest("flat")[0].leaving


async def test_garbage_on_the_topic_is_passed_over(bootstrap: str, topic: str, until: Condition) -> None:
    kafka = Kafka(bootstrap=bootstrap)
    async with StatusFollower(kafka, topic) as follower:
        producer = AIOKafkaProducer(bootstrap_servers=bootstrap)
        await producer.start()
        for value in (b"garbage", None, b"\x81\xa8instance\x01"):
            await producer.send_and_wait(topic, value, key=b"x")
        await producer.stop()
        async with Heartbeat(kafka, topic, lambda: Status(instance="flat-1", service="flat", at_ms=0)):
            await until(lambda: bool(follower.liveness.newest("flat")))


async def test_a_missing_topic_is_named(bootstrap: str) -> None:
    with pytest.raises(Transient, match="no-such-status"):
        async with StatusFollower(Kafka(bootstrap=bootstrap, request_timeout_ms=500), "no-such-status"):
            pass
