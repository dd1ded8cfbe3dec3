"""Headers and limits: what users send is judged, never trusted; what services write reads back the same."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hal9 import wire
from hal9.errors import Poison
from hal9.wire import Change, Limits, parse_request
from schemas.base import SYSTEMS

NOW = 1_700_000_000_000
Header = tuple[str, bytes | None]


@dataclass
class Rec:
    headers: Sequence[tuple[str, bytes]] = ()
    value: bytes | None = b"v"
    key: bytes | None = b"k"
    offset: int = 7
    timestamp: int = NOW


def request(*headers: Header, value: bytes | None = b"v", now_ms: float = NOW) -> wire.Request:
    return parse_request(Rec(headers, value), "hal9.requests", 3, now_ms, Limits())  # type: ignore[arg-type]


KNOWN = [getattr(wire, n) for n in dir(wire) if n.isupper() and isinstance(getattr(wire, n), str)]
values = st.one_of(
    st.none(),
    st.binary(max_size=40),
    st.sampled_from(
        [b"", b"0", b"-1", b"1_0", b" 7", b"9" * 17, b"9" * 5000, b"\xff", "٣".encode(), b"3:4", b"3:", b":"]
    ),
    st.sampled_from([b"ok", b"error", b"flat", b"hierarchical", b"%d" % (NOW + 5), b"primary"]),
)
hostile = st.lists(st.tuples(st.one_of(st.sampled_from(KNOWN), st.text(max_size=10)), values), max_size=40)


@given(hostile, st.one_of(st.none(), st.binary(max_size=10)))
def test_a_request_is_read_whatever_its_headers_are(headers: list[Header], value: bytes | None) -> None:
    read = request(*headers, value=value)
    assert 1 <= len(read.id.encode()) <= 128
    assert 0 <= read.deadline_ms <= NOW + 60_000
    assert not {name for name, _ in read.passed_on} & (wire.OURS | {wire.ID, wire.OPERATION, wire.DEADLINE})
    assert all(isinstance(v, bytes) for _, v in read.passed_on)
    if read.rejected is None:
        assert len(headers) <= 32
        assert read.deadline_ms > NOW


@given(hostile)
@pytest.mark.parametrize("parse", [wire.parse_dispatched, wire.parse_response, wire.parse_change])
def test_what_no_service_wrote_is_poison_and_nothing_else(
    parse: Callable[[Rec], object], headers: list[tuple[str, bytes]]
) -> None:
    with suppress(Poison):
        parse(Rec(headers))


def test_the_defaults_of_a_request_without_headers() -> None:
    read = request()
    assert (read.id, read.operation, read.deadline_ms) == ("hal9.requests-3-7", "process", NOW + 10_000)
    assert (read.traceparent, list(read.passed_on), read.rejected) == (None, [], None)


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ([("id", b"")], "bad-id"),
        ([("id", b"x" * 129)], "bad-id"),
        ([("id", b"\xff")], "bad-id"),
        ([("operation", b"Drop Table")], "bad-operation"),
        ([("operation", b"x" * 65)], "bad-operation"),
        ([("operation", b"")], "bad-operation"),
        ([("deadline-ms", b"soon")], "bad-deadline"),
        ([("deadline-ms", b"-1")], "bad-deadline"),
        ([("deadline-ms", b"%d" % (NOW + 60_001))], "bad-deadline"),
        ([("deadline-ms", b"%d" % NOW)], "expired"),
        ([("x", b"y")] * 33, "bad-headers"),
        ([("x", b"y" * 8192)], "bad-headers"),
        ([("é" * 3000, b"y" * 2193)], "bad-headers"),
        ([("id", b"\xff"), ("x", b"y" * 8192)], "bad-headers"),
    ],
)
def test_what_is_wrong_with_a_request_is_a_code(headers: list[Header], code: str) -> None:
    assert request(*headers).rejected == code


def test_limits_are_inclusive() -> None:
    assert request(("id", b"x" * 128), ("operation", b"a" * 64)).rejected is None
    assert request(("deadline-ms", b"%d" % (NOW + 60_000))).rejected is None
    assert request(*[("x", b"y")] * 32).rejected is None
    assert request(("x", b"y" * 8191)).rejected is None
    assert request(*[("x", b"y")] * 32, ("id", b"1"), ("operation", b"a"), ("deadline-ms", b"%d" % NOW)).rejected == (
        "expired"
    ), "what a router adds when it moves a request is not counted"
    assert request(("é" * 3000, b"y" * 2192)).rejected is None
    assert request(value=b"x" * 256 * 1024).rejected is None
    assert request(value=b"x" * (256 * 1024 + 1)).rejected == "too-large"
    assert request(value=None).rejected is None


def test_a_rejected_request_with_too_many_headers_carries_none_of_them_on() -> None:
    read = request(("traceparent", b"t" * 9000), ("x", b"y"), ("id", b"mine"))
    assert (read.id, read.rejected, list(read.passed_on), read.traceparent) == ("mine", "bad-headers", [], None)


def test_headers_that_are_ours_are_dropped_and_unknown_ones_passed_on_in_order() -> None:
    ours = [(name, b"1") for name in sorted(wire.OURS)]
    read = request(*ours, ("b", b"\xff"), ("a", None), ("b", b"2"), ("tracestate", b"s"), ("traceparent", b"t"))
    assert list(read.passed_on) == [("b", b"\xff"), ("a", b""), ("b", b"2"), ("tracestate", b"s")]
    assert read.traceparent == b"t"
    assert read.rejected is None


def test_the_first_of_a_repeated_header_counts() -> None:
    read = request(("id", b"one"), ("id", b"two"), ("operation", b"a"), ("operation", b"!"))
    assert (read.id, read.operation, list(read.passed_on), read.rejected) == ("one", "a", [], None)


@given(st.integers(0, 10**15), st.integers(0, 10**15))
def test_a_position_reads_back_the_same(partition: int, offset: int) -> None:
    assert wire.parse_position(wire.position_header(partition, offset)) == (partition, offset)


@pytest.mark.parametrize("value", [None, b"", b"3", b"3:", b":4", b"3:4:5", b"-3:4", b" 3:4", b"3:4 ", b"\xff:1"])
def test_a_malformed_position_is_none(value: bytes | None) -> None:
    assert wire.parse_position(value) is None


texts = st.one_of(st.none(), st.text(max_size=10))


@given(
    st.builds(
        Change,
        st.integers(0, 2**53),
        st.one_of(st.none(), st.integers(0, 10**15)),
        st.integers(0, 10**9),
        st.sampled_from([*SYSTEMS, "load", "move"]),
        texts,
        texts,
    ),
    st.integers(0, 10**9),
)
def test_the_headers_of_a_change_read_back_the_same(change: Change, term: int) -> None:
    headers = wire.change_headers(change, 5, term)
    assert wire.parse_change(Rec(headers)) == change
    assert wire.number(headers, wire.TERM) == term


def test_a_dispatched_request_is_either_somebodys_or_rejected() -> None:
    common = [("id", b"i"), ("operation", b"learn"), ("deadline-ms", b"9"), ("position", b"3:4"), ("epoch", b"2")]
    served = wire.parse_dispatched(Rec([*common, ("primary", b"flat"), ("shadow", b"hierarchical")]))
    assert (served.primary, served.shadow, served.position, served.after_seal) == ("flat", "hierarchical", 4, 0)
    rejected = wire.parse_dispatched(Rec([*common, ("rejected", b"expired")]))
    assert (rejected.primary, rejected.rejected) == (None, "expired")
    for wrong in ([], [("primary", b"flat"), ("rejected", b"expired")], [("primary", b"both")]):
        with pytest.raises(Poison):
            wire.parse_dispatched(Rec([*common, *wrong]))


def test_a_response_needs_position_status_and_epoch() -> None:
    good = {"position": b"3:4", "status": b"ok", "epoch": b"2"}
    read = wire.parse_response(Rec(list(good.items())))
    assert (read.position, read.epoch, read.role, read.status, read.state_version) == (4, 2, b"primary", "ok", 0)
    for status in ("ok", "error", "timeout"):
        assert wire.parse_response(Rec(list((good | {"status": status.encode()}).items()))).status == status
    for name, wrong in [("position", b"4"), ("status", b"fine"), ("epoch", b"-2"), ("epoch", b"")]:
        with pytest.raises(Poison):
            wire.parse_response(Rec(list((good | {name: wrong}).items())))
    for name in good:
        with pytest.raises(Poison):
            wire.parse_response(Rec([(n, v) for n, v in good.items() if n != name]))
