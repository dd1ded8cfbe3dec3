from typing import Any

import pytest
from aiokafka import TopicPartition
from aiokafka.record.default_records import _DefaultRecordBatchBuilderPy
from aiokafka.record.memory_records import MemoryRecords

from services.guardian.leniency import LenientRecords


class Bad(str):
    """A header name that is not UTF-8 on the wire."""

    __slots__ = ()

    def encode(self, *_: Any, **__: Any) -> bytes:
        return b"\xff\xfe"


def batch(base: int, *names: str, codec: int = 0) -> bytes:
    builder = _DefaultRecordBatchBuilderPy(
        2, codec, is_transactional=0, producer_id=-1, producer_epoch=-1, base_sequence=0, batch_size=16_384
    )
    for number, name in enumerate(names):
        builder.append(number, 1, b"key", b"value" * 100, [(name, b"1")])
    made = bytearray(builder.build())
    made[:8] = base.to_bytes(8, "big")
    return bytes(made)


def records(data: bytes, offset: int) -> LenientRecords:
    at = TopicPartition("outcomes", 0)
    return LenientRecords(at, MemoryRecords(data), None, offset, None, None, True, 0)


@pytest.mark.parametrize(
    ("batches", "read", "position"),
    [
        ([("a", "b"), ("c",)], [0, 1, 2], 3),
        ([("a",), (Bad(),), ("c",)], [0, 2], 3),
        ([("a", Bad(), "b"), ("c",)], [0, 3], 4),
        ([("a",), (Bad(), "b")], [0], 3),
        ([(Bad(),)], [], 1),
        ([(Bad(),), (Bad(),), ("c",)], [2], 3),
    ],
)
def test_a_batch_that_cannot_be_read_is_passed_over(
    batches: list[tuple[str, ...]], read: list[int], position: int
) -> None:
    data, base = b"", 0
    for names in batches:
        data += batch(base, *names)
        base += len(names)
    found = records(data, 0)
    assert [record.offset for record in found] == read
    assert found.next_fetch_offset == position


def test_a_compressed_batch_is_left_to_a_reader_with_limits() -> None:
    zstd = 4
    found = records(batch(0, "a") + batch(1, "b", "c", codec=zstd) + batch(3, "d"), 0)
    assert [record.offset for record in found] == [0, 3]
    assert found.next_fetch_offset == 4
