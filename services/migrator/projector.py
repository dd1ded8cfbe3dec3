"""The shell of the Redis projection: reads both unit logs of its partitions, one fenced call per batch.

Positions are Redis's own, not the group's: what a lost or flushed Redis does not hold is read again from the log.
"""

import asyncio
from collections.abc import Callable
from typing import Any

from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, TopicPartition
from aiokafka.coordinator.assignors.range import RangePartitionAssignor
from aiokafka.errors import IllegalStateError
from redis.exceptions import RedisError

from hal9.connection import kafka_options, redis_client
from hal9.control.reducer import ROUTE_SALT, salt
from hal9.errors import ConfigError, Transient
from hal9.log.validity import Validity
from hal9.settings import Settings
from hal9.telemetry.logs import logger
from hal9.topics import Topics, topic_id
from schemas.base import HIERARCHICAL
from services.migrator.projection import SCRIPT, Projection, applied_key

LOGS = ("units.replica", "units.changes")
BATCH = 500
POLL_MS = 250
PAUSE_S = 0.5
"""After Redis did not answer."""

_log = logger("projector")


class Projector(ConsumerRebalanceListener):  # type: ignore[misc]  # the base has no types
    """Projects the partitions that its group assigns to it."""

    def __init__(self, settings: Settings) -> None:
        self._settings, self._topics = settings, Topics.of(settings.topics)
        self._redis: Any = redis_client(settings.redis)
        self._script = self._redis.register_script(SCRIPT)
        self._consumer = AIOKafkaConsumer(
            **kafka_options(settings.kafka),
            group_id=f"{settings.topics.prefix}projector",
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            partition_assignment_strategy=(RangePartitionAssignor,),
        )
        self._projections: dict[TopicPartition, Projection] = {}
        self._ids: dict[str, str] = {}
        self._silent: str | None = None
        self.applied = 0

    def trouble(self) -> list[str]:
        """Why Redis may be behind, if so."""
        return [self._silent] if self._silent else []

    async def run(self) -> None:
        """Project until cancelled. Raises ConfigError for a Redis that may evict what it holds."""
        await self._check_policy()
        for log in LOGS:
            self._ids[log] = await topic_id(self._settings.kafka, self._topics.name(log))
        await self._consumer.start()
        try:
            self._consumer.subscribe([self._topics.name(log) for log in LOGS], listener=self)
            while True:
                found = await self._consumer.getmany(timeout_ms=POLL_MS, max_records=BATCH)
                for at, records in found.items():
                    await self._project(at, records)
        finally:
            await self._consumer.stop()
            await self._redis.aclose()

    async def _check_policy(self) -> None:
        try:
            found = await self._redis.config_get("maxmemory-policy")
        except RedisError as error:
            # Hosted ones often forbid CONFIG; then the operator vouches for the policy.
            _log.warning("redis_policy_unknown", reason=repr(error))
            return
        policy = found.get("maxmemory-policy", "noeviction")
        if policy != "noeviction":
            raise ConfigError(f"REDIS.URL: maxmemory-policy is {policy!r}; units must not be evicted: set noeviction")

    async def on_partitions_revoked(self, revoked: Any) -> None:
        """Forget them: the next owner asks Redis."""
        for at in revoked:
            self._projections.pop(at, None)

    async def on_partitions_assigned(self, assigned: Any) -> None:
        """Continue each from the position that Redis has, read with the first records."""
        for at in assigned:
            self._projections.pop(at, None)

    async def _project(self, at: TopicPartition, records: list[Any]) -> None:
        projection = self._projections.get(at)
        if projection is None or not self._continues(projection, records):
            await self._seek(at)
            return
        batch = projection.batch(records)
        answer = await self._call(self._script, batch.keys, batch.arguments)
        if answer is None or answer.decode() != batch.position:
            # Lost, or another position stands there: what counts is what Redis says now.
            await self._seek(at)
            return
        projection.stored = batch.position
        self.applied += len(records)

    def _continues(self, projection: Projection, records: list[Any]) -> bool:
        return bool(records) and records[0].offset >= projection.next_offset

    async def _seek(self, at: TopicPartition) -> None:
        log = self._topics.log(at.topic)
        applied = applied_key(at.partition)
        found = await self._call(self._redis.hmget, applied, [at.topic, f"{at.topic}#validity"])
        if found is None:
            await asyncio.sleep(PAUSE_S)
        projection = Projection(at.partition, at.topic, self._ids[log], self._judge(log))
        stored, validity = found or (None, None)
        offset = projection.start((stored or b"").decode(), (validity or b"").decode())
        try:
            self._consumer.seek(at, offset)
        except IllegalStateError:
            return  # revoked meanwhile
        if found is not None:
            self._projections[at] = projection
        else:
            self._projections.pop(at, None)

    def _judge(self, log: str) -> Callable[[], Validity]:
        if log == "units.changes":
            route_salt = salt(self._settings.migration.id, ROUTE_SALT)
            return lambda: Validity(system=HIERARCHICAL, salt=route_salt)
        return Validity

    async def _call(self, function: Any, *arguments: Any) -> Any:
        """The reply, or None if Redis gave none in time."""
        try:
            async with asyncio.timeout(self._settings.redis.timeout_s):
                reply = await function(*arguments)
        except (RedisError, OSError, TimeoutError, Transient) as error:
            if self._silent is None:
                _log.warning("redis_does_not_answer", reason=repr(error))
            self._silent = f"Redis does not answer: {error!r}"
            await asyncio.sleep(PAUSE_S)
            return None
        if self._silent is not None:
            _log.info("redis_answers_again")
        self._silent = None
        return reply
