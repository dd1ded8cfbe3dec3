"""Compressed record batches made plain within a limit: a megabyte that unpacks to gigabytes is an error, not memory.

aiokafka uncompresses whatever comes; some codecs even believe the length that is written in front. Pure.
"""

import struct
import zlib
from mmap import mmap

import cramjam

BATCH_BYTES = 32 * 1024 * 1024
"""What a batch may unpack to: thirty times what a broker takes by default, and more than any producer gathers."""
BATCH_RECORDS = 500_000
"""The smallest record has seven bytes, and costs many times that once it is read."""

_HEADER_BYTES = 61
_ATTRIBUTES_AT, _ATTRIBUTES = 21, struct.Struct(">h")
_COUNT_AT, _COUNT = 57, struct.Struct(">i")
_CODEC_MASK = 0x07
_GZIP, _SNAPPY, _LZ4, _ZSTD = 1, 2, 3, 4
_XERIAL = b"\x82SNAPPY\0"
_XERIAL_HEADER_BYTES = 16
_BLOCK = struct.Struct(">i")
_GZIP_WRAPPED = 31


class TooMuch(ValueError):
    """A batch holds more than it may."""


class _Room:
    """Where batches are unpacked, one after the other; memory only as far as it was ever written to."""

    def __init__(self) -> None:
        self._map: mmap | None = None

    def view(self, start: int = 0) -> memoryview:
        if self._map is None:
            self._map = mmap(-1, BATCH_BYTES)
        return memoryview(self._map)[start:]

    def taken(self, size: int) -> bytes:
        """The first bytes; the room is given back to the system if they were many."""
        with self.view() as view:
            found = bytes(view[:size])
        if size > _KEPT_BYTES:
            self._map = None
        return found


_KEPT_BYTES = 4 * 1024 * 1024
_room = _Room()


def codec_of(batch: memoryview) -> int:
    """Number of the codec that a batch is compressed with; 0 for none."""
    (attributes,) = _ATTRIBUTES.unpack_from(batch, _ATTRIBUTES_AT)
    return int(attributes) & _CODEC_MASK


def uncompressed(batch: memoryview) -> bytearray:
    """The same batch without compression (its checksum and length are those of before).

    Raises:
        TooMuch: it unpacks to more than `BATCH_BYTES`, or says that it holds more than `BATCH_RECORDS`.
        ValueError, cramjam.DecompressionError, zlib.error: it cannot be unpacked.
    """
    (count,) = _COUNT.unpack_from(batch, _COUNT_AT)
    if count > BATCH_RECORDS:
        raise TooMuch(f"{count} records, more than {BATCH_RECORDS}")
    codec = codec_of(batch)
    plain = bytearray(batch[:_HEADER_BYTES])
    (attributes,) = _ATTRIBUTES.unpack_from(plain, _ATTRIBUTES_AT)
    _ATTRIBUTES.pack_into(plain, _ATTRIBUTES_AT, attributes & ~_CODEC_MASK)
    plain += _unpacked(codec, batch[_HEADER_BYTES:])
    return plain


def _unpacked(codec: int, data: memoryview) -> bytes:
    if codec == _GZIP:
        return _gunzipped(data)
    try:
        if codec == _SNAPPY:
            return _room.taken(_unsnapped(data))
        with _room.view() as room:
            if codec == _LZ4:
                size = cramjam.lz4.decompress_into(data, room)
            elif codec == _ZSTD:
                size = cramjam.zstd.decompress_into(data, room)
            else:
                raise ValueError(f"there is no codec {codec}")
    except cramjam.DecompressionError as error:
        if "whole buffer" in str(error) or "smaller than required" in str(error):
            raise TooMuch(f"more than {BATCH_BYTES} bytes") from error
        raise
    return _room.taken(size)


def _unsnapped(data: memoryview) -> int:
    """Into the room; in one piece, or in the blocks that Java's library writes."""
    with _room.view() as room:
        if data[: len(_XERIAL)] != _XERIAL:
            return int(cramjam.snappy.decompress_raw_into(data, room))
        position, size = _XERIAL_HEADER_BYTES, 0
        while position < len(data):
            (length,) = _BLOCK.unpack_from(data, position)
            position += _BLOCK.size
            if length < 0:
                raise ValueError(f"a block of {length} bytes")
            size += cramjam.snappy.decompress_raw_into(data[position : position + length], room[size:])
            position += length
        return size


def _gunzipped(data: memoryview) -> bytes:
    """All members of it."""
    parts: list[bytes] = []
    left, rest = BATCH_BYTES, bytes(data)
    while rest:
        member = zlib.decompressobj(_GZIP_WRAPPED)
        parts.append(member.decompress(rest, left + 1))
        left -= len(parts[-1])
        if left < 0:
            raise TooMuch(f"more than {BATCH_BYTES} bytes")
        if not member.eof:
            raise ValueError("the gzip stream is cut off")
        rest = member.unused_data.lstrip(b"\0")
    return b"".join(parts)
