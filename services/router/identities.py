"""The id window: one id of a key is one request, for a minute after the first. Pure.

Answers are kept so that a repeat gets the first one's; their values within a byte budget, the oldest given up first.
"""

from collections import deque

from msgspec import Struct

from hal9.log.effects import Headers


class Identity(Struct, frozen=True, gc=False):
    """An id of a key. One is kept for each request of a minute, so it is nothing that the garbage collector visits.

    `base` tells default ids apart that two topics `requests`, one after the other, gave.
    """

    key: bytes | None
    name: str
    base: int = 0


class Known(Struct, eq=False, gc=False):
    """The first request with an id: its position (-1: known from its answer alone) and, once there, its answer.

    `told` are the headers of the answer beside its id.
    """

    position: int
    seen_ms: float
    told: Headers | None = None
    value: bytes | None = None
    gone: bool = False
    """The value was given up for the budget."""


class Identities:
    """Ids of one partition, in order of first sight."""

    def __init__(self, window_ms: float, value_budget: int) -> None:
        self._window_ms, self._budget = window_ms, value_budget
        self._known: dict[Identity, Known] = {}
        self._order: deque[Identity] = deque()
        self._valued: deque[Known] = deque()
        self._held = 0

    def __len__(self) -> int:
        return len(self._known)

    def first(self, identity: Identity) -> Known | None:
        """The first request of this id and key within the window."""
        return self._known.get(identity)

    def see(self, identity: Identity, position: int, now_ms: float) -> None:
        """Note a request; the first one of an id stays."""
        if identity not in self._known:
            self.add(identity, position, now_ms)

    def add(self, identity: Identity, position: int, now_ms: float) -> Known:
        """Note an id that is not known."""
        self._order.append(identity)
        known = self._known[identity] = Known(position, now_ms)
        return known

    def answer(self, identity: Identity, told: Headers, value: bytes | None, now_ms: float) -> None:
        """Note the answer of an id; the first one stays."""
        known = self._known.get(identity)
        if known is None:
            known = self.add(identity, -1, now_ms)
        if known.told is None:
            known.told, known.value = told, value
            if value:
                self._held += len(value)
                self._valued.append(known)

    def expire(self, now_ms: float) -> None:
        """Forget ids older than the window, and the oldest values beyond the budget (their ids stay)."""
        oldest = now_ms - self._window_ms
        while self._order:
            known = self._known[self._order[0]]
            if known.seen_ms > oldest:
                break
            del self._known[self._order.popleft()]
            self._drop(known)
        # What has left the window must not stay in this line, or it is kept until the budget is used up.
        while self._valued and (self._held > self._budget or self._valued[0].value is None):
            self._drop(self._valued.popleft())

    def _drop(self, known: Known) -> None:
        self._held -= len(known.value or b"")
        known.gone = known.gone or known.value is not None
        known.value = None
