"""Ownership by bucket, and the step functions over the buckets, against a naive model with one cell per bucket."""

from dataclasses import replace
from types import MappingProxyType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hal9.control.route import PinFilter, Route, Spans
from hal9.keys import BUCKETS, bucket_of, partition_of
from schemas.base import SYSTEMS, System
from schemas.state import RouteMark
from schemas.state import Spans as WireSpans

SALT = "hal9/route"
NAMES = [f"neuron-{i}" for i in range(6)]
EDGES = sorted({0, 1, 5000, BUCKETS - 1, BUCKETS, *(bucket_of(SALT, n.encode()) for n in NAMES)})

bounds = st.one_of(st.sampled_from(EDGES), st.integers(0, BUCKETS))
pins = st.dictionaries(st.sampled_from(NAMES), st.sampled_from(SYSTEMS), max_size=3)
routes = st.builds(lambda b, p: Route(b, 0, MappingProxyType(p)), bounds, pins)


PREFIXES = ["n", "neuron-", "neuron-1", "neuron-12", "other"]
LONG = [*NAMES, "neuron-12", "neuron-123", "no", "other-1", "x"]

prefixes = st.dictionaries(st.sampled_from(PREFIXES), st.sampled_from(SYSTEMS), max_size=3)
scoped = st.builds(
    lambda b, p, q: Route(b, 0, MappingProxyType(p), MappingProxyType(q)),
    bounds,
    st.dictionaries(st.sampled_from(LONG), st.sampled_from(SYSTEMS), max_size=2),
    prefixes,
)
CLASSES = (None, "reflexive", "tactical")
layered = st.builds(
    lambda route, names: replace(route, held=names), scoped, st.frozensets(st.sampled_from(["reflexive", "tactical"]))
)


def own(name: str) -> int:
    return bucket_of(SALT, name.encode())


class Naive:
    """The same as `Spans`, with a cell per bucket and one per key that was ever pinned."""

    def __init__(self) -> None:
        self.cells = [0] * BUCKETS
        self.keys: dict[str, int] = {}

    def at(self, key: str) -> int:
        return self.keys.get(key, self.cells[bucket_of(SALT, key.encode())])

    def moved(self, before: Route, after: Route, epoch: int) -> None:
        pinned = {k: self.at(k) for k in {*before.pins, *after.pins, *self.keys}}
        for b in range(BUCKETS):
            if before.owner(b, "") != after.owner(b, ""):
                self.cells[b] = max(self.cells[b], epoch)
        for key, held in pinned.items():
            b = bucket_of(SALT, key.encode())
            self.keys[key] = held if before.owner(b, key) == after.owner(b, key) else epoch

    def lost(self, route: Route, system: System, epoch: int) -> None:
        pinned = {k: self.at(k) for k in {*route.pins, *self.keys}}
        for b in range(BUCKETS):
            if route.owner(b, "") != system:
                self.cells[b] = max(self.cells[b], epoch)
        for key, held in pinned.items():
            b = bucket_of(SALT, key.encode())
            self.keys[key] = held if route.owner(b, key) == system else max(held, epoch)


def assert_same(spans: Spans, naive: Naive) -> None:
    assert [spans.at(b, "") for b in range(BUCKETS)] == naive.cells
    for name in NAMES:
        assert spans.at(bucket_of(SALT, name.encode()), name) == naive.at(name)
    assert spans.newest() == max([*naive.cells, *naive.keys.values()])
    assert len(spans.bounds) == len(spans.epochs) <= len(set(zip(naive.cells, naive.cells[1:], strict=False)))


@given(st.binary(min_size=1, max_size=40), bounds, bounds)
def test_raising_the_percentage_never_removes_a_key(key: bytes, one: int, other: int) -> None:
    low, high = sorted((one, other))
    bucket = bucket_of(SALT, key)
    if Route(low).owner(bucket, "") == "hierarchical":
        assert Route(high).owner(bucket, "") == "hierarchical"


@given(routes, st.sampled_from(NAMES))
def test_a_pinned_key_is_where_it_is_pinned_and_others_follow_their_bucket(route: Route, name: str) -> None:
    bucket = bucket_of(SALT, name.encode())
    by_bucket = "hierarchical" if bucket < route.percentage * 100 else "flat"
    assert route.owner(bucket, name) == route.pins.get(name, by_bucket)


@given(st.lists(routes, min_size=1, max_size=6))
def test_moved_says_in_which_epoch_each_bucket_and_key_last_changed_hands(walk: list[Route]) -> None:
    spans, naive, before = Spans(), Naive(), Route()
    for epoch, after in enumerate(walk, 1):
        spans = spans.moved(before, after, epoch, SALT)
        naive.moved(before, after, epoch)
        before = after
    assert_same(spans, naive)


@given(st.lists(st.tuples(st.integers(0, 9), routes), min_size=1, max_size=6), st.sampled_from(SYSTEMS))
def test_lost_says_the_newest_sealed_epoch_without_ownership(seals: list[tuple[int, Route]], system: System) -> None:
    spans, naive = Spans(), Naive()
    for epoch, route in seals:
        spans = spans.lost(route, system, epoch, SALT)
        naive.lost(route, system, epoch)
    assert_same(spans, naive)


@given(st.lists(scoped, min_size=1, max_size=6))
def test_moved_is_exact_for_every_key_whatever_prefixes_and_pins_come_and_go(walk: list[Route]) -> None:
    spans, before, told = Spans(), Route(), dict.fromkeys(LONG, 0)
    for epoch, after in enumerate(walk, 1):
        spans = spans.moved(before, after, epoch, SALT)
        for name in LONG:
            if before.owner(own(name), name) != after.owner(own(name), name):
                told[name] = epoch
        before = after
        assert {name: spans.at(own(name), name) for name in LONG} == told
    assert spans.newest() >= max(told.values())
    assert Spans.of(spans.wire()) == spans


