"""Records out of the bytes of a fetch. No record that a broker accepted stops a reader.

aiokafka's parser gives up a whole batch when one header name in it is not UTF-8. Such a batch is read again here,
record by record: the sound ones are records like all others, the rest come back as `Damaged`.
"""

import struct
from dataclasses import dataclass
from typing import Any

from aiokafka.errors import CorruptRecordException
from aiokafka.record.default_records import DefaultRecordBatch, _DefaultRecordBatchPy
from aiokafka.record.util import decode_varint

from hal9.log.effects import Headers, Record
from hal9.log.uncompressing import BATCH_BYTES, codec_of, uncompressed

_LENGTH = struct.Struct(">qi")
"""Base offset, and how many bytes of the batch follow."""
_MAGIC_AT = 16
_MAGIC = 2
PIECE_BYTES = 8 * 1024 * 1024
"""What batches may take in memory before the others of the same fetch are left for the next one."""
_RECORD_BYTES = 100
"""What a record takes beside its key and value, about."""


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


@dataclass(slots=True)
class Piece:
    """What a fetch brought: records in order, the offset after them, and what was passed over."""

    records: list[Record]
    next_offset: int
    damaged: list[Damaged]


def parse(data: bytes | memoryview, offset: int) -> Piece:
    """The records from `offset` on in the record batches `data`.

    A batch cut off at the end is left out, and so is what follows batches that unpacked to much.

    Raises:
        CorruptRecordException: a checksum is wrong, so the bytes are not what the broker stored; or the format is old.
    """
    piece = Piece([], offset, [])
    view = memoryview(data)
    position, size, unpacked = 0, len(view), 0
    while position + _LENGTH.size <= size and unpacked < PIECE_BYTES:
        _, length = _LENGTH.unpack_from(view, position)
        end = position + _LENGTH.size + length
        if end > size:
            break
        unpacked += _batch(view[position:end], piece)
        position = end
    return piece


def _batch(data: memoryview, piece: Piece) -> int:
    """Add a batch to `piece`; about what memory it took, which is as much as can be if it was too much."""
    if data[_MAGIC_AT] != _MAGIC:
        raise CorruptRecordException(f"record batch of format {data[_MAGIC_AT]}, not {_MAGIC}")
    batch, plain, taken = DefaultRecordBatch(data), data, len(data)
    if not batch.validate_crc():
        raise CorruptRecordException(f"checksum of the batch at offset {batch.base_offset} is wrong")
    start = piece.next_offset
    if batch.next_offset <= start:
        return 0
    if not batch.is_control_batch:
        try:
            if codec_of(data):
                plain = memoryview(uncompressed(data))
                batch = DefaultRecordBatch(plain)
            records = list(batch)
        except Exception as error:  # noqa: BLE001  what a parser or a codec raises for bytes it cannot read
            records = _one_by_one(plain, piece, error)
        taken = BATCH_BYTES if codec_of(plain) else len(plain) + _RECORD_BYTES * len(records)
        if batch.base_offset < start:
            records = [record for record in records if record.offset >= start]
        piece.records += records
    # Compaction may have taken the last records of a batch: the next fetch begins after it all the same.
    piece.next_offset = batch.next_offset
    return taken


def _one_by_one(data: memoryview, piece: Piece, reason: Exception) -> list[Any]:
    batch = _DefaultRecordBatchPy(data)
    if codec_of(data):
        what = f"the batch cannot be uncompressed: {reason!r}"
        piece.damaged.append(Damaged(batch.base_offset, batch.first_timestamp, what))
        return []
    buffer, position = batch._buffer, batch._pos  # noqa: SLF001
    append_time = batch.max_timestamp if batch.timestamp_type else None
    records: list[Any] = []
    for index in range(batch._num_records):  # noqa: SLF001
        try:
            length, body = decode_varint(buffer, position)
            position = body + length
            if length <= 0 or position > len(buffer):
                raise ValueError(f"a record of {length} bytes")  # noqa: TRY301  the handler makes the report
            record = _record(buffer, body, position, batch.base_offset, batch.first_timestamp, append_time)
        except (ValueError, IndexError) as error:
            # Where a record ends is not known any more, so what follows in the batch is lost with it.
            what = f"the batch is unreadable from here: {error}"
            piece.damaged.append(Damaged(batch.base_offset + index, batch.first_timestamp, what))
            break
        if isinstance(record, Plain):
            records.append(record)
        elif record.offset >= piece.next_offset:
            piece.damaged.append(record)
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
