"""Where partitions begin and end, asked of their leaders."""

from collections.abc import Iterable
from typing import Any

from aiokafka import TopicPartition
from aiokafka.errors import LeaderNotAvailableError, for_code
from aiokafka.protocol.offset import OffsetRequest

_READ_UNCOMMITTED = 0


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
