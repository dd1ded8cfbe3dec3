"""Ids of topics, by the one request (Metadata, version 12) for it that aiokafka does not have."""

import base64
from io import BytesIO
from typing import Any

from aiokafka.errors import OffsetOutOfRangeError, UnknownTopicOrPartitionError
from aiokafka.protocol.abstract import AbstractType
from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.types import (
    Boolean,
    CompactArray,
    CompactString,
    Int16,
    Int32,
    Schema,
    TaggedFields,
)

DELETED = (OffsetOutOfRangeError.errno, UnknownTopicOrPartitionError.errno)
"""What a fetch is told of a topic that was deleted, before it was made anew and after."""
_UUID_BYTES = 16
_API_KEY, _VERSION = 3, 12


class _Uuid(AbstractType):  # type: ignore[misc]  # the base has no types
    """Sixteen bytes; as text, what Kafka's own tools print."""

    @classmethod
    def encode(cls, value: bytes) -> bytes:
        return value

    @classmethod
    def decode(cls, data: BytesIO) -> str:
        return base64.urlsafe_b64encode(data.read(_UUID_BYTES)).rstrip(b"=").decode()


class _MetadataResponse(Response):  # type: ignore[misc]  # the base has no types
    API_KEY = _API_KEY
    API_VERSION = _VERSION
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        (
            "brokers",
            CompactArray(
                ("node_id", Int32),
                ("host", CompactString()),
                ("port", Int32),
                ("rack", CompactString()),
                ("tags", TaggedFields),
            ),
        ),
        ("cluster_id", CompactString()),
        ("controller_id", Int32),
        (
            "topics",
            CompactArray(
                ("error_code", Int16),
                ("name", CompactString()),
                ("topic_id", _Uuid),
                ("is_internal", Boolean),
                (
                    "partitions",
                    CompactArray(
                        ("error_code", Int16),
                        ("partition", Int32),
                        ("leader", Int32),
                        ("leader_epoch", Int32),
                        ("replicas", CompactArray(Int32)),
                        ("isr", CompactArray(Int32)),
                        ("offline", CompactArray(Int32)),
                        ("tags", TaggedFields),
                    ),
                ),
                ("authorized_operations", Int32),
                ("tags", TaggedFields),
            ),
        ),
        ("tags", TaggedFields),
    )


class _MetadataStruct(RequestStruct):  # type: ignore[misc]  # the base has no types
    FLEXIBLE_VERSION = True
    API_KEY = _API_KEY
    API_VERSION = _VERSION
    RESPONSE_TYPE = _MetadataResponse
    SCHEMA = Schema(
        ("topics", CompactArray(("topic_id", _Uuid), ("name", CompactString()), ("tags", TaggedFields))),
        ("allow_auto_topic_creation", Boolean),
        ("authorized_operations", Boolean),
        ("tags", TaggedFields),
    )


class _MetadataRequest(Request[_MetadataStruct]):  # type: ignore[misc]  # the base has no types
    API_KEY = _API_KEY

    def __init__(self, names: list[str]) -> None:
        self._names = names

    def build(self, request_struct_class: type[_MetadataStruct]) -> _MetadataStruct:
        topics: list[tuple[bytes, str, dict[int, bytes]]] = [(bytes(_UUID_BYTES), name, {}) for name in self._names]
        return request_struct_class(topics, False, False, {})


async def topic_ids(client: Any, names: list[str]) -> dict[str, str]:
    """Name -> id of those topics that exist, by an aiokafka client; raises its KafkaError."""
    response = await client.send(client.get_random_node(), _MetadataRequest(names))
    return {topic[1]: topic[2] for topic in response.topics if topic[0] == 0}
