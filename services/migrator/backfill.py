"""The cold rest: neurons that have not changed since the migrator began to follow, copied in rate-limited batches.

Pure. The change log below `until` is read again in slices, as fast as a token bucket allows; what is already in the
replica in the same or a newer version is not copied again, so a pass may be repeated from its start after a crash.
"""

from collections.abc import Callable

from hal9.control.reducer import ROUTE_SALT, salt
from hal9.log.validity import Validity
from hal9.stats.tokens import TokenBucket
from schemas.base import FLAT


class Backfill:
    """One partition's backfill. `done` is the bound below which every bucket was copied from below `until`."""

    def __init__(
        self, migration: str, bucket_rate: TokenBucket, send_scan: Callable[[int, int], None], size: int
    ) -> None:
        """`send_scan(from, to)` asks for a slice, of `size` offsets at most."""
        self._salt, self._size = salt(migration, ROUTE_SALT), size
        self._tokens, self._scan = bucket_rate, send_scan
        self.until: int | None = None
        """Offset from which everything is followed (None: not known yet)."""
        self.done = 0
        self.target = 0
        self.passing: int | None = None
        """The bound of the pass under way."""
        self.validity = Validity(system=FLAT, salt=self._salt)
        self._position = 0
        self._asked = False

    def want(self, bound: int) -> None:
        """Buckets below `bound` are to be copied."""
        self.target = max(self.target, bound)

    def covers(self, bound: int) -> bool:
        """Whether all of the buckets below `bound` are in the replica or on their way there."""
        return self.done >= bound or self.until == 0

    def step(self, now_ms: float) -> None:
        """Ask for the next slice, if one is due."""
        if self.until is None or self._asked:
            return
        if self.passing is None:
            if self.covers(self.target):
                self.done = max(self.done, self.target)
                return
            self.passing, self._position = self.target, 0
            self.validity = Validity(system=FLAT, salt=self._salt)
        if self._tokens.ready(now_ms):
            self._asked = True
            self._scan(self._position, min(self._position + self._size, self.until))

    def wanted(self, bucket: int) -> bool:
        """Whether a key in `bucket` is to be copied by the pass under way."""
        return self.passing is not None and bucket < self.passing

    def advanced(self, next_offset: int, copied: int) -> None:
        """A piece of a slice was read, `copied` of its records are on their way."""
        self._tokens.take(copied)
        if self.until is None or self.passing is None:
            return
        slice_end = min(self._position + self._size, self.until)
        if next_offset < slice_end:
            return
        self._asked, self._position = False, max(slice_end, next_offset)
        if self._position >= self.until:
            self.done, self.passing = max(self.done, self.passing), None
