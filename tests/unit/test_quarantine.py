"""What is quarantined fits into the log of quarantine, whatever it was."""

import pytest

from hal9.errors import Poison
from hal9.log.appender import RECORD_BYTES
from hal9.log.batches import Damaged, Plain
from hal9.log.quarantine import MAX_VALUE_BYTES, quarantine
from schemas.base import decode
from schemas.reports import Quarantined, quarantined_decoder

MUCH = 3_000_000


def reported(record: Plain | Damaged, detail: str = "") -> Quarantined:
    send = quarantine("router", "requests", 3, record, Poison("bad", detail), 1.0)
    assert len(send.value or b"") + len(send.key or b"") < RECORD_BYTES
    return decode(quarantined_decoder, send.value)


def test_what_is_small_is_reported_whole() -> None:
    found = reported(Plain(7, 1, b"k", b"v", [("a", b"1"), ("ü", b"")]), "why")
    assert (found.key, found.value, found.headers) == (b"k", b"v", [("a", b"1"), ("ü", b"")])
    assert (found.service, found.topic, found.partition, found.offset) == ("router", "requests", 3, 7)
    assert (found.reason, found.detail) == ("bad", "why")


@pytest.mark.parametrize(
    "headers",
    [
        [("h", b"x" * MUCH), ("i", b"")],
        [("ü" * MUCH, b"x")],
        [("h", b"")] * 500_000,
        [("h", b"x" * 1000)] * 1000,
    ],
)
def test_what_is_too_much_is_cut(headers: list[tuple[str, bytes]]) -> None:
    found = reported(Plain(7, 1, b"k" * MUCH, b"v" * MUCH, headers), "y" * MUCH)
    assert len(found.value or b"") == MAX_VALUE_BYTES
    assert sum(len(name.encode()) + len(value) for name, value in found.headers) <= MAX_VALUE_BYTES
    assert found.headers[0][0][0] == headers[0][0][0]


def test_null_headers_are_reported_as_empty_ones() -> None:
    nulls: list[tuple[str, bytes]] = [("a", None)]  # type: ignore[list-item]  # Kafka allows it
    assert reported(Plain(7, 1, None, None, nulls)).headers == [("a", b"")]
