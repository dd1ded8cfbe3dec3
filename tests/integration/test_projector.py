"""The projector's shell on a real Kafka and Valkey: what Redis lost is told again, at rest too."""

import asyncio
from collections.abc import Iterator
from contextlib import suppress
from uuid import uuid4

import pytest
from aiokafka import AIOKafkaProducer
from redis import Redis

from hal9 import wire
from hal9.backend.store import envelope
from hal9.settings import Settings
from hal9.settings.sections import Kafka
from hal9.settings.sections import Redis as RedisSection
from hal9.settings.sections import Topics as TopicsSection
from hal9.testing.echoing import until
from hal9.topics import Topics, create
from schemas.base import HIERARCHICAL, encode
from schemas.state import Claim
from services.migrator import projector as shell
from services.migrator.projection import applied_key, unit_key

KEY = b"projected-n1"


@pytest.fixture
def valkey(redis_url: str) -> Iterator[Redis]:
    with Redis.from_url(redis_url) as redis:
        yield redis
        for key in redis.scan_iter(match="hal9:{0}:*"):
            redis.delete(key)


async def test_a_redis_that_lost_its_last_second_is_told_again_though_nothing_new_is_written(
    bootstrap: str, redis_url: str, valkey: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shell, "CHECK_S", 0.2)
    section = TopicsSection(prefix=f"{uuid4().hex[:8]}.", partitions=1)
    kafka = Kafka(bootstrap=bootstrap)
    topics = Topics.of(section)
    await create(kafka, topics)
    async with AIOKafkaProducer(bootstrap_servers=bootstrap, acks="all") as producer:
        log = topics.name("units.replica")
        await producer.send_and_wait(log, encode(Claim(instance="i")), wire.CLAIM + b"x", partition=0)
        headers = wire.change_headers(wire.Change(1, 0, 0, HIERARCHICAL, "ok", None), 0, 0)
        await producer.send_and_wait(log, envelope({"n": 1}, b""), KEY, partition=0, headers=headers)
    settings = Settings(kafka=kafka, redis=RedisSection(url=redis_url), topics=section)
    unit, applied = unit_key(0, KEY.decode()), applied_key(0)
    running = asyncio.create_task(shell.Projector(settings).run())
    try:
        await until(lambda: valkey.hget(unit, "version") == b"1")
        valkey.delete(unit, applied)
        await until(lambda: valkey.hget(unit, "version") == b"1")
        assert valkey.hget(applied, log) is not None
    finally:
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running
