"""Positions by the time at which something is due for them. Pure.

Many requests are due in the same millisecond, so what is kept in order is the times, not the requests.
"""

from collections.abc import Iterator
from heapq import heappop, heappush


class Deadlines:
    """Times in ms since the epoch, as precise as they are given."""

    def __init__(self) -> None:
        self._at: dict[float, list[int]] = {}
        self._times: list[float] = []

    def __len__(self) -> int:
        return sum(map(len, self._at.values()))

    def add(self, at_ms: float, position: int) -> None:
        """Something is due at `at_ms`."""
        held = self._at.get(at_ms)
        if held is None:
            self._at[at_ms] = [position]
            heappush(self._times, at_ms)
        else:
            held.append(position)

    def due(self, now_ms: float) -> Iterator[int]:
        """Positions whose time has come, each once, in the order of their times."""
        while self._times and self._times[0] <= now_ms:
            yield from self._at.pop(heappop(self._times))
