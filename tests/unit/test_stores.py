"""The comparison of the stores names each key that differs, how, and nothing that is in order."""

from typing import Any

import pytest

from hal9 import wire
from hal9.backend.store import envelope
from hal9.keys import bucket_of
from hal9.log.effects import Send
from schemas.base import FLAT, HIERARCHICAL, encode
from schemas.state import Claim, RouteMark, Seal
from services.migrator.stores import Difference, Expected, Report, Store, compare
from services.migrator.transform import to_unit

ALL = Expected("m", backfilled=10_000, followed_from=0)


def neuron(key: str, learned: int = 0, **more: Any) -> dict[str, Any]:
    return {
        "neuron_id": key,
        "neuron_type": "hidden",
        "activation": "relu",
        "weights": [0.5, -0.0],
        "bias": 0.1,
        "learning_rate": 0.01,
        "momentum": [0.0, 0.0],
        "connections": [],
        "memory": {"learned": learned},
        "context": {},
        "response_time_ms": 5.0,
        "is_async": False,
        "created_at": 1,
        **more,
    }


def change(key: str, version: int, state: dict[str, Any] | None, *, term: int = 0, epoch: int = 0) -> Send:
    headers = wire.change_headers(wire.Change(version, None, epoch, "flat", "ok", None), 0, term)
    return Send("", key.encode(), envelope(state, None), headers)


def claim() -> Send:
    return Send("", b"\0claim/1", encode(Claim(instance="x")), [])


def numbered(*records: Send, start: int = 0) -> list[Send]:
    for offset, record in enumerate(records, start):
        record.offset = offset
    return list(records)


def flat(own: list[Send], replica: list[Send] | None = None) -> Store:
    store = Store(FLAT, "m")
    store.feed("neurons.changes", numbered(*own))
    store.feed("neurons.replica", numbered(*(replica or [])))
    return store


def hierarchical(replica: list[Send], own: list[Send] | None = None) -> Store:
    store = Store(HIERARCHICAL, "m")
    store.feed("units.replica", numbered(*replica))
    store.feed("units.changes", numbered(*(own or [])))
    return store


def unit(key: str, learned: int = 0, **more: Any) -> dict[str, Any]:
    return to_unit(neuron(key, learned, **more))


def found(report: Report) -> list[tuple[str, str]]:
    return [(difference.key, difference.kind) for difference in report.differences]


def test_equal_stores_are_equal_whichever_log_holds_the_newest() -> None:
    one = flat([change("a", 1, neuron("a")), change("b", 1, neuron("b"))], [change("b", 2, neuron("b", 1))])
    two = hierarchical([change("a", 1, unit("a")), change("b", 1, unit("b"))], [change("b", 2, unit("b", 1))])
    report = compare(0, one, two, None, ALL)
    assert (report.keys, report.equal, report.stores_equal) == (2, 2, True)


def test_a_version_that_one_side_lacks_a_state_that_differs_and_a_key_that_is_gone_are_named() -> None:
    one = flat([change("a", 2, neuron("a")), change("b", 1, neuron("b", 1)), change("c", 1, neuron("c"))])
    two = hierarchical([change("a", 1, unit("a")), change("b", 1, unit("b", 2)), change("d", 1, unit("d"))])
    report = compare(7, one, two, None, ALL)
    assert found(report) == [("a", "version"), ("b", "state"), ("c", "missing"), ("d", "missing")]
    assert report.differences[0] == Difference("a", 7, "version", "flat has version 2, hierarchical 1", 2, 1)
    assert report.differences[1].detail == "fields memory differ"
    assert report.equal == 0


def test_the_last_bit_of_a_weight_counts() -> None:
    one = flat([change("a", 1, neuron("a", weights=[0.5, 0.0]))])
    two = hierarchical([change("a", 1, unit("a"))])
    assert found(compare(0, one, two, None, ALL)) == [("a", "state")]


def test_void_records_count_for_nothing() -> None:
    late = change("a", 9, neuron("a", 9), term=0)
    one = flat([claim(), change("a", 1, neuron("a"), term=0), claim(), late])
    two = hierarchical([change("a", 1, unit("a"))])
    report = compare(0, one, two, None, ALL)
    assert report.stores_equal
    assert one.newest[b"a"].version == 1


