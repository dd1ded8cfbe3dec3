"""The projector's shell on a real Kafka and Valkey: what Redis lost is told again, what another had is gone on with."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
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
PARTITIONS = range(2)


@pytest.fixture
def valkey(redis_url: str) -> Iterator[Redis]:
    with Redis.from_url(redis_url) as redis:
        yield redis
        for partition in PARTITIONS:
            for key in redis.scan_iter(match=f"hal9:{{{partition}}}:*"):
                redis.delete(key)


@pytest.fixture
async def settings(kafka: Kafka, redis_url: str) -> Settings:
    section = TopicsSection(prefix=f"{uuid4().hex[:8]}.", partitions=len(PARTITIONS))
    await create(kafka, Topics.of(section))
    return Settings(kafka=kafka, redis=RedisSection(url=redis_url), topics=section)


@asynccontextmanager
async def projecting(settings: Settings) -> AsyncIterator[shell.Projector]:
    projector = shell.Projector(settings)
    running = asyncio.create_task(projector.run())
    try:
        yield projector
    finally:
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running


async def change(producer: AIOKafkaProducer, settings: Settings, version: int) -> None:
    """A new version of the unit in every partition, by the writer that claims them first."""
    log = Topics.of(settings.topics).name("units.replica")
    for partition in PARTITIONS:
        if version == 1:
            await producer.send_and_wait(log, encode(Claim(instance="i")), wire.CLAIM + b"x", partition=partition)
        headers = wire.change_headers(wire.Change(version, 0, 0, HIERARCHICAL, "ok", None), 0, 0)
        await producer.send_and_wait(log, envelope({"n": version}, b""), KEY, partition=partition, headers=headers)


def shown(valkey: Redis) -> list[object]:
    """The version that Redis shows, by partition."""
    return [valkey.hget(unit_key(partition, KEY.decode()), "version") for partition in PARTITIONS]


async def test_a_redis_that_lost_its_last_second_is_told_again_though_nothing_new_is_written(
    settings: Settings, producer: AIOKafkaProducer, valkey: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shell, "CHECK_S", 0.2)
    await change(producer, settings, 1)
    async with projecting(settings):
        await until(lambda: shown(valkey) == [b"1", b"1"])
        valkey.delete(unit_key(1, KEY.decode()), applied_key(1))
        await until(lambda: shown(valkey) == [b"1", b"1"])
        assert valkey.hget(applied_key(1), Topics.of(settings.topics).name("units.replica")) is not None


async def test_two_share_the_partitions_and_who_stays_goes_on_with_all_of_them(
    settings: Settings, producer: AIOKafkaProducer, valkey: Redis
) -> None:
    await change(producer, settings, 1)
    async with projecting(settings) as one:
        await until(lambda: shown(valkey) == [b"1", b"1"])
        async with projecting(settings) as two:
            await until(lambda: {len(one._assigned), len(two._assigned)} == {2})
            assert not one._assigned & two._assigned
            await change(producer, settings, 2)
            await until(lambda: shown(valkey) == [b"2", b"2"])
            await until(lambda: (one.applied, two.applied) == (5, 1))
        await change(producer, settings, 3)
        await until(lambda: shown(valkey) == [b"3", b"3"])
        await until(lambda: (one.applied, two.applied) == (7, 1))


async def test_a_projector_that_is_told_to_stop_does_though_its_client_swallows_that(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    projector, asked = shell.Projector(settings), asyncio.Event()

    async def swallowing(*_: object) -> object:
        if asked.is_set():
            await asyncio.Event().wait()  # for ever, and only the first one is swallowed: this test ends anyhow
        asked.set()
        with suppress(asyncio.CancelledError):
            await asyncio.Event().wait()
        return [None]

    monkeypatch.setattr(projector._redis, "hmget", swallowing)
    running = asyncio.create_task(projector.run())
    async with asyncio.timeout(30):
        await asked.wait()
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
