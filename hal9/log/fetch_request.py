"""The fetch request (version 11: Kafka 2.3 and newer), packed and unpacked without aiokafka's schema classes.

A service asks for some thirty partitions at a time and mostly gets one answer with records in it: going through the
schemas costs half a millisecond for each question and each answer, which is most of what a quiet service costs.
"""

import struct
from collections.abc import Mapping
from io import BytesIO
from typing import Any, ClassVar, NamedTuple

from aiokafka.errors import IncompatibleBrokerVersion
from aiokafka.protocol.api import RequestHeader_v1, ResponseHeader_v0

_API_KEY, _VERSION = 1, 11
_READ_UNCOMMITTED = 0
_NO_SESSION = (0, -1)

_HEAD = struct.Struct(">iiiibiii")
"""Replica (-1: a consumer), wait, least bytes, most bytes, isolation, session, its epoch, number of topics."""
_LENGTH = struct.Struct(">h")
_COUNT = struct.Struct(">i")
_WANTED = struct.Struct(">iiqqi")
"""Partition, leader epoch (-1: not known), offset, start of the log (-1: not a replica), most bytes."""
_TAIL = struct.Struct(">ih")
"""No forgotten topics, no rack."""

_ANSWER = struct.Struct(">ihii")
"""Throttled ms, error, session, number of topics."""
_STATE = struct.Struct(">ihqqqi")
"""Partition, error, high watermark, last stable offset, start of the log, number of aborted transactions."""
_ABORTED_BYTES = 16
_RECORDS = struct.Struct(">ii")
"""Preferred replica, length of the records (-1: none)."""


class Fetched(NamedTuple):
    """One partition's answer."""

    topic: str
    partition: int
    code: int
    highwater: int
    data: memoryview


class _Answer:
    """Stands where aiokafka expects a response class."""

    @staticmethod
    def decode(stream: BytesIO) -> list[Fetched]:
        """The rest of the stream, which is one answer; `code` of a refused request is in every partition of it."""
        data = stream.getbuffer()[stream.tell() :]
        _, refused, _, topics = _ANSWER.unpack_from(data, 0)
        if refused:
            return [Fetched("", -1, refused, -1, data[:0])]
        at = _ANSWER.size
        found: list[Fetched] = []
        for _ in range(topics):
            (length,) = _LENGTH.unpack_from(data, at)
            at += _LENGTH.size
            topic = str(data[at : at + length], "utf-8")
            (count,) = _COUNT.unpack_from(data, at + length)
            at += length + _COUNT.size
            for _ in range(count):
                partition, code, highwater, _, _, aborted = _STATE.unpack_from(data, at)
                at += _STATE.size + max(0, aborted) * _ABORTED_BYTES
                _, size = _RECORDS.unpack_from(data, at)
                at += _RECORDS.size
                end = at + max(0, size)
                found.append(Fetched(topic, partition, code, highwater, data[at:end]))
                at = end
        return found


class FetchRequest:
    """Offsets by topic and partition, with how long to wait, in ms, and for how many bytes."""

    API_KEY: ClassVar[int] = _API_KEY
    API_VERSION: ClassVar[int] = _VERSION
    RESPONSE_TYPE: ClassVar[type[_Answer]] = _Answer

    def __init__(self, wait_ms: int, least: int, most: int, offsets: Mapping[str, list[tuple[int, int]]]) -> None:
        self._wait_ms, self._least, self._most, self._offsets = wait_ms, least, most, offsets

    def prepare(self, versions: Mapping[int, tuple[int, int]]) -> "FetchRequest":
        """Called with what the broker speaks."""
        lowest, highest = versions.get(_API_KEY, (0, 0))
        if not lowest <= _VERSION <= highest:
            raise IncompatibleBrokerVersion(f"fetch requests of version {lowest} to {highest}; {_VERSION} is needed")
        return self

    def build_request_header(self, correlation_id: int, client_id: str) -> Any:
        """Called for the header."""
        return RequestHeader_v1(self, correlation_id=correlation_id, client_id=client_id)

    def parse_response_header(self, stream: BytesIO) -> Any:
        """Called for the header of the answer."""
        return ResponseHeader_v0.decode(stream)

    def encode(self) -> bytes:
        """Called for the body."""
        most, pack = self._most, _WANTED.pack
        parts = [_HEAD.pack(-1, self._wait_ms, self._least, most, _READ_UNCOMMITTED, *_NO_SESSION, len(self._offsets))]
        for topic, partitions in self._offsets.items():
            name = topic.encode()
            parts += (_LENGTH.pack(len(name)), name, _COUNT.pack(len(partitions)))
            parts += [pack(partition, -1, offset, -1, most) for partition, offset in partitions]
        parts.append(_TAIL.pack(0, 0))
        return b"".join(parts)