def test_what_a_seal_voids_counts_for_nothing() -> None:
    route = RouteMark(epoch=3, bound=10_000)
    seal = Send("", b"\0seal/3", encode(Seal(route=route)), [])
    one = flat([change("a", 1, neuron("a")), seal, change("a", 2, neuron("a", 1), epoch=2)])
    two = hierarchical([change("a", 1, unit("a"))])
    assert compare(0, one, two, None, ALL).stores_equal


@pytest.mark.parametrize(
    ("expected", "lacking"),
    [
        (Expected("m", 0, None), True),
        (Expected("m", 0, 1), True),
        (Expected("m", 0, 0), False),
        (Expected("m", bucket_of("m/route", b"a") + 1, 1), False),
        (Expected("m", bucket_of("m/route", b"a"), 1), True),
        (Expected("m", 10_000, None, frozenset({"a"})), True),
    ],
)
def test_a_cold_neuron_need_not_be_copied_before_its_bucket_is(expected: Expected, lacking: bool) -> None:
    report = compare(0, flat([change("a", 1, neuron("a"))]), hierarchical([]), None, expected)
    assert report.stores_equal is lacking
    assert report.not_copied + report.pinned == lacking


def test_what_hierarchical_changed_is_never_allowed_to_be_missing_at_flat() -> None:
    report = compare(0, flat([]), hierarchical([], [change("a", 1, unit("a"))]), None, Expected("m", 0, None))
    assert found(report) == [("a", "missing")]


def test_a_deletion_may_be_forgotten_but_not_be_one_sided() -> None:
    forgotten = compare(0, flat([]), hierarchical([], [change("a", 2, None)]), None, ALL)
    assert forgotten.stores_equal
    both = compare(0, flat([change("a", 2, None)]), hierarchical([change("a", 2, None)]), None, ALL)
    assert both.stores_equal
    older = compare(0, flat([change("a", 2, None)]), hierarchical([change("a", 9, None)]), None, ALL)
    assert older.stores_equal, "the deletion of a later life is forgotten at flat alone"
    one_sided = compare(0, flat([change("a", 2, None)]), hierarchical([change("a", 2, unit("a"))]), None, ALL)
    assert found(one_sided) == [("a", "state")]


def test_redis_may_keep_the_version_of_what_the_logs_have_forgotten_but_no_unit_of_it() -> None:
    kept = compare(0, flat([]), hierarchical([]), {b"a": (5, None)}, ALL)
    assert kept.stores_equal
    surplus = compare(0, flat([]), hierarchical([]), {b"a": (5, encode(unit("a")))}, ALL)
    assert found(surplus) == [("a", "redis-surplus")]


def test_a_unit_without_a_neuron_and_an_unreadable_record_are_named() -> None:
    broken = {"unit_id": "a"}
    garbage = Send("", b"b", b"\xc1", change("b", 1, None).headers)
    two = hierarchical([change("a", 1, broken), garbage])
    report = compare(0, flat([change("a", 1, neuron("a"))]), two, None, ALL)
    assert found(report) == [("b", "unreadable"), ("a", "unmappable")]
    assert "units.replica at offset 1" in report.differences[0].detail


def test_redis_is_compared_in_version_and_bytes() -> None:
    keys = ["a", "b", "c", "d", "f"]
    one = flat([change(key, 1, neuron(key)) for key in keys] + [change("d", 2, None)])
    two = hierarchical([change(key, 1, unit(key)) for key in keys] + [change("d", 2, None)])
    redis = {
        b"a": (1, encode(unit("a"))),
        b"b": (1, encode(unit("b", 1))),
        b"c": (2, encode(unit("c"))),
        b"d": (2, None),
        b"e": (1, encode(unit("e"))),
    }
    report = compare(0, one, two, redis, ALL)
    assert found(report) == [
        ("b", "redis-unit"),
        ("c", "redis-version"),
        ("e", "redis-surplus"),
        ("f", "redis-missing"),
    ]
    assert report.equal == 5
    assert found(compare(0, one, two, {**redis, b"d": (2, b"x")}, ALL))[2] == ("d", "redis-unit")
