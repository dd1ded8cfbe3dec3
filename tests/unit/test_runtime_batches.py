"""Record batches: what aiokafka reads is read the same; what it gives up on is read record by record."""

import resource
import struct
from dataclasses import dataclass

import cramjam
import pytest
from aiokafka.codec import gzip_encode, lz4_encode, snappy_encode, zstd_encode
from aiokafka.errors import CorruptRecordException
from aiokafka.record.default_records import _DefaultRecordBatchBuilderPy as Builder
from aiokafka.record.util import calc_crc32c
from hypothesis import given, settings
from hypothesis import strategies as st

from hal9.log.batches import Damaged, split
from hal9.log.effects import Record
from hal9.log.uncompressing import BATCH_BYTES, BATCH_RECORDS

GZIP, SNAPPY, LZ4, ZSTD = 1, 2, 3, 4
CODECS = [0, GZIP, SNAPPY, LZ4, ZSTD]
HEADER_BYTES, ATTRIBUTES_AT, LAST_DELTA_AT, COUNT_AT = 61, 21, 23, 57
At = tuple[bytes | None, bytes | None, list[tuple[str, bytes]]]


def batch(records: list[At], base: int = 0, codec: int = 0) -> bytes:
    builder = Builder(2, codec, 0, -1, -1, -1, 1 << 20)
    for number, (key, value, headers) in enumerate(records):
        builder.append(number, 1_700_000_000_000 + number, key, value, list(headers))
    raw = bytearray(builder.build())
    raw[:8] = struct.pack(">q", base)
    return bytes(raw)


def spoilt(data: bytes, old: bytes, new: bytes) -> bytes:
    """The same batch with other bytes in it, as a broker stores it: the checksum is right."""
    raw = bytearray(data)
    at = raw.index(old)
    raw[at : at + len(old)] = new
    raw[17:21] = struct.pack(">I", calc_crc32c(bytes(raw[21:])))
    return bytes(raw)


@dataclass
class Piece:
    """What a fetch brought, all of it read."""

    records: list[Record]
    next_offset: int
    damaged: list[Damaged]
    sound: bool = True


def parse(data: bytes, offset: int, limit: int = 3) -> Piece:
    """Read it in steps of `limit`."""
    piece = Piece([], offset, [])
    for found in split(data, offset):
        piece.next_offset = found.next_offset
        while found.left:
            taken = found.take(limit)
            assert len(taken) <= limit
            assert taken or not found.left
            piece.damaged += [record for record in taken if isinstance(record, Damaged)]
            piece.records += [record for record in taken if not isinstance(record, Damaged)]
        piece.sound = piece.sound and found.sound
    return piece


def shown(records: list[Record]) -> list[tuple[int, At]]:
    return [(r.offset, (r.key, r.value, [(name, value) for name, value in r.headers])) for r in records]


headers = st.lists(st.tuples(st.text(max_size=5), st.binary(max_size=5)), max_size=3)
records = st.lists(
    st.tuples(st.none() | st.binary(max_size=9), st.none() | st.binary(max_size=9), headers), min_size=1, max_size=9
)


@settings(max_examples=100)
@given(records, records, st.integers(0, 1000), st.sampled_from(CODECS), st.integers(0, 25))
def test_records_come_back_as_they_were_written(
    first: list[At], second: list[At], base: int, codec: int, skip: int
) -> None:
    after = base + len(first)
    data = batch(first, base, codec) + batch(second, after)
    expected = [(base + n, record) for n, record in enumerate([*first, *second])]
    piece = parse(data, base + skip)
    assert shown(piece.records) == expected[skip:]
    assert piece.next_offset == max(base + skip, after + len(second))
    assert (piece.damaged, piece.sound) == ([], True)


