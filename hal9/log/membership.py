"""Membership of a consumer group: which partitions are ours, and the positions committed for them.

A consumer of aiokafka does it; it fetches nothing. A partition is ours when all logs of the group are assigned for it,
which range assignment sees to as long as they have one partition count.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import Any

from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, TopicPartition
from aiokafka.coordinator.assignors.range import RangePartitionAssignor
from aiokafka.errors import (
    ClusterAuthorizationFailedError,
    GroupAuthorizationFailedError,
    IllegalStateError,
    KafkaError,
    TopicAuthorizationFailedError,
)
from aiokafka.structs import OffsetAndMetadata

from hal9.connection import kafka_options
from hal9.errors import Transient
from hal9.log.connections import open_connections
from hal9.log.effects import Commit
from hal9.log.supervision import unbroken
from hal9.settings.sections import Kafka
from hal9.telemetry.logs import logger

HEARTBEAT_MS = 500
"""A member learns that the group changes with its next heartbeat, and all the others wait for it."""
REBALANCE_MS = 15_000
"""How long the group waits for a member that drains; several times the drain."""
METADATA_BYTES = 4_096
HOPELESS = (GroupAuthorizationFailedError, TopicAuthorizationFailedError, ClusterAuthorizationFailedError)
_CHECK_S = 0.5
_CLOSE_S = 1.0

_log = logger("log.membership")


class Membership(ConsumerRebalanceListener):  # type: ignore[misc]  # the base has no types
    """One member; `revoked` is awaited before partitions go, `assigned` is called when new ones are known.

    A consumer that fails is replaced; `lost` is called then, for its partitions may be somebody else's by now.
    """

    def __init__(
        self,
        kafka: Kafka,
        group: str,
        topics: list[str],
        *,
        revoked: Callable[[], Awaitable[None]],
        assigned: Callable[[frozenset[int]], None],
        lost: Callable[[], None],
    ) -> None:
        self._kafka, self._group, self._topics = kafka, group, topics
        self._revoked, self._assigned, self._lost = revoked, assigned, lost
        self.joined = False
        self.replaced = 0
        self._error: Exception | None = None
        self._consumer = self._new()

    def _new(self) -> Any:
        return AIOKafkaConsumer(
            **kafka_options(self._kafka),
            group_id=self._group,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            partition_assignment_strategy=(RangePartitionAssignor,),
            session_timeout_ms=self._kafka.session_ms,
            heartbeat_interval_ms=HEARTBEAT_MS,
            rebalance_timeout_ms=REBALANCE_MS,
            consumer_timeout_ms=2_000,
        )

    @property
    def connections(self) -> int:
        """Open connections."""
        return open_connections(self._consumer._client)  # noqa: SLF001  it has no other way

    async def start(self) -> None:
        """Connect and begin to join."""
        await unbroken(self._consumer.start())
        self._consumer.subscribe(self._topics, listener=self)

    async def stop(self) -> None:
        """Leave, so that the others need not wait for the session to end."""
        with suppress(TimeoutError, KafkaError):
            async with asyncio.timeout(_CLOSE_S):
                await self._consumer.stop()

    async def run(self) -> None:
        """Stay a member; raises what cannot be mended by joining again."""
        apart_s = 0.0
        while True:
            await asyncio.sleep(_CHECK_S)
            if self._error is not None:
                raise self._error
            apart_s = 0.0 if self.joined else apart_s + _CHECK_S
            if 0 < self._kafka.watchdog_s <= apart_s:
                # Coordination can die without a word: then nobody would ever join again.
                _log.warning("not_settled", group=self._group, for_s=apart_s)
                await self._replace()
                apart_s = 0.0
            try:
                # Says what went wrong, and tells the group that this member is alive.
                with suppress(TimeoutError):  # waits while the group is changing
                    async with asyncio.timeout(_CHECK_S):
                        await self._consumer.getmany(timeout_ms=0)
            except HOPELESS:
                raise
            except KafkaError as error:
                _log.warning("membership_lost", group=self._group, error=repr(error))
                await self._replace()

    async def _replace(self) -> None:
        """Leave, and join as a new member."""
        self.joined = False
        self.replaced += 1
        self._lost()
        while True:
            await self.stop()
            self._consumer = self._new()
            try:
                async with asyncio.timeout(self._kafka.request_timeout_ms / 1000):
                    await self.start()
                return
            except (KafkaError, OSError) as error:
                _log.warning("not_joined", group=self._group, error=repr(error))
            await asyncio.sleep(_CHECK_S)

    async def commit(self, commits: Mapping[TopicPartition, Commit], deadline_s: float) -> None:
        """Commit positions; raises Transient when they are not stored, or the partitions are no longer ours."""
        offsets = {at: OffsetAndMetadata(commit.offset, commit.metadata) for at, commit in commits.items()}
        try:
            async with asyncio.timeout(deadline_s):
                await self._consumer.commit(offsets)
        except TimeoutError as error:
            raise Transient(f"positions were not committed within {deadline_s:g} s") from error
        except (KafkaError, IllegalStateError) as error:
            raise Transient(f"positions were not committed: {error!r}") from error

    async def on_partitions_revoked(self, revoked: set[TopicPartition]) -> None:  # noqa: ARG002  all of them, always
        """The group changes: everything is taken away, for now."""
        try:
            await self._revoked()
        except Exception as error:  # noqa: BLE001  aiokafka would only log it; `run` raises it
            self._error = error
        self.joined = False

    async def on_partitions_assigned(self, assigned: set[TopicPartition]) -> None:
        """The group has settled."""
        # Its own fetches are not wanted: a paused partition with a position asks for nothing.
        self._consumer.pause(*assigned)
        for at in assigned:
            self._consumer.seek(at, 0)
        numbers = {at.partition for at in assigned}
        ours = {n for n in numbers if all(TopicPartition(topic, n) in assigned for topic in self._topics)}
        self.joined = True
        self._assigned(frozenset(ours))
