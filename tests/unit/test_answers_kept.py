"""Answers by position in a system's memory: for a while, and within a number of bytes."""

from hal9.backend.store import NOTHING, Kept, Store


def answer(at_ms: float, size: int = 1_000) -> Kept:
    return Kept("ok", None, b"a" * size, NOTHING, at_ms)


def test_answers_are_kept_until_nobody_can_ask_for_them() -> None:
    store = Store(answers_ms=100)
    for position in range(3):
        store.keep(position, answer(position * 10.0))
    store.expire(110.0)
    assert list(store.kept) == [2]


def test_the_oldest_answers_go_when_they_are_too_many_bytes() -> None:
    store = Store(answers_ms=1_000, kept_bytes=4_500)
    for position in range(5):
        store.keep(position, answer(position))
    store.expire(10.0)
    assert list(store.kept) == [2, 3, 4]


def test_what_went_makes_room_again() -> None:
    store = Store(answers_ms=100, kept_bytes=4_500)
    for position in range(30):
        store.keep(position, answer(position * 50.0))
        store.expire(position * 50.0)
    assert list(store.kept) == [28, 29]