@settings(max_examples=50)
@given(st.lists(st.integers(0, 5), min_size=1, max_size=6), st.integers(0, 5))
def test_a_header_name_that_is_not_text_costs_its_own_record_alone(bad: list[int], skip: int) -> None:
    written: list[At] = [(b"k%d" % n, b"v", [("a", b"1"), ("XX" if n in bad else "ok", b"2")]) for n in range(6)]
    data = batch(written, 10)
    for _ in set(bad):
        data = spoilt(data, b"XX", b"\xff\xfe")
    piece = parse(data, 10 + skip)
    sound = [(10 + n, record) for n, record in enumerate(written) if n not in bad and n >= skip]
    assert shown(piece.records) == sound
    assert [found.offset for found in piece.damaged] == [10 + n for n in sorted(set(bad)) if n >= skip]
    assert piece.next_offset == 16
    for found in piece.damaged:
        assert found.key == b"k%d" % (found.offset - 10)
        assert list(found.headers) == [("a", b"1"), ("\\xff\\xfe", b"2")]
        assert "\\xff\\xfe" in found.detail


def test_a_batch_cut_off_is_left_for_the_next_fetch() -> None:
    whole = batch([(b"k", b"v", [])])
    piece = parse(whole + batch([(b"k", b"v", [])], 1)[:-1], 0)
    assert (len(piece.records), piece.next_offset) == (1, 1)
    assert parse(b"", 7).next_offset == 7


def test_a_wrong_checksum_is_an_error_not_a_record() -> None:
    data = bytearray(batch([(b"k", b"v", [])]))
    data[-1] ^= 1
    with pytest.raises(CorruptRecordException, match="checksum"):
        parse(bytes(data), 0)


def test_a_record_without_an_end_costs_the_rest_of_its_batch() -> None:
    data = batch([(b"k0", b"v", []), (b"k1", b"v", [])], 5)
    length_of_first = 61
    broken = bytearray(data)
    broken[length_of_first] = 0x7E  # 63 bytes, more than there are
    piece = parse(spoilt(bytes(broken), b"k1", b"k1") + batch([(b"k2", b"v", [])], 7), 5)
    assert shown(piece.records) == [(7, (b"k2", b"v", []))]
    assert [found.offset for found in piece.damaged] == [5]
    assert piece.next_offset == 8


def test_bytes_that_cannot_be_uncompressed_cost_their_batch() -> None:
    data = spoilt(batch([(b"k" * 100, b"v", [])], 3, GZIP), b"\x1f\x8b", b"\x00\x00")
    data += batch([(b"k", b"v", [])], 4)
    piece = parse(data, 3)
    assert [record.offset for record in piece.records] == [4]
    assert isinstance(piece.damaged[0], Damaged)
    assert "uncompressed" in piece.damaged[0].detail


def packed(payload: bytes, codec: int, base: int = 0, count: int = 1) -> bytes:
    """A batch of that payload as compressed already, with a right checksum."""
    raw = bytearray(batch([(b"k", b"v", [])], base)[:HEADER_BYTES] + payload)
    struct.pack_into(">i", raw, 8, len(raw) - 12)
    struct.pack_into(">h", raw, ATTRIBUTES_AT, codec)
    struct.pack_into(">i", raw, COUNT_AT, count)
    struct.pack_into(">I", raw, 17, calc_crc32c(bytes(raw[21:])))
    return bytes(raw)


def snappy_in_one_piece(payload: bytes) -> bytes:
    return bytes(cramjam.snappy.compress_raw(payload))


BOMBS = {
    "gzip": (GZIP, gzip_encode),
    "snappy": (SNAPPY, snappy_encode),
    "snappy in one piece": (SNAPPY, snappy_in_one_piece),
    "lz4": (LZ4, lz4_encode),
    "zstd": (ZSTD, zstd_encode),
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_costs_its_batch_and_no_memory(name: str) -> None:
    codec, encode = BOMBS[name]
    bomb = bytes(encode(bytes(8 * BATCH_BYTES)))
    before_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    data = packed(bomb, codec, 3) + batch([(b"k", b"v", [])], 4)
    piece = parse(data, 3)
    (found,) = piece.damaged
    assert (found.offset, piece.next_offset) == (3, 5)
    assert "TooMuch" in found.detail
    assert shown(piece.records) == [(4, (b"k", b"v", []))]
    grown_bytes = 1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kb)
    assert grown_bytes < 3 * BATCH_BYTES


