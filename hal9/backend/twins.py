"""Second runs of a request on the state of its first one, by flat: how much does it differ from itself? Pure.

Never awaited: they run when everything else has been done, are left out when too many wait, change no state, and leave
nothing but their response.
"""

from collections import deque
from dataclasses import dataclass

from hal9 import wire
from hal9.backend.handler import Item
from hal9.backend.store import Held, State

LIMIT = 1_000
AT_ONCE = 128
"""Second runs per tick: what else is to be done comes first."""


@dataclass(slots=True)
class Twin:
    """A request that was run on `before`; `after` is what it made of it (a mutating one that succeeded), else None.

    `needs` is the number of the own change that the first run's answer rests on.
    """

    request: wire.Dispatched
    key: bytes
    value: bytes
    before: Held
    after: "State | None"
    compared: bool
    needs: int

    @property
    def item(self) -> Item:
        """What the handler is given."""
        return self.before.state, self.request.operation, self.value


class TwinQueue:
    """Twins that are to be run."""

    def __init__(self, limit: int = LIMIT) -> None:
        self._limit = limit
        self._waiting: deque[Twin] = deque()
        self.dropped = 0

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, twin: Twin, busy: int) -> None:
        """Run it some time, unless too many wait; `busy` is what waits beside them."""
        if len(self._waiting) + busy >= self._limit:
            self.dropped += 1
        else:
            self._waiting.append(twin)

    def take(self) -> list[Twin]:
        """The next ones."""
        return [self._waiting.popleft() for _ in range(min(AT_ONCE, len(self._waiting)))]
