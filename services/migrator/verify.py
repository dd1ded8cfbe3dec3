"""A full comparison of both stores, and of Redis, from the logs themselves: `hal9 state verify` and the demo's audit.

It may run beside traffic: a key that differs is looked at again until it is equal, has moved on, or has differed in
the same way for as long as the patience lasts.
"""

import asyncio
from collections.abc import Collection
from dataclasses import asdict
from typing import Any

import msgspec
from aiokafka import TopicPartition
from redis.exceptions import RedisError

from hal9.backend.store import layer_of_unit
from hal9.connection import redis_client
from hal9.control.log import following
from hal9.control.reducer import ROUTE_SALT, ControlState, salt
from hal9.errors import Transient, Unreachable
from hal9.keys import bucket_of, partition_of
from hal9.log.administration import committed
from hal9.log.effects import EARLIEST, LATEST, Commit
from hal9.log.reading import Reader
from hal9.settings import Settings
from hal9.settings.loading import masked_url
from hal9.topics import Topics
from schemas.base import FLAT, HIERARCHICAL, SYSTEMS, System, Tree, decode
from services.migrator.projection import unit_key
from services.migrator.stores import Expected, RedisUnit, Report, Store, compare

_tree = msgspec.msgpack.Decoder(Tree)
_LOG_S = 120.0
"""Deadline of reading one log of one partition."""
_ADMIN_S = 10.0
_PAUSE_S = 0.5
_SCAN = 1_000


async def verify(settings: Settings, *, with_redis: bool = True, patience_s: float = 5.0) -> Report:
    """Compare everything; what differs still after `patience_s` is in the report.

    Raises:
        Unreachable: Kafka or Redis did not answer.
        Transient: a log was not read in time.
    """
    topics = Topics.of(settings.topics)
    redis: Any = redis_client(settings.redis) if with_redis else None
    try:
        async with (
            Reader(settings.kafka) as reader,
            following(settings.kafka, topics, settings.migration.id) as follower,
        ):
            looker = _Looker(settings, topics, reader, redis, follower.state)
            return await _patiently(looker, patience_s)
    except RedisError as error:
        raise Unreachable(f"Redis at {masked_url(settings.redis.url)}: {error!r}") from error
    finally:
        if redis is not None:
            await redis.aclose()


async def holdings(settings: Settings, key: str) -> dict[str, Any]:
    """What both systems and Redis hold of one key, and where it belongs by the newest route."""
    topics, name = Topics.of(settings.topics), key.encode()
    partition = partition_of(name, settings.topics.partitions)
    bucket = bucket_of(salt(settings.migration.id, ROUTE_SALT), name)
    found: dict[str, Any] = {"key": key, "partition": int(partition), "bucket": int(bucket)}
    async with (
        Reader(settings.kafka) as reader,
        following(settings.kafka, topics, settings.migration.id) as follower,
    ):
        for system, store in (await _stores(settings, topics, reader, partition)).items():
            newest = store.newest.get(name)
            found[system] = None if newest is None else asdict(newest)
        unit = found[HIERARCHICAL] or {}
        found["owner"] = follower.state.route.owner(bucket, key, layer_of_unit(unit.get("state")))
    redis: Any = redis_client(settings.redis)
    try:
        version, unit = await redis.hmget(unit_key(partition, key), "version", "unit")
    except RedisError as error:
        raise Unreachable(f"Redis at {masked_url(settings.redis.url)}: {error!r}") from error
    finally:
        await redis.aclose()
    found["redis"] = None if version is None else {"version": int(version), "unit": unit and decode(_tree, unit)}
    return found


async def _stores(settings: Settings, topics: Topics, reader: Reader, partition: int) -> dict[System, Store]:
    """Both stores of a partition, read from the logs as they are now."""
    stores = {system: Store(system, settings.migration.id) for system in SYSTEMS}
    for store in stores.values():
        for log in store.logs:
            chunks = reader.range(topics.name(log), partition, EARLIEST, LATEST, deadline_s=_LOG_S)
            async for records in chunks:
                store.feed(log, records)
    return stores


