"""When a request is sent again: never after its deadline, never more often than allowed."""

from hypothesis import given
from hypothesis import strategies as st

from hal9.client.attempts import FIRST_PAUSE_S, LONGEST_PAUSE_S, Attempts


def test_attempts_share_the_time_evenly() -> None:
    attempts = Attempts(2, 9.0)
    assert (attempts.begin(), attempts.after_silence(0.0)) == (1, 3.0)
    assert (attempts.begin(), attempts.after_silence(3.0)) == (2, 6.0)
    assert (attempts.begin(), attempts.after_silence(6.0)) == (3, None)


def test_pauses_after_failures_double_up_to_a_bound() -> None:
    attempts = Attempts(100, 1_000.0)
    pauses = [attempts.after_failure(0.0) for _ in range(10)]
    assert pauses[:3] == [FIRST_PAUSE_S, FIRST_PAUSE_S * 2, FIRST_PAUSE_S * 4]
    assert pauses[-1] == LONGEST_PAUSE_S


def test_without_retries_nothing_is_sent_again() -> None:
    attempts = Attempts(0, 10.0)
    attempts.begin()
    assert (attempts.after_silence(0.0), attempts.after_failure(0.0)) == (None, None)


@given(st.integers(0, 20), st.floats(0, 60), st.lists(st.tuples(st.booleans(), st.floats(0, 5)), max_size=60))
def test_nothing_is_sent_after_the_deadline_or_beyond_the_retries(
    retries: int, deadline_s: float, events: list[tuple[bool, float]]
) -> None:
    attempts, now_s = Attempts(retries, deadline_s), 0.0
    attempts.begin()
    for failed, waited_s in events:
        now_s += waited_s
        again_s = attempts.after_failure(now_s) if failed else attempts.after_silence(now_s)
        if again_s is None:
            continue
        assert now_s <= again_s <= deadline_s
        now_s = again_s
        attempts.begin()
    assert attempts.made <= retries + 1
