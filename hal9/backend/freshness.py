"""Which dispatched changes a system's store does not show yet. Pure.

Both systems read one `dispatched` log, so each knows of every change that was asked for, whoever owns the key: a state
is the newest one if nothing is missing, and else it was until the first missing change was dispatched. What is missing
holds back the commit of `dispatched`, so that a successor knows of it too, for as long as anybody may wait for it.
"""

from collections import deque

HELD_MS = 60_000
"""The longest deadline. What is missing for longer (voided, and never dispatched again) holds back no commit."""

_Missing = tuple[int, int, float]
"""Position, offset on `dispatched`, when it was dispatched."""


class Freshness:
    """Of one partition."""

    def __init__(self) -> None:
        self._missing: dict[bytes, deque[_Missing]] = {}
        self._offsets: dict[int, float] = {}
        """Offset on `dispatched` -> when it was dispatched, in order."""
        self._unproven: deque[tuple[int, int]] = deque()
        """(number of an own change, offset): what the store shows and the log, perhaps, does not."""

    def __repr__(self) -> str:
        return f"<Freshness: {len(self._missing)} keys behind, from {self.oldest()}>"

    def dispatched(self, key: bytes, position: int, offset: int, at_ms: float) -> None:
        """A change of `key` was dispatched, to whichever system, and the store does not show it."""
        self._missing.setdefault(key, deque()).append((position, offset, at_ms))
        self._offsets[offset] = at_ms

    def applied(self, key: bytes, position: int, own: int = 0) -> None:
        """The store shows what the request at `position` made of `key`; `own`: by an own change of that number."""
        missing = self._missing.get(key)
        if missing is None:
            return
        # Dispatched again after a hand-over, a position is there twice, behind greater ones at worst.
        kept = deque(m for m in missing if m[0] > position)
        for found in missing:
            if found[0] <= position and own:
                self._unproven.append((own, found[1]))
            elif found[0] <= position:
                self._offsets.pop(found[1], None)
        if kept:
            self._missing[key] = kept
        else:
            del self._missing[key]

    def proven(self, own: int) -> None:
        """Own changes up to that number were read back: a successor finds them."""
        while self._unproven and self._unproven[0][0] <= own:
            self._offsets.pop(self._unproven.popleft()[1], None)

    def newest(self, key: bytes) -> int | None:
        """The greatest missing position of a key; None if its state is the newest one."""
        missing = self._missing.get(key)
        return None if missing is None else max(position for position, _, _ in missing)

    def stale(self, key: bytes, now_ms: float) -> tuple[int, int]:
        """How stale the state of a key is: changes that it does not show, and for how many milliseconds, at most."""
        missing = self._missing.get(key)
        if missing is None:
            return 0, 0
        positions = {position for position, _, _ in missing}
        return len(positions), max(0, int(now_ms - missing[0][2]))

    def oldest(self) -> int | None:
        """The first offset on `dispatched` that a successor must read again."""
        return next(iter(self._offsets), None)

    def expire(self, now_ms: float) -> None:
        """Nobody waits any more for what is missing for so long."""
        while self._offsets:
            offset, at_ms = next(iter(self._offsets.items()))
            if at_ms > now_ms - HELD_MS:
                return
            del self._offsets[offset]
