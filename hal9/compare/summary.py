"""Divergences by class, with what the twins say of each. Pure, and of bounded size whatever is read.

The samples of a class are those with the smallest hashes: a uniform sample of what was written, that does not depend on
the order of reading. Routers write so many of a class a second; what they left out is counted in, from `outcomes`.
"""

import hashlib
import heapq
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from math import isfinite

from hal9.compare.classes import ClassKey, classes
from hal9.compare.showing import canonical
from hal9.compare.trees import MAX_PER_CLASS
from hal9.stats.paired import Finding, Pairs, judge
from schemas.base import Count
from schemas.reports import Divergence, DivergenceKind, FieldDifference
from schemas.telemetry import Outcome

MAX_CLASSES = 500
MAX_FIELDS = 5_000
MAX_ROUTERS = 1_000
MAX_EPOCHS = 32
SAMPLES = 10
SEED = b"hal9"
_COMPARED = ("equal", "divergent", "one_sided", "both_failed")


@dataclass(frozen=True, slots=True, order=True)
class Sample:
    """One divergence of a class; `rank` is its hash, the smallest are kept."""

    rank: int
    key: str = field(compare=False)
    found: Divergence = field(compare=False)
    fields: tuple[FieldDifference, ...] = field(compare=False)


@dataclass(slots=True)
class DivergenceClass:
    """What is known of one class.

    `written` divergences have it, and `left_out` more that were not written. Of those written `alone` have nothing
    else, `relative` and `absolute` are the greatest distances of its numbers (None: it holds something else too), and
    `permuted` hold the same values at other places.
    """

    operation: str
    kind: DivergenceKind
    path: str
    rule: str
    written: int = 0
    left_out: int = 0
    alone: int = 0
    first_ms: int = 0
    last_ms: int = 0
    epochs: set[int] = field(default_factory=set)
    relative: float | None = 0.0
    absolute: float | None = 0.0
    permuted: int = 0
    _samples: list[tuple[int, int, Sample]] = field(default_factory=list)

    def add(self, key: str, found: Divergence, fields: Sequence[FieldDifference], *, alone: bool) -> None:
        """Count one divergence in; `fields` are those of this class."""
        self.written += 1
        self.alone += alone
        self.first_ms = min(self.first_ms or found.at_ms, found.at_ms)
        self.last_ms = max(self.last_ms, found.at_ms)
        if len(self.epochs) < MAX_EPOCHS:
            self.epochs.add(found.epoch)
        self.permuted += _permuted(fields)
        for one in fields:
            self._measure(one.flat, one.hierarchical)
        rank = _rank(found)
        heapq.heappush(self._samples, (-rank, self.written, Sample(rank, key, found, tuple(fields))))
        if len(self._samples) > SAMPLES:
            heapq.heappop(self._samples)

    @property
    def count(self) -> int:
        """All of them, written or not."""
        return self.written + self.left_out

    @property
    def samples(self) -> list[Sample]:
        """At most `SAMPLES` of them."""
        return sorted(sample for _, _, sample in self._samples)

    def _measure(self, a: object, b: object) -> None:
        if self.relative is None or self.absolute is None:
            return
        if not (_finite(a) and _finite(b)):
            self.relative = self.absolute = None
            return
        x, y = float(a), float(b)  # type: ignore[arg-type]  # both are numbers
        self.absolute = max(self.absolute, abs(x - y))
        self.relative = max(self.relative, abs(x - y) / max(abs(x), abs(y)) if x != y else 0.0)


class Summary:
    """Fed with the records of `divergences` and `outcomes` of one span of time, in any order of topics."""

    def __init__(self) -> None:
        self.classes: dict[ClassKey, DivergenceClass] = {}
        self.written = self.left_out = self.comparisons = self.incomparable = 0
        self.unreadable = self.beyond = 0
        """Divergences of classes beyond `MAX_CLASSES`, or beyond those that a router names in a second."""
        self.pairs: Counter[str] = Counter()
        """Requests with shadow and twin, by operation."""
        self._noise: dict[tuple[str, DivergenceKind, str], list[int]] = {}
        self._seen: dict[str, int] = {}

    @property
    def divergences(self) -> int:
        """All of them, written or not."""
        return self.written + self.left_out

    def divergence(self, key: str, found: Divergence) -> None:
        """One record of `divergences`."""
        self.written += 1
        by_class = classes(found.operation, found.kind, found.fields)
        for named, fields in by_class.items():
            into = self._class(named)
            if into is None:
                self.beyond += 1
            else:
                into.add(key, found, fields, alone=len(by_class) == 1)

    def _class(self, named: ClassKey) -> DivergenceClass | None:
        into = self.classes.get(named)
        if into is None and len(self.classes) < MAX_CLASSES:
            into = self.classes[named] = DivergenceClass(*named)
        return into

    def outcome(self, outcome: Outcome) -> None:
        """One record of `outcomes`; one that came before is not counted again."""
        if outcome.seq <= self._seen.get(outcome.router, 0):
            return
        if outcome.router in self._seen or len(self._seen) < MAX_ROUTERS:
            self._seen[outcome.router] = outcome.seq
        for counts in outcome.comparisons.values():
            self.comparisons += sum(getattr(counts, result) for result in _COMPARED)
            self.incomparable += counts.incomparable
        self._left_out(outcome)
        for operation, count in outcome.pairs.items():
            self._pair(operation, count)
        for noise in outcome.noise:
            named = (noise.operation, noise.kind, noise.path)
            if named in self._noise or len(self._noise) < MAX_FIELDS:
                sums = self._noise.setdefault(named, [0, 0, 0])
                for i, count in enumerate((noise.both, noise.shadow, noise.twin)):
                    sums[i] += count

    def _left_out(self, outcome: Outcome) -> None:
        self.left_out += outcome.divergences_left_out
        self.beyond += outcome.left_out_beyond
        for one in outcome.left_out:
            into = self._class((one.operation, one.kind, one.path, one.rule))
            if into is None:
                self.beyond += one.count
            else:
                into.left_out += one.count

    def _pair(self, operation: str, count: Count) -> None:
        if operation in self.pairs or len(self.pairs) < MAX_FIELDS:
            self.pairs[operation] += count

    def finding(self, of: DivergenceClass) -> Finding:
        """What the paired test says of the field of a class."""
        both, shadow, twin = self._noise.get((of.operation, of.kind, of.path), (0, 0, 0))
        return judge(Pairs(both, shadow, twin, self.pairs[of.operation]))

    def sorted(self) -> Iterator[tuple[DivergenceClass, Finding]]:
        """Divergences first, then what is not known, then noise; the most frequent first."""
        found = [(one, self.finding(one)) for one in self.classes.values()]
        order = ("divergence", "insufficient", "noise")
        yield from sorted(found, key=lambda f: (order.index(f[1].verdict), -f[0].count, f[0].path, f[0].rule))


def _rank(found: Divergence) -> int:
    named = f"{found.position}/{found.kind}/{found.at_ms}/{found.id}".encode()
    return int.from_bytes(hashlib.blake2b(named, digest_size=8, key=SEED).digest(), "big")


def _finite(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and isfinite(value)


def _permuted(fields: Sequence[FieldDifference]) -> bool:
    """Whether the differing items of a list are the same ones at other places."""
    if not 1 < len(fields) < MAX_PER_CLASS:
        return False
    return Counter(canonical(f.flat) for f in fields) == Counter(canonical(f.hierarchical) for f in fields)
