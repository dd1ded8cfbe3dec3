"""Where partitions begin and end, asked of their leaders."""

import asyncio
from collections.abc import Iterable
from typing import Any

from aiokafka import TopicPartition
from aiokafka.errors import LeaderNotAvailableError, for_code
from aiokafka.protocol.offset import OffsetRequest

from hal9.errors import Transient

_READ_UNCOMMITTED = 0
_UNKNOWN_S = 5.0
"""A topic that no broker has heard of for so long was not made; one made just now is known everywhere before."""
_PAUSE_S = 0.5


class TopicMissing(Transient):
    """A topic does not exist."""


async def await_topics(client: Any, topics: Iterable[str]) -> None:
    """Return when the brokers know all of the topics; raises TopicMissing, or aiokafka's KafkaError."""
    wanted = set(topics)
    loop = asyncio.get_running_loop()
    until = loop.time() + _UNKNOWN_S
    for topic in wanted:
        client.add_topic(topic)
    while missing := wanted - client.cluster.topics():
        if not await client.force_metadata_update() or loop.time() < until:
            await asyncio.sleep(_PAUSE_S)
        elif missing := wanted - client.cluster.topics():
            raise TopicMissing(f"topic {min(missing)} is not there; `hal9 topics create` makes what is missing")


async def list_offsets(client: Any, partitions: Iterable[TopicPartition], at: int) -> dict[TopicPartition, int]:
    """The start (EARLIEST) or end (LATEST) of each partition, by an aiokafka client; raises its KafkaError."""
    nodes: dict[int, dict[str, list[tuple[int, int]]]] = {}
    for partition in partitions:
        await client._wait_on_metadata(partition.topic)  # noqa: SLF001  as aiokafka's own clients do
        node = client.cluster.leader_for_partition(partition)
        if node is None or node < 0:
            raise LeaderNotAvailableError(f"{partition.topic}-{partition.partition}")
        nodes.setdefault(node, {}).setdefault(partition.topic, []).append((partition.partition, at))
    found: dict[TopicPartition, int] = {}
    for node, topics in nodes.items():
        response = await client.send(node, OffsetRequest(-1, _READ_UNCOMMITTED, list(topics.items())))
        for topic, answers in response.topics:
            for number, code, _, offset in answers:
                if code:
                    raise for_code(code)(f"{topic}-{number}")
                found[TopicPartition(topic, number)] = offset
    return found
