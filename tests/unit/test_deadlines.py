"""What is due, in the order of its time, each once."""

from hypothesis import given
from hypothesis import strategies as st

from services.router.deadlines import Deadlines

steps = st.lists(st.tuples(st.sampled_from(["add", "look"]), st.integers(0, 20)), max_size=60)


@given(steps)
def test_each_position_is_due_once_when_its_time_has_come(taken: list[tuple[str, int]]) -> None:
    deadlines, expected = Deadlines(), list[tuple[int, int]]()
    for position, (step, at) in enumerate(taken):
        if step == "add":
            deadlines.add(float(at), position)
            expected.append((at, position))
        else:
            due = sorted(found for found in expected if found[0] <= at)
            expected = [found for found in expected if found[0] > at]
            assert list(deadlines.due(at)) == [position for _, position in due]
        assert len(deadlines) == len(expected)