async def _patiently(looker: "_Looker", patience_s: float) -> Report:
    """Only what differs in every look, in the same way, is a difference; the rest was in motion."""
    loop = asyncio.get_running_loop()
    until_s = loop.time() + patience_s
    report = await looker.look(range(looker.partitions))
    while report.differences and loop.time() < until_s:
        await asyncio.sleep(_PAUSE_S)
        again = await looker.look({difference.partition for difference in report.differences})
        still = set(again.differences)
        settled = [difference for difference in report.differences if difference not in still]
        report.differences = [difference for difference in report.differences if difference in still]
        report.equal += len({(d.partition, d.key) for d in settled if not d.kind.startswith("redis")})
    return report


class _Looker:
    """Reads and compares partitions, one after the other: memory holds one at a time."""

    def __init__(self, settings: Settings, topics: Topics, reader: Reader, redis: Any, state: ControlState) -> None:
        self._settings, self._topics, self._reader, self._redis = settings, topics, reader, redis
        self._state = state
        self.partitions = settings.topics.partitions

    async def look(self, partitions: Collection[int]) -> Report:
        """The report of some partitions, as they are now."""
        report = Report()
        commits = await self._commits(partitions)
        for partition, commit in commits.items():
            report.add(await self._partition(partition, self._expected(commit)))
        return report

    async def _partition(self, partition: int, expected: Expected) -> Report:
        stores = await _stores(self._settings, self._topics, self._reader, partition)
        redis = await self._redis_units(partition) if self._redis is not None else None
        return compare(partition, stores[FLAT], stores[HIERARCHICAL], redis, expected)

    async def _commits(self, partitions: Collection[int]) -> dict[int, Commit | None]:
        """What the migrator has committed of flat's change logs."""
        group, topic = f"{self._settings.topics.prefix}migrator", self._topics.name("neurons.changes")
        wanted = {partition: TopicPartition(topic, partition) for partition in sorted(partitions)}
        until_s = asyncio.get_running_loop().time() + _ADMIN_S
        while True:
            try:
                found = await committed(self._settings.kafka, group, wanted.values(), _ADMIN_S)
            except Transient:
                # Where no group has ever committed there is no coordinator yet: being asked makes Kafka choose one.
                if asyncio.get_running_loop().time() >= until_s:
                    raise
                await asyncio.sleep(_PAUSE_S)
            else:
                return {partition: found.get(at) for partition, at in wanted.items()}

    def _expected(self, commit: Commit | None) -> Expected:
        """From where the migrator follows, and how far it has backfilled, as its commit says."""
        until, _, rest = (commit.metadata if commit is not None else "").partition(";")
        done = rest.partition(";")[0]
        backfilled = max(int(done) if done.isdecimal() else 0, self._state.route.bound)
        followed_from = int(until) if until.isdecimal() else None
        pinned = frozenset(self._state.route.pins)
        return Expected(self._settings.migration.id, backfilled, followed_from, pinned)

    async def _redis_units(self, partition: int) -> dict[bytes, RedisUnit]:
        prefix = unit_key(partition, "").encode()
        found: dict[bytes, RedisUnit] = {}
        scan = self._redis.scan_iter(match=prefix.decode() + "*", count=_SCAN)
        names: list[bytes] = [name async for name in scan]
        for start in range(0, len(names), _SCAN):
            chunk = names[start : start + _SCAN]
            pipeline = self._redis.pipeline(transaction=False)
            for name in chunk:
                pipeline.hmget(name, "version", "unit")
            for name, (version, unit) in zip(chunk, await pipeline.execute(), strict=True):
                found[name.removeprefix(prefix)] = (int(version) if version and version.isdigit() else 0, unit)
        return found