@given(st.lists(scoped, min_size=1, max_size=6), st.sampled_from(SYSTEMS))
def test_lost_is_exact_for_every_key_whatever_prefixes_and_pins_come_and_go(walk: list[Route], system: System) -> None:
    spans, told = Spans(), dict.fromkeys(LONG, 0)
    for epoch, route in enumerate(walk, 1):
        spans = spans.lost(route, system, epoch, SALT)
        told |= {name: epoch for name in LONG if route.owner(own(name), name) != system}
        assert {name: spans.at(own(name), name) for name in LONG} == told


@given(st.lists(layered, min_size=1, max_size=6))
def test_moved_is_exact_for_every_key_of_every_layer(walk: list[Route]) -> None:
    spans, before = Spans(), Route()
    told = {(name, layer): 0 for name in LONG for layer in CLASSES}
    for epoch, after in enumerate(walk, 1):
        spans = spans.moved(before, after, epoch, SALT)
        for name, layer in told:
            if before.owner(own(name), name, layer) != after.owner(own(name), name, layer):
                told[name, layer] = epoch
        before = after
        assert {(name, layer): spans.at(own(name), name, layer) for name, layer in told} == told
        for name in LONG:
            assert spans.newest_at(own(name), name) == max(told[name, layer] for layer in CLASSES)
    assert spans.newest() >= max(told.values())
    assert Spans.of(spans.wire()) == spans
    assert Route.of(before.mark(9)) == before


@given(st.lists(layered, min_size=1, max_size=6), st.sampled_from(SYSTEMS))
def test_lost_is_exact_for_every_key_of_every_layer(walk: list[Route], system: System) -> None:
    spans, told = Spans(), {(name, layer): 0 for name in LONG for layer in CLASSES}
    for epoch, route in enumerate(walk, 1):
        spans = spans.lost(route, system, epoch, SALT)
        told |= {(name, layer): epoch for name, layer in told if route.owner(own(name), name, layer) != system}
        assert {(name, layer): spans.at(own(name), name, layer) for name, layer in told} == told


@given(scoped, scoped)
def test_all_that_moves_to_hierarchical_lies_within_reach(before: Route, after: Route) -> None:
    for name in LONG:
        if (before.owner(own(name), name), after.owner(own(name), name)) == ("flat", "hierarchical"):
            assert own(name) < after.reach(before, SALT)


def test_a_pin_that_holds_a_key_where_it_is_reaches_no_further() -> None:
    name = next(f"n{i}" for i in range(1000) if own(f"n{i}") < 100)
    held = MappingProxyType({name: SYSTEMS[1]})
    assert Route(0, 0, held).reach(Route(100), SALT) == 0


@given(bounds, bounds, st.integers(0, 5), bounds, bounds, st.integers(0, 5))
def test_raised_keeps_the_greater_epoch_and_leaves_its_argument_alone(
    a: int, b: int, e: int, c: int, d: int, f: int
) -> None:
    first = Spans().raised(a, b, e)
    kept = (list(first.bounds), list(first.epochs))
    second = first.raised(c, d, f)
    cells = [0] * BUCKETS
    cells[a:b] = [e] * len(cells[a:b])
    cells[c:d] = [max(x, f) for x in cells[c:d]]
    assert [second.at(x, "") for x in range(BUCKETS)] == cells
    assert (first.bounds, first.epochs) == kept


@given(st.lists(scoped, max_size=4))
def test_what_a_marker_carries_reads_back_the_same(walk: list[Route]) -> None:
    spans, before = Spans(), Route()
    for epoch, after in enumerate(walk, 1):
        spans, before = spans.moved(before, after, epoch, SALT), after
        assert Route.of(after.mark(epoch)) == after
    assert Spans.of(spans.wire()) == spans


@pytest.mark.parametrize(
    "malformed",
    [
        WireSpans(bounds=[], epochs=[]),
        WireSpans(bounds=[5000], epochs=[0]),
        WireSpans(bounds=[5000, BUCKETS], epochs=[0]),
        WireSpans(bounds=[5000, 5000, BUCKETS], epochs=[0, 1, 2]),
        WireSpans(bounds=[6000, 5000, BUCKETS], epochs=[0, 1, 2]),
        WireSpans(bounds=[0, BUCKETS], epochs=[0, 1]),
        WireSpans(bounds=[-1, BUCKETS], epochs=[0, 1]),
    ],
)
def test_a_malformed_step_function_is_refused(malformed: WireSpans) -> None:
    with pytest.raises(ValueError, match="not a step function"):
        Spans.of(malformed)


def test_a_marker_carries_only_the_pins_of_its_partition() -> None:
    route = Route(5000, 0, MappingProxyType(dict.fromkeys(NAMES, SYSTEMS[0])))
    spans = Spans().moved(Route(5000), route, 1, SALT)
    seen: dict[str, int] = {}
    for partition in range(4):
        mark: RouteMark = route.mark(1, PinFilter(partition, 4))
        assert all(partition_of(k.encode(), 4) == partition for k in mark.pins)
        assert spans.wire(PinFilter(partition, 4)).keys.keys() == mark.pins.keys()
        seen |= dict.fromkeys(mark.pins, partition)
    assert sorted(seen) == sorted(NAMES)
