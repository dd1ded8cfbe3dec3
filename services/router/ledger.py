"""Which requests hold back which commit (DESIGN section 7, "Committing"). Pure.

`requests` up to the first that waits, is not read back, or whose answer is unacknowledged; `dispatched` up to the first
in flight or in the id window; `responses` from a position that no answer of those precedes.
"""

from collections import deque
from collections.abc import Iterable

from msgspec import Struct

from services.router.entry import Entry


class Place(Struct, eq=False, gc=False):
    """Where a record of a request lies on `dispatched`, and since when."""

    offset: int
    entry: Entry
    since_ms: float


class Ledger:
    """Positions of one partition. Entries are added in the order they are read, and found done from the left."""

    def __init__(self, window_ms: float) -> None:
        self._window_ms = window_ms
        self._read: deque[Entry] = deque()
        self._dispatched: deque[Place] = deque()
        self.unacked: dict[int, Entry] = {}
        """Answered, but the answer (or the move to another partition) is not acknowledged."""
        self.entries: dict[int, Entry] = {}
        """Every position whose dispatch a successor must know; a request found here again is skipped."""

    def read(self, entry: Entry) -> None:
        """A request was read from `requests`."""
        self._read.append(entry)
        self.entries[entry.position] = entry

    def dispatched(self, entry: Entry, offset: int, now_ms: float) -> None:
        """Its (newest) record on `dispatched` was read back at `offset`."""
        entry.offset = offset
        self.entries[entry.position] = entry
        self._dispatched.append(Place(offset, entry, now_ms))

    def forget(self, now_ms: float) -> None:
        """Let go of what no commit waits for."""
        while self._read:
            entry = self._read[0]
            if entry.position in self.unacked or entry.sending or (entry.offset is None and not entry.answered):
                break
            if entry.offset is None:
                # Answered without ever being dispatched (waited past its deadline, moved, a repeat).
                self.entries.pop(entry.position, None)
            self._read.popleft()
        while self._dispatched:
            place = self._dispatched[0]
            entry = place.entry
            if entry.offset == place.offset:
                if not entry.answered or entry.position in self.unacked or place.since_ms > now_ms - self._window_ms:
                    break
                self.entries.pop(entry.position, None)
            self._dispatched.popleft()

    def requests(self, next_position: int, waiting: Iterable[Entry]) -> int:
        """What may be committed of `requests`."""
        held = [e.position for e in waiting]
        held += self.unacked
        if self._read:
            held.append(self._read[0].position)
        return min([next_position, *held])

    def dispatches(self, next_offset: int) -> int:
        """What may be committed of `dispatched`."""
        return self._dispatched[0].offset if self._dispatched else next_offset

    def answers(self, next_offset: int, waiting: Iterable[Entry]) -> int:
        """From where a successor must read `responses`."""
        held = [e.answers_at for e in waiting]
        held += [e.answers_at for e in self.unacked.values()]
        if self._read:
            held.append(self._read[0].answers_at)
        if self._dispatched:
            held.append(self._dispatched[0].entry.answers_at)
        return min([next_offset, *held])

    def responses(self, owner: str, next_offset: int) -> int:
        """What may be committed of one system's responses."""
        held = [e.response_offset for e in self.unacked.values() if e.owner == owner and e.response_offset is not None]
        return min([next_offset, *held])
