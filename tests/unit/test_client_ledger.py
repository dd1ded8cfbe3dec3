"""The first answer for an id counts, whatever else arrives."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hal9.client.ledger import Ledger


def test_the_first_answer_counts_and_later_ones_are_repeats() -> None:
    ledger = Ledger(10)
    ledger.open(b"a")
    assert [ledger.arrived(b"a", 0), ledger.arrived(b"a", 1), ledger.arrived(b"a", 2)] == [
        "first",
        "repeated",
        "repeated",
    ]
    assert ledger.arrived(b"somebody else's", 0) == "foreign"


def test_an_answer_after_giving_up_is_late_and_only_once() -> None:
    ledger = Ledger(10)
    ledger.open(b"a")
    ledger.give_up(b"a", 0)
    assert [ledger.arrived(b"a", 1), ledger.arrived(b"a", 2)] == ["late", "repeated"]


def test_an_id_in_use_is_refused_until_it_is_forgotten() -> None:
    ledger = Ledger(10)
    ledger.open(b"a")
    ledger.arrived(b"a", 0)
    with pytest.raises(ValueError, match="in use"):
        ledger.open(b"a")
    ledger.open(b"b")
    ledger.arrived(b"b", 10)
    ledger.open(b"a")
    assert ledger.arrived(b"a", 10) == "first"


@given(st.lists(st.tuples(st.integers(0, 5), st.booleans()), max_size=60))
def test_each_id_is_answered_at_most_once_and_memory_is_bounded(events: list[tuple[int, bool]]) -> None:
    ledger = Ledger(3)
    firsts = dict.fromkeys(range(6), 0)
    opened: set[int] = set()
    for now, (number, answer) in enumerate(events):
        name = b"%d" % number
        if answer:
            firsts[number] += ledger.arrived(name, now) == "first"
        elif number not in opened:
            opened.add(number)
            ledger.open(name)
    assert all(count <= (number in opened) for number, count in firsts.items())
    assert len(ledger) <= 6
