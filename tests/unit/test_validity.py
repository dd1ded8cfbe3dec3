"""Which records count, against a direct port of the executable model's rules (`Val`), over random logs."""

import zlib
from base64 import b85encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from hal9 import wire
from hal9.control.flags import route_of
from hal9.control.route import PinFilter, Route, Spans
from hal9.errors import Poison
from hal9.keys import bucket_of
from hal9.log.validity import Validity
from schemas.base import SYSTEMS, System, encode
from schemas.control import Flags
from schemas.state import Claim, Marker, RouteMark, Seal
from schemas.state import Spans as WireSpans

SALT = "hal9/route"
NAMES = ["a", "b", "c", "d"]
BUCKET = {n: bucket_of(SALT, n.encode()) for n in NAMES}
CUTS = sorted({0, 10_000, *BUCKET.values(), *(b + 1 for b in BUCKET.values())})


@dataclass
class Rec:
    key: bytes | None
    value: bytes | None = b""
    headers: Sequence[tuple[str, bytes]] = ()
    offset: int = 0
    timestamp: int = 0


@dataclass(frozen=True)
class Event:
    """A record in the model's words."""

    kind: str
    term: int = 0
    epoch: int = 0
    bound: int = 0
    name: str = "a"
    pins: Mapping[str, System] = field(default_factory=dict)

    def record(self, offset: int) -> Rec:
        headers = [(wire.TERM, b"%d" % self.term), (wire.EPOCH, b"%d" % self.epoch)]
        route = RouteMark(epoch=self.epoch, bound=self.bound, pins=dict(self.pins))
        match self.kind:
            case "claim":
                return Rec(wire.CLAIM + b"%d" % offset, encode(Claim(instance="i")), (), offset)
            case "seal":
                return Rec(wire.SEAL + b"%d" % self.epoch, encode(Seal(route=route)), headers, offset)
            case "marker":
                marker = Marker(route=route, moved=Spans().wire())
                return Rec(wire.MARKER + b"%d" % self.epoch, encode(marker), headers, offset)
            case _:
                return Rec(self.name.encode(), b"x", headers, offset)


class Val:
    """The model's class of this name, rules in force written out: `log` is 'c' (changes), 'p' (replica), 'd'."""

    def __init__(self, log: str, system: System) -> None:
        self.log, self.sys, self.claim, self.epoch = log, system, -1, 0
        self.seals: dict[int, Route] = {}

    def sealed(self, epoch: int, name: str) -> bool:
        return any(epoch < e and r.owner(BUCKET[name], name) != self.sys for e, r in self.seals.items())

    def feed(self, offset: int, event: Event) -> bool:
        if event.kind == "claim":
            self.claim = offset
            return True
        if self.log == "c" and event.kind == "seal":
            if event.epoch in self.seals:
                return False
            self.seals[event.epoch] = Route(event.bound, 0, MappingProxyType(dict(event.pins)))
            return True
        if event.term < self.claim or (event.kind == "marker" and event.epoch <= self.epoch):
            return False
        if event.kind == "marker":
            self.epoch = event.epoch
        return self.log != "c" or not self.sealed(event.epoch, event.name)


def events(*kinds: str) -> st.SearchStrategy[list[Event]]:
    """Logs in which terms are mostly near the newest offsets, as those of writers and zombies are."""
    one = st.builds(
        Event,
        st.sampled_from(kinds),
        st.integers(0, 12),
        st.integers(0, 6),
        st.sampled_from(CUTS),
        st.sampled_from(NAMES),
        st.dictionaries(st.sampled_from(NAMES), st.sampled_from(SYSTEMS), max_size=2),
    )
    return st.lists(one, max_size=25).map(lambda log: [*log, Event("data", 99, 3)])


def verdicts(validity: Validity, log: list[Event], start: int = 0) -> list[bool]:
    return [validity.feed(event.record(offset)) != "void" for offset, event in enumerate(log[start:], start)]


