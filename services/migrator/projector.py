"""The shell of the Redis projection: reads both unit logs of its partitions, one fenced call per batch.

Positions are Redis's own, not the group's: what a lost or flushed Redis does not hold is read again from the log.
A group of its own says which partitions are ours.
"""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from aiokafka import TopicPartition
from redis.exceptions import RedisError

from hal9.connection import redis_client
from hal9.control.reducer import ROUTE_SALT, salt
from hal9.errors import ConfigError, Transient
from hal9.log.batches import Damaged
from hal9.log.cursor import Cursor
from hal9.log.effects import Record
from hal9.log.fetching import Fetching
from hal9.log.membership import Membership
from hal9.log.supervision import until_first
from hal9.log.validity import Validity
from hal9.settings import Settings
from hal9.telemetry.logs import logger
from hal9.topics import Topics, topic_id
from schemas.base import HIERARCHICAL
from services.migrator.projection import SCRIPT, Projection, applied_key, validity_key

LOGS = ("units.replica", "units.changes")
BATCH = 500
POLL_S = 0.5
"""Between looks at what is to be begun again."""
PAUSE_S = 0.5
"""After Redis did not answer."""
CHECK_S = 5.0
"""Between looks at the positions in Redis: one that came back without its last second is told again, at rest too."""

_log = logger("projector")


class Projector:
    """Projects the partitions that its group assigns to it."""

    def __init__(self, settings: Settings) -> None:
        self._settings, self._topics = settings, Topics.of(settings.topics)
        self._redis: Any = redis_client(settings.redis)
        self._script = self._redis.register_script(SCRIPT)
        self._membership = Membership(
            settings.kafka,
            f"{settings.topics.prefix}projector",
            [self._topics.name(log) for log in LOGS],
            revoked=self._revoked,
            assigned=self._assign,
            lost=self._lose,
        )
        self._fetching = Fetching(settings.kafka, self._moved, self._unreadable)
        self._work = asyncio.Event()
        self._assigned: frozenset[TopicPartition] = frozenset()
        self._cursors: dict[TopicPartition, Cursor] = {}
        self._projections: dict[TopicPartition, Projection] = {}
        self._ids: dict[str, str] = {}
        self._silent: str | None = None
        self._checked_s = 0.0
        self.applied = 0

    def trouble(self) -> list[str]:
        """Why Redis may be behind, if so."""
        return [self._silent] if self._silent else []

    async def run(self) -> None:
        """Project until cancelled. Raises ConfigError for a Redis that may evict what it holds."""
        await self._check_policy()
        for log in LOGS:
            self._ids[log] = await topic_id(self._settings.kafka, self._topics.name(log))
        try:
            await self._fetching.start()
            await self._membership.start()
            await until_first(self._fetching.run(), self._membership.run(), self._serve())
        finally:
            await self._membership.stop()
            await self._fetching.close()
            await self._redis.aclose()

    async def _serve(self) -> None:
        while True:
            for at in self._assigned:
                cursor = self._cursors.get(at)
                if cursor is None:
                    await self._seek(at)
                elif cursor.moved():
                    records = cursor.take(BATCH)
                    if records:
                        await self._project(at, records)
                    self._work.set()
            await self._check_positions()
            self._fetching.poke()
            with suppress(TimeoutError):
                async with asyncio.timeout(POLL_S):
                    await self._work.wait()
            self._work.clear()

    async def _check_positions(self) -> None:
        now_s = asyncio.get_running_loop().time()
        if now_s < self._checked_s + CHECK_S:
            return
        self._checked_s = now_s
        for at in list(self._projections):
            found = await self._call(self._redis.hget, applied_key(at.partition), at.topic)
            projection = self._projections.get(at)
            if projection is not None and self._silent is None and not projection.stands(found):
                _log.warning("redis_lost_units", topic=at.topic, partition=at.partition, position=projection.stored)
                self._forget(at)

    def _moved(self, _cursor: Cursor) -> None:
        self._work.set()

    def _unreadable(self, cursor: Cursor, damaged: Damaged) -> None:
        """The core reads the same log, and quarantines it."""
        _log.warning("record_unreadable", topic=cursor.topic, partition=cursor.partition, offset=damaged.offset)

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

    async def _revoked(self) -> None:
        """The next owner asks Redis: nothing to wait for."""
        self._lose()

    def _assign(self, partitions: frozenset[int]) -> None:
        """Continue each from the position that Redis has."""
        self._assigned = frozenset(TopicPartition(self._topics.name(log), n) for log in LOGS for n in partitions)
        self._work.set()

    def _lose(self) -> None:
        self._assigned = frozenset()
        for at in list(self._cursors):
            self._forget(at)

    def _forget(self, at: TopicPartition) -> None:
        self._projections.pop(at, None)
        cursor = self._cursors.pop(at, None)
        if cursor is not None:
            self._fetching.drop(cursor)

    async def _project(self, at: TopicPartition, records: Sequence[Record]) -> None:
        projection = self._projections[at]
        batch = projection.batch(records)
        answer = await self._call(self._script, batch.keys, batch.arguments)
        if not projection.replied(batch, answer):
            self._forget(at)
            return
        self.applied += len(records)

    async def _seek(self, at: TopicPartition) -> None:
        """Begin, or begin again, where Redis says."""
        log = self._topics.log(at.topic)
        position = await self._call(self._redis.hmget, applied_key(at.partition), [at.topic])
        known = await self._call(self._redis.hmget, validity_key(at.partition), [at.topic])
        if position is None or known is None or at not in self._assigned:
            return
        projection = Projection(at.partition, at.topic, self._ids[log], self._judge(log))
        (stored,), (validity,) = position, known
        offset = projection.start((stored or b"").decode(), (validity or b"").decode())
        self._projections[at] = projection
        self._cursors[at] = self._fetching.open(Cursor(at.topic, at.partition, offset))

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
            _unless_cancelled()
        except (RedisError, OSError, TimeoutError, Transient) as error:
            _unless_cancelled()
            if self._silent is None:
                _log.warning("redis_does_not_answer", reason=repr(error))
            self._silent = f"Redis does not answer: {error!r}"
            await asyncio.sleep(PAUSE_S)
            return None
        if self._silent is not None:
            _log.info("redis_answers_again")
        self._silent = None
        return reply


def _unless_cancelled() -> None:
    """A client of redis-py that is cancelled while it connects may go on and give its reply: then nobody would stop."""
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError
