"""Up to where responses may be passed over for good. Pure.

A router that has been superseded and has not noticed yet does not know what its successor dispatched, so it passes over
answers that do not concern it. Were that committed, the next one would wait for them in vain. A record of its own that
was sent after such answers had been read, and that is read back as valid, proves that it was not superseded then.
"""

from collections import deque
from collections.abc import Mapping

Positions = Mapping[str, int]


class Passed:
    """Positions on the response logs, and how many own records had been sent to `dispatched` when they were reached."""

    def __init__(self, positions: Positions) -> None:
        self._proven = positions
        self._sent = self._back = 0
        self._reached: deque[tuple[int, Positions]] = deque()

    def sent(self) -> None:
        """An own record is on its way to `dispatched`."""
        self._sent += 1

    def read_back(self) -> None:
        """The next one of them (they keep their order) was read back as valid."""
        self._back += 1

    def at(self, positions: Positions) -> Positions:
        """Note how far the responses have been read; the positions that are proven by now."""
        if self._reached and self._reached[-1][0] == self._sent:
            self._reached.pop()
        self._reached.append((self._sent, positions))
        while self._reached and self._reached[0][0] < self._back:
            self._proven = self._reached.popleft()[1]
        return self._proven