@given(events("data", "data", "data", "claim", "seal"), st.sampled_from(SYSTEMS))
@example([Event("seal", 0, 2, 10_000), Event("seal", 0, 1, 0), Event("data", 0, 1)], "flat")
def test_the_records_of_a_change_log_count_as_in_the_model(log: list[Event], system: System) -> None:
    model = Val("c", system)
    assert verdicts(Validity(system=system, salt=SALT), log) == [model.feed(o, e) for o, e in enumerate(log)]


@given(events("data", "data", "claim", "seal"))
def test_the_records_of_a_replica_log_count_by_term_and_the_first_seal_of_an_epoch_stands(log: list[Event]) -> None:
    model, validity, seen = Val("p", "flat"), Validity(), set[int]()
    for offset, event in enumerate(log):
        expected = model.feed(offset, event)
        if event.kind == "seal":
            # A later copy of a seal says what the first one said: it is passed over here, harmless in the model.
            expected = expected and event.epoch not in seen
            seen |= {event.epoch} if expected else set()
        assert (validity.feed(event.record(offset)) != "void") == expected


@given(events("data", "data", "claim", "marker"))
def test_the_records_of_dispatched_count_as_in_the_model(log: list[Event]) -> None:
    model, validity = Val("d", "flat"), Validity()
    assert verdicts(validity, log) == [model.feed(o, e) for o, e in enumerate(log)]
    assert validity.epoch == model.epoch


def later_verdicts(first: Validity, later: Validity, log: list[Event], position: int) -> list[bool]:
    """What a reader says that starts at `position` with what `first`, which has read on, saved for it."""
    later.restore(first.saved(position))
    return verdicts(later, log, position)


cuts = st.lists(st.integers(0, 25), min_size=1, max_size=3).map(sorted)


@given(events("data", "data", "claim", "seal"), st.sampled_from(SYSTEMS), cuts)
def test_a_reader_of_a_change_log_that_starts_later_comes_to_the_same_verdicts(
    log: list[Event], system: System, positions: list[int]
) -> None:
    whole = Validity(system=system, salt=SALT)
    expected = verdicts(whole, log)
    for position in [min(p, len(log)) for p in positions]:
        later = Validity(system=system, salt=SALT)
        assert later_verdicts(whole, later, log, position) == expected[position:]
        assert (later.lost, later.seals.keys(), later.claim) == (whole.lost, whole.seals.keys(), whole.claim)


@given(events("data", "data", "claim", "marker"), cuts)
def test_a_reader_of_dispatched_that_starts_later_comes_to_the_same_verdicts(
    log: list[Event], positions: list[int]
) -> None:
    whole = Validity()
    expected = verdicts(whole, log)
    for position in [min(p, len(log)) for p in positions]:
        later = Validity()
        assert later_verdicts(whole, later, log, position) == expected[position:]
        assert (later.marker, later.epoch, later.claim) == (whole.marker, whole.epoch, whole.claim)


@given(events("data", "claim", "seal"), st.sampled_from(SYSTEMS), st.integers(0, 25), st.integers(0, 25))
def test_what_was_restored_can_be_saved_again(log: list[Event], system: System, a: int, b: int) -> None:
    one, two = sorted((min(a, len(log)), min(b, len(log))))
    whole, second, third = (Validity(system=system, salt=SALT) for _ in range(3))
    expected = verdicts(whole, log)
    assert later_verdicts(whole, second, log, one) == expected[one:]
    assert later_verdicts(second, third, log, two) == expected[two:]


headers = st.lists(
    st.tuples(
        st.sampled_from([wire.TERM, wire.EPOCH, wire.POSITION, "x", ""]),
        st.one_of(st.none(), st.binary(max_size=20), st.sampled_from([b"-1", b"0", b"99999999999999999999", b"\xff"])),
    ),
    max_size=5,
)
marks = st.sampled_from([wire.CLAIM, wire.SEAL, wire.MARKER, b"\0", b"\0other/"])
keys = st.one_of(st.none(), st.binary(max_size=12), st.builds(bytes.__add__, marks, st.binary(max_size=8)))


