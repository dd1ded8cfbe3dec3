"""States to load, as lines of JSON: all of them are sound, or the first that is not is named."""

import pytest

from hal9.backend.loading import batched
from hal9.cli.state_lines import read_states
from hal9.errors import ConfigError


def test_lines_are_states_by_key() -> None:
    lines = [b'{"key": "a", "state": {"count": 1}}\n', b"\n", b'{"key": "b", "state": {}}']
    assert read_states(lines) == {b"a": {"count": 1}, b"b": {}}


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"{", "truncated"),
        (b'{"key": "b"}', "state"),
        (b'{"key": "b", "state": 1}', "object"),
        (b'{"key": "b", "state": {}, "stat": 1}', "stat"),
        (b'{"key": "", "state": {}}', "empty"),
        (b'{"key": "a", "state": {}}', "before"),
    ],
)
def test_the_first_line_that_is_no_state_is_named(line: bytes, reason: str) -> None:
    with pytest.raises(ConfigError, match=f"line 2: .*{reason}"):
        read_states([b'{"key": "a", "state": {}}', line])


def test_pieces_hold_everything_once() -> None:
    assert list(batched(range(5), 2)) == [[0, 1], [2, 3], [4]]
    assert list(batched([], 2)) == []
