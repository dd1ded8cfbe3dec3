"""Records out of the bytes of a fetch. No record that a broker accepted stops a reader.

aiokafka's parser gives up a whole batch when one header name in it is not UTF-8. Such a batch is read again here,
record by record: the sound ones are records like all others, the rest come back as `Damaged`.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain, islice
from typing import Any

from aiokafka.errors import CorruptRecordException
from aiokafka.record.default_records import DefaultRecordBatch, _DefaultRecordBatchPy
from aiokafka.record.util import decode_varint

from hal9.log.effects import Headers
from hal9.log.uncompressing import codec_of, uncompressed

_LENGTH = struct.Struct(">qi")
"""Base offset, and how many bytes of the batch follow."""
_MAGIC_AT = 16
_MAGIC = 2
_COUNT_AT, _COUNT = 57, struct.Struct(">i")


@dataclass(slots=True)
class Plain:
    """A record that was read the slow way."""

    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Headers


@dataclass(slots=True)
class Damaged:
    """A record that is not what a record should be; what could be read of it, bad header names escaped."""

    offset: int
    timestamp: int
    detail: str
    key: bytes | None = None
    value: bytes | None = None
    headers: Headers = ()


def split(data: bytes | memoryview, offset: int) -> "list[Batch]":
    """The batches in what a fetch from `offset` on brought; one that is cut off at the end is left out.

    Raises:
        CorruptRecordException: a checksum is wrong, so the bytes are not what the broker stored; or the format is old.
    """
    found: list[Batch] = []
    view = memoryview(data)
    position, size = 0, len(view)
    while position + _LENGTH.size <= size:
        _, length = _LENGTH.unpack_from(view, position)
        end = position + _LENGTH.size + length
        if end > size:
            break
        batch = Batch(view[position:end], offset)
        if batch.next_offset > offset:
            found.append(batch)
        position = end
    return found


class Batch:
    """One batch, from `start` on, read when its records are taken: only then is it unpacked.

    Attributes:
        left: records that may still come, about (some may lie before `start`); 0 when it has been read to its end.
        next_offset: where the next batch begins; compaction may have taken the last records of this one.
        sound: nothing unreadable was found yet.
    """

    __slots__ = ("_batch", "_data", "_records", "_start", "left", "next_offset", "sound")

    def __init__(self, data: memoryview, start: int) -> None:
        if data[_MAGIC_AT] != _MAGIC:
            raise CorruptRecordException(f"record batch of format {data[_MAGIC_AT]}, not {_MAGIC}")
        batch = DefaultRecordBatch(data)
        if not batch.validate_crc():
            raise CorruptRecordException(f"checksum of the batch at offset {batch.base_offset} is wrong")
        (count,) = _COUNT.unpack_from(data, _COUNT_AT)
        self._data, self._batch, self._start = data, batch, start
        self._records: Iterator[Any] | None = None
        # An empty batch is found to be empty when it is taken from.
        self.left = 0 if batch.is_control_batch else max(min(count, batch.next_offset - batch.base_offset), 1)
        self.next_offset: int = batch.next_offset
        self.sound = True

    def take(self, limit: int) -> list[Any]:
        """Up to `limit` of the records left, in order, `Damaged` ones in their places; none only if there are none."""
        taken: list[Any] = []
        while not taken and self.left:
            taken = self._next(limit)
            if taken and taken[0].offset < self._start:
                taken = [record for record in taken if record.offset >= self._start]
        if taken:
            self._start = taken[-1].offset + 1
        return taken

    def _next(self, limit: int) -> list[Any]:
        try:
            if self._records is None:
                if codec_of(self._data):
                    self._data = memoryview(uncompressed(self._data))
                    self._batch = DefaultRecordBatch(self._data)
                self._records = chain(self._batch)  # it bears `iter` once only
            found = list(islice(self._records, limit))
        except Exception as error:  # noqa: BLE001  what a parser or a codec raises for bytes it cannot read
            # What was read and not given is lost with the error: all of it again; `take` leaves out what was given.
            again = _one_by_one(self._data, self._start, error)
            self.left, self.sound = len(again), False
            self._records = iter(again)
            found = list(islice(self._records, limit))
        self.left = self.left - len(found) if len(found) == limit else 0
        return found


def _one_by_one(data: memoryview, start: int, reason: Exception) -> list[Plain | Damaged]:
    """All records of a batch; what is lost from somewhere on is told at `start` if that lies behind it."""
    batch = _DefaultRecordBatchPy(data)
    if codec_of(data):
        what = f"the batch cannot be uncompressed: {reason!r}"
        return [Damaged(max(batch.base_offset, start), batch.first_timestamp, what)]
    buffer, position = batch._buffer, batch._pos  # noqa: SLF001
    append_time = batch.max_timestamp if batch.timestamp_type else None
    records: list[Plain | Damaged] = []
    for index in range(batch._num_records):  # noqa: SLF001
        try:
            length, body = decode_varint(buffer, position)
            position = body + length
            if length <= 0 or position > len(buffer):
                raise ValueError(f"a record of {length} bytes")  # noqa: TRY301  the handler makes the report
            records.append(_record(buffer, body, position, batch.base_offset, batch.first_timestamp, append_time))
        except (ValueError, IndexError) as error:
            # Where a record ends is not known any more, so what follows in the batch is lost with it.
            what = f"the batch is unreadable from here: {error}"
            at = max(batch.base_offset + index, start, records[-1].offset + 1 if records else 0)
            records.append(Damaged(at, batch.first_timestamp, what))
            break
    return records


def _record(
    buffer: bytearray, position: int, end: int, base_offset: int, base_timestamp: int, append_time: int | None
) -> Plain | Damaged:
    timestamp, position = decode_varint(buffer, position + 1)  # after the attributes, one byte
    delta, position = decode_varint(buffer, position)
    key, position = _bytes(buffer, position, end)
    value, position = _bytes(buffer, position, end)
    count, position = decode_varint(buffer, position)
    headers: list[tuple[str, bytes]] = []
    bad: list[str] = []
    for _ in range(count):
        name, position = _bytes(buffer, position, end)
        held, position = _bytes(buffer, position, end)
        text = (name or b"").decode("utf-8", "backslashreplace")
        if text.encode() != name:
            bad.append(text)
        headers.append((text, held or b""))
    offset = base_offset + delta
    at_ms = base_timestamp + timestamp if append_time is None else append_time
    if bad:
        return Damaged(offset, at_ms, f"header names that are not UTF-8: {', '.join(bad)}", key, value, headers)
    return Plain(offset, at_ms, key, value, headers)


def _bytes(buffer: bytearray, position: int, end: int) -> tuple[bytes | None, int]:
    length, position = decode_varint(buffer, position)
    if length < 0:
        return None, position
    if position + length > end:
        raise ValueError(f"{length} bytes where {end - position} are left")
    return bytes(buffer[position : position + length]), position + length
