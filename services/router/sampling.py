"""Which divergences are written: of each class so many a second, the first ones always. Pure.

A divergence is a sample of every class that its fields are of (`hal9.compare.classes`). It is written while one of them
has a token left, so that a flood of one class hides no other. What is left out is counted, and by class as far as they
fit into a record of `outcomes`.
"""

from collections import Counter
from collections.abc import Hashable, Iterable
from dataclasses import dataclass, field

from hal9.compare.classes import ClassKey, classes
from hal9.stats.tokens import TokenBucket
from schemas.reports import DivergenceKind, FieldDifference

MAX_BUCKETS = 1_000
"""Classes that have a bucket of their own; further ones share that of their operation and kind, and so on."""
IDLE_MS = 60_000
"""A bucket that nobody asked for during so long makes room."""
MAX_NAMED = 128
"""Classes that what is left out in one second is counted by."""


@dataclass(slots=True)
class LeftOutCounts:
    """Divergences that were not written, how often each class was among them, and how often further classes."""

    divergences: int = 0
    named: Counter[ClassKey] = field(default_factory=Counter)
    beyond: int = 0

    def add(self, of: Iterable[ClassKey]) -> None:
        """One divergence of these classes."""
        self.divergences += 1
        for one in of:
            if one in self.named or len(self.named) < MAX_NAMED:
                self.named[one] += 1
            else:
                self.beyond += 1


class Buckets:
    """Token buckets by name, of bounded number."""

    def __init__(self, rate: float, burst: float) -> None:
        self._rate, self._burst = rate, burst
        self._held: dict[Hashable, tuple[float, TokenBucket]] = {}
        """With the time it was last asked for, in that order."""

    def __len__(self) -> int:
        return len(self._held)

    def of(self, name: Hashable, now_ms: float) -> TokenBucket | None:
        """The bucket of a name, refilled; None if there is no room for it."""
        held = self._held.pop(name, None)
        if held is None:
            if len(self._held) >= MAX_BUCKETS and not self._make_room(now_ms):
                return None
            bucket = TokenBucket(self._rate, self._burst)
        else:
            bucket = held[1]
        self._held[name] = now_ms, bucket
        bucket.ready(now_ms)
        return bucket

    def _make_room(self, now_ms: float) -> bool:
        oldest = next(iter(self._held))
        if now_ms - self._held[oldest][0] < IDLE_MS:
            return False
        del self._held[oldest]
        return True


class Sampling:
    """Of one router process; `rate` samples per class and second with a burst, 0: all."""

    def __init__(self, rate: float = 100.0, burst: float = 2_000) -> None:
        self._rate = rate
        self._classes, self._kinds = Buckets(rate, burst), Buckets(rate, burst)
        self._rest = TokenBucket(rate, burst)
        self._left_out = LeftOutCounts()

    def admits(self, operation: str, kind: DivergenceKind, fields: Iterable[FieldDifference], now_ms: float) -> bool:
        """Whether a divergence is written; if not, it is counted."""
        if not self._rate:
            return True
        found = classes(operation, kind, fields)
        spent = [self._bucket(one, now_ms).spend() for one in found]  # each of them: it is a sample of each
        if any(spent):
            return True
        self._left_out.add(found)
        return False

    def take(self) -> LeftOutCounts:
        """What was left out since the last call."""
        taken, self._left_out = self._left_out, LeftOutCounts()
        return taken

    def _bucket(self, of: ClassKey, now_ms: float) -> TokenBucket:
        found = self._classes.of(of, now_ms) or self._kinds.of(of[:2], now_ms)
        if found is None:
            found = self._rest
            found.ready(now_ms)
        return found
