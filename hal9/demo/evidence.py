"""Reads, when the traffic has stopped, what the logs hold of the run."""

from aiokafka import TopicPartition

from hal9.demo.trail import Trail
from hal9.log.effects import EARLIEST, LATEST, Record
from hal9.log.reading import Reader
from hal9.settings import Settings
from schemas.base import FLAT, HIERARCHICAL, System

_LOG_S = 60.0
_CHANGES: dict[System, str] = {FLAT: "neurons.changes", HIERARCHICAL: "units.changes"}


async def follow_trail(settings: Settings) -> Trail:
    """The trail of all requests, from the whole of the logs. Raises Transient if they cannot be read in time."""
    names = settings.topics.names()
    trail = Trail(settings.migration.id)
    async with Reader(settings.kafka) as reader:

        async def whole(log: str, partition: int) -> list[Record]:
            chunks = reader.range(names[log], partition, EARLIEST, LATEST, deadline_s=_LOG_S)
            return [record async for chunk in chunks for record in chunk]

        for partition in range(settings.topics.partitions):
            trail.dispatched(partition, await whole("dispatched", partition))
            for system, log in _CHANGES.items():
                trail.changes(system, partition, await whole(log, partition))
    return trail


async def count_divergences(settings: Settings) -> int:
    """How many divergences were published."""
    topic = settings.topics.names()["divergences"]
    async with Reader(settings.kafka) as reader:
        ends = await reader.ends(TopicPartition(topic, p) for p in range(settings.topics.partitions))
    return sum(ends.values())