@given(keys, st.one_of(st.none(), st.binary(max_size=40)), headers, st.sampled_from([None, *SYSTEMS]))
def test_no_record_whatever_it_holds_raises(
    key: bytes | None, value: bytes | None, hostile: list[tuple[str, bytes]], system: System | None
) -> None:
    validity = Validity(system=system, salt=SALT)
    validity.feed(Event("claim").record(0))
    kind = validity.feed(Rec(key, value, hostile, 1))
    if key is not None and key.startswith((wire.SEAL, wire.MARKER)):
        assert kind == "void"


def test_a_record_without_a_term_is_void() -> None:
    assert Validity().feed(Rec(b"a", b"x")) == "void"


def test_a_mark_that_cannot_be_read_is_void_and_changes_nothing() -> None:
    validity = Validity(system="flat", salt=SALT)
    hostile = [encode({"route": {"epoch": 1, "bound": 10_001}}), b"\xc1", encode(7), None, b"\x91" * 2000]
    for offset, value in enumerate(hostile):
        assert validity.feed(Rec(wire.SEAL + b"1", value, [(wire.TERM, b"0")], offset)) == "void"
    assert validity.seals == {}


def test_a_marker_whose_step_function_is_malformed_is_void() -> None:
    route = RouteMark(epoch=1, bound=5000)
    marker = Marker(route=route, moved=WireSpans(bounds=[5000], epochs=[0]))
    validity = Validity()
    assert validity.feed(Rec(wire.MARKER + b"1", encode(marker), [(wire.TERM, b"0")])) == "void"
    assert validity.epoch == 0


@pytest.mark.parametrize(
    "text",
    [
        "?",
        "é",
        "AAAA",
        b85encode(zlib.compress(encode({"lost": {"bounds": [], "epochs": []}}))).decode(),
        b85encode(zlib.compress(b"\x00" * 10_000_000)).decode(),
        b85encode(zlib.compress(encode({}))[:-6]).decode(),
    ],
)
def test_metadata_that_no_reader_saved_is_poison(text: str) -> None:
    with pytest.raises(Poison):
        Validity().restore(text)


def test_no_metadata_means_the_start_of_the_log() -> None:
    validity = Validity(system="flat", salt=SALT)
    validity.restore("")
    assert repr(validity) == "Validity(claim=-1, epoch=0, seals=[])"


def test_five_thousand_pinned_keys_fit_into_the_metadata_of_a_commit() -> None:
    """Twelve partitions; what does not fit is not committed, and a take-over reads from the commit before."""
    keys = [f"digits/{n // 100}/hidden/{n % 100}" for n in range(5_000)]
    flags = Flags(percentage=25.0, pins={key: SYSTEMS[n % 2] for n, key in enumerate(keys)})
    mine = PinFilter(3, 12)
    route = route_of(flags)
    moved = Spans().moved(Route(), route, 1, SALT)
    assert len(route.mark(1, mine).pins) > 350
    dispatched = Validity()
    marker = Marker(route=route.mark(1, mine), moved=moved.wire(mine))
    assert dispatched.feed(Rec(wire.MARKER + b"1", encode(marker), [(wire.TERM, b"0")], 7)) == "marker"
    changes = Validity(system="flat", salt=SALT)
    assert changes.feed(Rec(wire.SEAL + b"1", encode(Seal(route=route.mark(1, mine))), [], 9)) == "seal"
    for fed in (dispatched, changes):
        saved = fed.saved(10)
        assert len(saved) < 3_800
        again = Validity(system=fed._system, salt=SALT)
        again.restore(saved)
        assert (again.marker, again.lost, list(again.seals)) == (fed.marker, fed.lost, list(fed.seals))
