"""Which reads the router looks at while it waits for answers: none that is late is passed over, few others are."""

from typing import NamedTuple

from hypothesis import given
from hypothesis import strategies as st

from hal9 import wire
from hal9.wire import MAX_AHEAD_MS, Request
from services.router.config import RouterConfig
from services.router.core import RouterCore
from services.router.entry import Entry
from services.router.outcomes import OutcomeBook
from services.router.reading import YOUNG_MS

DEADLINE_MS = 10_000
COUNTS = ((0, 0), (100_000, 5_000), (200_000, 20_000))


def test_very_many_requests_in_flight_are_looked_at_less_often() -> None:
    book = OutcomeBook("r")
    reading = RouterCore(0, RouterConfig(migration="m", partitions=1, instance="r", unique=str, book=book)).reading
    looks = {open_: sum(reading.looks(open_, base + at) for at in range(0, 10_000, 100)) for base, open_ in COUNTS}
    assert looks == {0: 100, 5_000: 100, 20_000: 25}


class Late(NamedTuple):
    """A read that is taken in so long after the one before it, and has so long."""

    after_ms: int
    within_ms: int


def serving() -> RouterCore:
    """Alone, with one read-only operation, `get`."""
    config = RouterConfig(migration="m", partitions=1, instance="r", unique=str, book=OutcomeBook("r"))
    core = RouterCore(0, config)
    core.protection.read_only = frozenset({"get"})
    core.start({}, 0.0)
    core.phase = "serve"
    return core


def admitted(core: RouterCore, number: int, now_ms: float, within_ms: float, operation: str = "get") -> Entry:
    """A request that is taken in now, of a key of its own."""
    key = b"n%d" % number
    request = Request(f"id-{number}", operation, int(now_ms + within_ms), None, [])
    entry = Entry(number, key, core.keys.of(key), request, b"", now_ms)
    core.admit(entry, now_ms)
    return entry


@given(st.lists(st.builds(Late, st.integers(0, 40_000), st.integers(1, 2 * MAX_AHEAD_MS)), max_size=12))
def test_no_late_read_is_passed_over_for_being_young(reads: list[Late]) -> None:
    core, now_ms, taken = serving(), 0.0, list[Entry]()
    for number, read in enumerate([*reads, Late(2 * MAX_AHEAD_MS, 1)]):
        for _ in range(read.after_ms // 250):
            now_ms += 250.0
            core.reading.tick(0, now_ms)
            taken = [entry for entry in taken if entry.request.deadline_ms > now_ms]
            late = [e for e in taken if now_ms >= (e.received_ms + e.request.deadline_ms) / 2]
            assert list(core.reading._late(taken, now_ms)) == [e for e in late if now_ms - e.received_ms >= YOUNG_MS]
        taken.append(admitted(core, number, now_ms, read.within_ms))


def test_a_read_that_waited_for_its_key_stands_behind_later_requests_and_falls_back_in_time() -> None:
    core = serving()
    read = admitted(core, 1, 0.0, DEADLINE_MS)
    core.queues[b"n1"] = [read]
    core.tick(5_800.0)
    core._dispatch(write := admitted(core, 2, 5_900.0, DEADLINE_MS, "put"), core.keys.of(b"n2"))
    core.pump(b"n1")  # its key was handed over
    core.effects.sends.clear()
    core.tick(6_000.0)
    assert list(core.in_flight.values()) == [write, read]
    assert [(send.key, wire.FALLBACK in dict(send.headers)) for send in core.effects.sends] == [(b"n1", True)]
