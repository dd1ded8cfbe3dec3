"""A cursor against a log with gaps: everything wanted comes out once, in order, and its position says how far."""

from hypothesis import given
from hypothesis import strategies as st

from hal9.log.batches import Damaged, Plain
from hal9.log.cursor import ENOUGH, Cursor
from tests.landing import Landed


def record(offset: int) -> Plain:
    return Plain(offset, 0, b"k", None, [])


def fetch(log: set[int], start: int, count: int, end: int) -> list[Landed]:
    """What a broker answers: whole batches, compacted or not, perhaps none."""
    stop = min(start + count, end)
    return [Landed([record(at) for at in range(start, stop) if at in log], stop)]


@given(
    st.sets(st.integers(0, 60)),
    st.integers(0, 20),
    st.none() | st.integers(0, 60),
    st.lists(st.tuples(st.integers(0, 30), st.integers(1, 8)), max_size=40),
)
def test_what_is_taken_is_what_lies_between_start_and_position(
    log: set[int], start: int, end: int | None, steps: list[tuple[int, int]]
) -> None:
    cursor, taken = Cursor("t", 0, start, end=end), list[int]()
    for count, limit in steps:
        if cursor.due():
            cursor.landed(fetch(log, cursor.offset, count, 61), 61)
        before = len(taken)
        taken += [r.offset for r in cursor.take(limit)]
        assert len(taken) - before <= limit
        assert taken == sorted(at for at in log if start <= at < cursor.position and (end is None or at < end))
        assert cursor.position <= cursor.offset
    if cursor.done():
        assert end is not None
        assert taken == sorted(at for at in log if start <= at < end)


def test_it_is_not_fetched_for_when_it_need_not_be() -> None:
    wanted = True
    cursor = Cursor("t", 0, 5, end=10, wanted=lambda: wanted)
    assert cursor.due()
    cursor.flying = True
    assert not cursor.due()
    cursor.flying, wanted = False, False
    assert not cursor.due()
    wanted = True
    cursor.landed(fetch(set(range(20)), 5, 5, 20), 20)
    assert not cursor.due()
    assert not cursor.done()
    assert [r.offset for r in cursor.take(100)] == [5, 6, 7, 8, 9]
    assert cursor.done()


def test_a_reader_that_falls_behind_is_not_fetched_for() -> None:
    cursor = Cursor("t", 0, 0)
    cursor.landed(fetch(set(range(ENOUGH)), 0, ENOUGH, ENOUGH), 5_000)
    assert not cursor.due()
    assert cursor.lag == 5_000
    cursor.take(1)
    assert cursor.due()
    assert (cursor.position, cursor.lag) == (1, 4_999)


def test_a_log_that_begins_later_is_read_from_there() -> None:
    cursor = Cursor("t", 0, 3, end=9)
    cursor.skip_to(20)
    assert cursor.take(5) == []
    assert cursor.done()


def test_what_cannot_be_read_is_told_and_not_taken_or_taken_in_its_place() -> None:
    told: list[int] = []
    for sorting in (True, False):
        cursor = Cursor("t", 0, 0, end=4)
        if sorting:
            cursor.on_damaged = lambda damaged: told.append(damaged.offset)
        landed = Landed([record(0), Damaged(1, 0, "header names"), record(2), record(3), Damaged(5, 0, "x")], 6)
        landed.sound = False
        cursor.landed([landed], 6)
        assert [r.offset for r in cursor.take(9)] == ([0, 2, 3] if sorting else [0, 1, 2, 3])
        assert cursor.done()
    assert told == [1], "what lies beyond the end is nobody's here"
