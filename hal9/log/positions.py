"""Handing the requests topic over: from a service that reads it itself to the router, and from the router to one.

What a consumer group has committed says which requests it has done with. Both take it from one group to the other while
neither has members, and refuse where that could leave a request out or have it done twice.
"""

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError
from aiokafka.structs import OffsetAndMetadata

from hal9 import wire
from hal9.connection import kafka_options
from hal9.errors import Refused, Transient
from hal9.keys import is_mark
from hal9.log.administration import administering, committed
from hal9.log.effects import Commit, Record
from hal9.log.reading import read_range
from hal9.log.supervision import unbroken
from hal9.log.validity import Validity
from hal9.settings.sections import Kafka
from hal9.topics import Topics

ROUTER = "router"


@dataclass(frozen=True, slots=True)
class Position:
    """From where one partition of the requests is read on, and how many requests wait there."""

    partition: int
    position: int
    waiting: int


class HandingOver:
    """One change of hands. `window_ms`: how far back answers are looked at, so that a repeated id stays one request."""

    def __init__(self, kafka: Kafka, topics: Topics, *, deadline_s: float, window_ms: int = 60_000) -> None:
        self._kafka, self._topics = kafka, topics
        self._deadline_s, self._window_ms = deadline_s, window_ms
        self.router = topics.prefix + ROUTER

    async def adopt(self, group: str, now_ms: int, *, dry_run: bool = False) -> list[Position]:
        """The router begins where `group` ended. Raises Refused, Transient."""
        await self._refuse_members(group, self.router)
        if await self._committed(self.router, "requests"):
            raise Refused(f"group {self.router} has read requests already: it begins where it ended")
        theirs = await self._committed(group, "requests")
        held = [*self._partitions("requests"), *self._partitions("dispatched")]
        async with _committing(self._kafka, self.router, held, self._deadline_s) as consumer:
            starts = await consumer.beginning_offsets(self._partitions("requests"))
            ends = await consumer.end_offsets(self._partitions("requests"))
            found = []
            for at, end in ends.items():
                position = theirs[at].offset if at in theirs else end
                if at not in theirs and starts[at] < end:
                    raise Refused(
                        f"group {group} has committed nothing in partition {at.partition}, which is not empty"
                    )
                if position < starts[at]:
                    raise Refused(f"requests that group {group} has not done are gone from partition {at.partition}")
                found.append(Position(at.partition, position, end - position))
            if not dry_run:
                await self._begin(consumer, found, now_ms)
        return sorted(found, key=lambda one: one.partition)

    async def _begin(self, consumer: Any, found: Iterable[Position], now_ms: int) -> None:
        """Commit for the router; of the answers it looks at the last window alone, not at a topic's whole past."""
        answers = self._partitions("responses")
        recent = await consumer.offsets_for_times(dict.fromkeys(answers, now_ms - self._window_ms))
        ends = await consumer.end_offsets(answers)
        commits: dict[TopicPartition, OffsetAndMetadata] = {}
        for one in found:
            requests, dispatched, responses = (
                TopicPartition(self._topics.name(log), one.partition) for log in ("requests", "dispatched", "responses")
            )
            first = recent[responses]
            commits[requests] = OffsetAndMetadata(one.position, "")
            commits[dispatched] = OffsetAndMetadata(0, f"{first.offset if first else ends[responses]};")
        await consumer.commit(commits)

    async def release(self, group: str, *, dry_run: bool = False) -> list[Position]:
        """`group` begins where the router ended, with nothing under way. Raises Refused, Transient."""
        await self._refuse_members(group, self.router)
        ours = await self._committed(self.router, "requests")
        missing = [at.partition for at in self._partitions("requests") if at not in ours]
        if missing:
            raise Refused(f"group {self.router} has committed nothing in partition {missing[0]}")
        open_ids = await self._under_way()
        if open_ids:
            some = ", ".join(open_ids[:3])
            raise Refused(f"{len(open_ids)} requests are under way ({some}): let the router run until it is idle")
        async with _committing(self._kafka, group, ours, self._deadline_s) as consumer:
            ends = await consumer.end_offsets(self._partitions("requests"))
            if not dry_run:
                await consumer.commit({at: OffsetAndMetadata(commit.offset, "") for at, commit in ours.items()})
        found = [Position(at.partition, ours[at].offset, end - ours[at].offset) for at, end in ends.items()]
        return sorted(found, key=lambda one: one.partition)

    async def _under_way(self) -> list[str]:
        """Ids of what was validly dispatched and has no answer: what a router that takes over would have in flight."""
        dispatched = await self._committed(self.router, "dispatched")
        found: list[str] = []
        for number in range(self._topics.partitions):
            topic = self._topics.name("dispatched")
            commit = dispatched.get(TopicPartition(topic, number), Commit(0))
            answers_from, _, saved = commit.metadata.partition(";")
            validity = Validity()
            validity.restore(saved)
            records = await read_range(self._kafka, topic, number, commit.offset, deadline_s=self._deadline_s)
            asked = {_identity(record) for record in records if validity.feed(record) == "data"}
            start = int(answers_from) if answers_from.isdecimal() else 0
            answers = await read_range(
                self._kafka, self._topics.name("responses"), number, start, deadline_s=self._deadline_s
            )
            asked -= {_identity(record) for record in answers if not is_mark(record.key)}
            found += [(name or b"?").decode("utf-8", "replace") for _, name, _ in asked]
        return found

    def _partitions(self, log: str) -> list[TopicPartition]:
        return [TopicPartition(self._topics.name(log), number) for number in range(self._topics.partitions_of(log))]

    async def _committed(self, group: str, log: str) -> dict[TopicPartition, Commit]:
        return await committed(self._kafka, group, self._partitions(log), self._deadline_s)

    async def _refuse_members(self, *groups: str) -> None:
        await refuse_members(self._kafka, groups, self._deadline_s)


async def refuse_members(kafka: Kafka, groups: Iterable[str], deadline_s: float) -> None:
    """Refused if any of the consumer groups has members: whoever they are must be stopped first."""
    async with administering(kafka, deadline_s) as admin:
        for group in groups:
            count = await _members(admin, group)
            if count:
                raise Refused(f"group {group} has {count} members: stop them first")


async def _members(admin: AIOKafkaAdminClient, group: str) -> int:
    (response,) = await admin.describe_consumer_groups([group])
    return sum(len(described[5]) for described in response.groups)


def _identity(record: Record) -> tuple[bytes | None, bytes | None, bytes | None]:
    return record.key, wire.header(record.headers, wire.ID), wire.header(record.headers, wire.BASE)


@asynccontextmanager
async def _committing(
    kafka: Kafka, group: str, partitions: Iterable[TopicPartition], deadline_s: float
) -> AsyncIterator[Any]:
    """A consumer that is no member of the group, but asks for ends and commits for it."""
    consumer = AIOKafkaConsumer(**kafka_options(kafka), group_id=group, enable_auto_commit=False)
    try:
        async with asyncio.timeout(deadline_s):
            await unbroken(consumer.start())
            consumer.assign(list(partitions))
            yield consumer
    except TimeoutError as error:
        raise Transient(f"Kafka at {kafka.bootstrap} did not answer within {deadline_s:g} s") from error
    except (KafkaError, OSError) as error:
        raise Transient(f"positions of group {group}: {error!r}") from error
    finally:
        await consumer.stop()