def test_a_length_in_front_that_is_not_true_is_not_believed() -> None:
    declared = b"\xff\xff\xff\xff\x0f"  # 4 GiB, as a varint
    (found,) = parse(packed(declared + b"x", SNAPPY, 3), 3).damaged
    assert "TooMuch" in found.detail


def test_more_records_than_a_batch_may_hold_are_not_read() -> None:
    smallest = b"\x0c\0\0\0\x01\x01\0" * (BATCH_RECORDS + 1)
    (found,) = parse(packed(bytes(zstd_encode(smallest)), ZSTD, 3, BATCH_RECORDS + 1), 3).damaged
    assert "TooMuch" in found.detail


@pytest.mark.parametrize("codec", [SNAPPY, LZ4, ZSTD, 7])
@pytest.mark.parametrize("payload", [b"", b"\0", b"\x82SNAPPY\0" + b"\xff" * 30, bytes(range(256))])
def test_what_is_no_compressed_payload_costs_its_batch(codec: int, payload: bytes) -> None:
    piece = parse(packed(payload, codec, 3), 3)
    assert (piece.records, piece.next_offset) == ([], 4)
    assert [found.offset for found in piece.damaged] == [3]


def test_batches_are_unpacked_one_at_a_time() -> None:
    value = bytes(BATCH_BYTES // 4)
    batches = split(b"".join(packed_record(value, at) for at in range(32)), 0)
    before_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    while batches:
        (record,) = batches.pop(0).take(1)
        assert len(record.value) == len(value)
    assert 1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kb) < 3 * BATCH_BYTES


def packed_record(value: bytes, base: int) -> bytes:
    builder = Builder(2, ZSTD, 0, -1, -1, -1, 1 << 24)
    builder.append(0, 1, b"k", value, [])
    raw = bytearray(builder.build())
    raw[:8] = struct.pack(">q", base)
    return bytes(raw)


def test_what_is_lost_in_the_middle_of_a_batch_is_told_where_reading_began() -> None:
    lost = spoilt(batch([(b"k" * 100, b"v", [])] * 3, 3, GZIP), b"\x1f\x8b", b"\x00\x00")
    (found,) = parse(lost, 5).damaged
    assert found.offset == 5
    assert not split(lost, 6)


def test_a_batch_says_that_it_is_not_sound_when_it_has_found_out() -> None:
    data = batch([(b"k0", b"v", [("ok", b"")]), (b"k1", b"v", [("XX", b"")]), (b"k2", b"v", [])], 5)
    (found,) = split(spoilt(data, b"XX", b"\xff\xfe"), 5)
    assert ([record.offset for record in found.take(1)], found.sound, found.left) == ([5], True, 2)
    assert ([record.offset for record in found.take(1)], found.sound) == ([6], False)
    assert ([record.offset for record in found.take(1)], found.left) == ([7], 0)


def test_a_batch_that_claims_more_records_than_it_has_offsets_is_read_to_its_end() -> None:
    raw = bytearray(batch([(b"k", b"v", [])] * 3, 5))
    struct.pack_into(">i", raw, COUNT_AT, 5_000)
    (found,) = split(spoilt(bytes(raw), b"k", b"k"), 5)
    assert found.left == 3
    assert [record.offset for record in found.take(3)] == [5, 6, 7]
    assert found.left == 0


def test_what_is_lost_behind_a_gap_keeps_the_order() -> None:
    raw = bytearray(batch([(b"k%d" % n, b"v", []) for n in range(3)], 5))
    delta, length = raw.index(b"k1") - 2, raw.index(b"k2") - 5
    assert (raw[delta], raw[length]) == (2, 2 * 9)
    raw[delta], raw[length] = 2 * 9, 0x7E  # compaction took what lay between, and the last one has no end
    struct.pack_into(">i", raw, LAST_DELTA_AT, 12)
    (found,) = split(spoilt(bytes(raw), b"k2", b"k2"), 5)
    assert [record.offset for record in found.take(9)] == [5, 14, 15]
