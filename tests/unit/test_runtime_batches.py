"""Record batches: what aiokafka reads is read the same; what it gives up on is read record by record."""

import struct

import pytest
from aiokafka.errors import CorruptRecordException
from aiokafka.record.default_records import _DefaultRecordBatchBuilderPy as Builder
from aiokafka.record.util import calc_crc32c
from hypothesis import given, settings
from hypothesis import strategies as st

from hal9.log.batches import Damaged, parse
from hal9.log.effects import Record

GZIP = 1
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


def shown(records: list[Record]) -> list[tuple[int, At]]:
    return [(r.offset, (r.key, r.value, [(name, value) for name, value in r.headers])) for r in records]


headers = st.lists(st.tuples(st.text(max_size=5), st.binary(max_size=5)), max_size=3)
records = st.lists(
    st.tuples(st.none() | st.binary(max_size=9), st.none() | st.binary(max_size=9), headers), min_size=1, max_size=9
)


@settings(max_examples=50)
@given(records, records, st.integers(0, 1000), st.sampled_from([0, GZIP]), st.integers(0, 25))
def test_records_come_back_as_they_were_written(
    first: list[At], second: list[At], base: int, codec: int, skip: int
) -> None:
    after = base + len(first)
    data = batch(first, base, codec) + batch(second, after)
    expected = [(base + n, record) for n, record in enumerate([*first, *second])]
    piece = parse(data, base + skip)
    assert shown(piece.records) == expected[skip:]
    assert piece.next_offset == max(base + skip, after + len(second))
    assert piece.damaged == []


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
    piece = parse(data + batch([(b"k", b"v", [])], 4), 3)
    assert [record.offset for record in piece.records] == [4]
    assert isinstance(piece.damaged[0], Damaged)
    assert "uncompressed" in piece.damaged[0].detail
