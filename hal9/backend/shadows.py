"""Aligned shadows: the other system's run of a request on exactly the state that the owner ran on. Pure.

Both systems read one `dispatched` log. The non-owner runs a mutating request just before it applies the replicated
change of that position, and a read-only one after the last change dispatched before it; each waits until then, a later
change of its key, or its deadline. So what is compared was computed on equal state, by construction.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from hal9.backend.handler import Item
from hal9.backend.store import Held, Store
from hal9.wire import MOVE, Change, Dispatched

HISTORY_MS = 15_000
HISTORY_PER_KEY = 16


@dataclass(slots=True)
class Shadow:
    """A request to run beside the owner.

    `after` is the last position dispatched before it that changes its key (None: unknown).
    """

    key: bytes
    request: Dispatched
    value: bytes
    mutating: bool
    after: int | None
    span: object = None


@dataclass(slots=True)
class Applied:
    """One replicated change: the state before it, and what it made."""

    before: Held
    after: Held
    change: Change
    at_ms: float


@dataclass(slots=True)
class Aligned:
    """A shadow that can run now on `state`; `expected` is what the owner made of it (mutating and ok), else None."""

    shadow: Shadow
    state: Held | None
    expected: Applied | None = None

    @property
    def item(self) -> Item:
        """What the handler is given."""
        return self.state.state if self.state is not None else None, self.shadow.request.operation, self.shadow.value


class Shadows:
    """Waiting shadows of one partition, and the recent changes that later ones may need."""

    def __init__(self, store: Store, complete: Callable[[], bool]) -> None:
        """`complete`: whether everything replicated before this incarnation began has been read."""
        self._store, self._complete = store, complete
        self._waiting: dict[bytes, deque[Shadow]] = {}
        self._history: dict[bytes, deque[Applied]] = {}
        self._recent: deque[tuple[float, bytes]] = deque()
        self.last_change: dict[bytes, int] = {}
        """Per key, the last dispatched position that changes it (as far as was read)."""

    def __len__(self) -> int:
        return sum(map(len, self._waiting.values()))

    def add(self, shadow: Shadow) -> Iterator[Aligned]:
        """A shadow was dispatched; yields it if it can run (or be given up) already."""
        queue = self._waiting.get(shadow.key)
        if queue is None:
            aligned = self._align(shadow)
            if aligned is not None:
                yield aligned
                return
            queue = self._waiting[shadow.key] = deque()
        queue.append(shadow)

    def applied(self, key: bytes, before: Held, after: Held, change: Change, now_ms: float) -> Iterator[Aligned]:
        """A replicated change became the newest state of `key`: what waited for it can run."""
        if change.origin != MOVE:
            self._history.setdefault(key, deque(maxlen=HISTORY_PER_KEY)).append(Applied(before, after, change, now_ms))
            self._recent.append((now_ms, key))
        yield from self._ready(key)

    def caught_up(self) -> Iterator[Aligned]:
        """`complete` turned true: shadows that waited for it can run."""
        for key in list(self._waiting):
            yield from self._ready(key)

    def expire(self, now_ms: float) -> Iterator[Aligned]:
        """Give up shadows past their deadlines; forget old changes."""
        for key in list(self._waiting):
            queue = self._waiting[key]
            while queue and queue[0].request.deadline_ms <= now_ms:
                yield Aligned(queue.popleft(), None)
            yield from self._ready(key)
        while self._recent and self._recent[0][0] <= now_ms - HISTORY_MS:
            key = self._recent.popleft()[1]
            history = self._history.get(key)
            while history and history[0].at_ms <= now_ms - HISTORY_MS:
                history.popleft()
            if not history:
                self._history.pop(key, None)

    def _ready(self, key: bytes) -> Iterator[Aligned]:
        queue = self._waiting.get(key)
        while queue:
            aligned = self._align(queue[0])
            if aligned is None:
                return
            queue.popleft()
            yield aligned
        self._waiting.pop(key, None)

    def _align(self, shadow: Shadow) -> Aligned | None:
        """Three cases: it must wait (None); the state it needs is known; it has gone by or is not mapped (no state)."""
        current = self._store.held(shadow.key)
        history = self._history.get(shadow.key, ())
        found = _mutating(shadow, current, history) if shadow.mutating else self._reading(shadow, current, history)
        unmapped = found is not None and found.state is not None and found.state.unmapped
        return Aligned(shadow, None) if unmapped else found

    def _reading(self, shadow: Shadow, current: Held, history: Iterable[Applied]) -> Aligned | None:
        if shadow.after is None:
            if not self._complete():
                return None
            return Aligned(shadow, current if current.position < shadow.request.position else None)
        if current.position < shadow.after:
            return None
        if current.position == shadow.after:
            return Aligned(shadow, current)
        gone_by = [applied.before for applied in history if applied.before.position == shadow.after]
        return Aligned(shadow, gone_by[0] if gone_by else None)


def _mutating(shadow: Shadow, current: Held, history: Iterable[Applied]) -> Aligned | None:
    if current.position < shadow.request.position:
        return None
    for applied in history:
        if applied.change.position == shadow.request.position:
            follows = applied.change.follows
            exact = applied.before.version == applied.change.version - 1 or (
                follows is not None and applied.before.absent and applied.before.version <= follows
            )
            expected = None if applied.after.unmapped else applied
            return Aligned(shadow, applied.before, expected) if exact else Aligned(shadow, None)
    return Aligned(shadow, None)
