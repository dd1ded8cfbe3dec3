"""What one router did, by the second: the records that the guardian, the orchestrator and the console live on. Pure."""

from collections import Counter
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field

from hal9.stats.sketch import bucket
from schemas.base import System
from schemas.reports import DivergenceKind
from schemas.telemetry import Arm, Comparisons, FieldNoise, LeftOut, Outcome
from services.router.sampling import Sampling

Field = tuple[DivergenceKind, str]
"""The kind of a difference, and the path of its class of fields."""

MAX_GAP_S = 120
"""After a longer pause (a stopped process) the missing seconds are left out: an empty second would say "idle"."""


MAX_NOISE = 64
"""Fields (of all operations) whose pairs are counted in one second; pairs of further ones are left out whole."""


@dataclass(slots=True)
class _Counts:
    ok: int = 0
    error: int = 0
    timeout: int = 0
    latency_us: dict[int, int] = field(default_factory=dict)


@dataclass(slots=True)
class _Second:
    arms: dict[tuple[System, int], _Counts] = field(default_factory=dict)
    comparisons: dict[int, dict[str, int]] = field(default_factory=dict)
    shadow_errors: dict[System, int] = field(default_factory=dict)
    shadow_ok: dict[System, int] = field(default_factory=dict)
    shadow_latency_us: dict[System, dict[int, int]] = field(default_factory=dict)
    twin_ok: int = 0
    twin_error: int = 0
    pairs: dict[str, int] = field(default_factory=dict)
    noise: dict[tuple[str, DivergenceKind, str], list[int]] = field(default_factory=dict)
    """(operation, kind, class of fields) -> pairs in which both differed, the shadow alone, the twin alone."""
    rejected: int = 0
    fallbacks: dict[System, int] = field(default_factory=dict)


class OutcomeBook:
    """Shared by all partitions of one router; `take` closes the seconds that have passed."""

    def __init__(self, router: str, sampling: Sampling | None = None) -> None:
        self._router, self._seq = router, 0
        self.sampling = sampling or Sampling()
        """Which divergences are written; what is left out counts in the next second that is closed."""
        self._seconds: dict[int, _Second] = {}
        self._next: int | None = None
        self._now_ms, self._now = -1.0, _Second()
        """The second of the time told last: all records of a chunk have the same."""
        self.divergences: dict[DivergenceKind, int] = {}
        """Since the start, by kind."""
        self._dropped: Counter[str] = Counter()
        self.twins_dropped = 0
        """Since the start: twins that were left out because too many were under way."""
        self._refused: Counter[str] = Counter()
        self.reads_ignored = 0
        """Reads that the route names a system for and that are not read-only at both, since a second was closed."""

    def _second(self, now_ms: float) -> _Second:
        if now_ms == self._now_ms:
            return self._now
        second = int(now_ms // 1000)
        found = self._seconds.get(second)
        if found is None:
            found = self._seconds[second] = _Second()
        self._now_ms, self._now = now_ms, found
        return found

    def answered(self, system: System, epoch: int, status: str, latency_ms: float, now_ms: float) -> None:
        """A request that `system` owned in `epoch` was answered `ok`, `error` or `timeout`."""
        arms = self._second(now_ms).arms
        counts = arms.get((system, epoch))
        if counts is None:
            counts = arms[system, epoch] = _Counts()
        if status == "ok":
            counts.ok += 1
        elif status == "error":
            counts.error += 1
        else:
            counts.timeout += 1
        at = bucket(latency_ms * 1000)
        counts.latency_us[at] = counts.latency_us.get(at, 0) + 1

    def rejected(self, now_ms: float) -> None:
        """A request was not accepted."""
        self._second(now_ms).rejected += 1

    def compared(self, result: str, epoch: int, now_ms: float) -> None:
        """A comparison ended: `equal`, `divergent`, `incomparable`, `one_sided` or `both_failed`."""
        results = self._second(now_ms).comparisons.setdefault(epoch, {})
        results[result] = results.get(result, 0) + 1

    def diverged(self, kind: DivergenceKind) -> None:
        """A comparison found a difference, written or left out."""
        self.divergences[kind] = self.divergences.get(kind, 0) + 1

    def shadowed(self, system: System, latency_ms: float, now_ms: float, *, ok: bool) -> None:
        """A shadow was executed; `latency_ms` from its dispatch, read back, to its response."""
        second = self._second(now_ms)
        counts = second.shadow_ok if ok else second.shadow_errors
        counts[system] = counts.get(system, 0) + 1
        sketch = second.shadow_latency_us.setdefault(system, {})
        at = bucket(latency_ms * 1000)
        sketch[at] = sketch.get(at, 0) + 1

    def twinned(self, now_ms: float, *, ok: bool) -> None:
        """Flat ran a request a second time."""
        second = self._second(now_ms)
        if ok:
            second.twin_ok += 1
        else:
            second.twin_error += 1

    def twin_dropped(self) -> None:
        """A request was dispatched without its twin."""
        self.twins_dropped += 1

    def paired(self, operation: str, shadow: AbstractSet[Field], twin: AbstractSet[Field], now_ms: float) -> None:
        """Of one request, the fields in which the shadow and the twin each differed from flat's first run."""
        second = self._second(now_ms)
        named = [(operation, *found) for found in (*shadow, *(twin - shadow))]
        if len(second.noise.keys() | named) > MAX_NOISE or (
            operation not in second.pairs and len(second.pairs) >= MAX_NOISE
        ):
            self.twins_dropped += 1
            return
        second.pairs[operation] = second.pairs.get(operation, 0) + 1
        for name in named:
            found = name[1:]
            slot = 1 if found not in twin else 0 if found in shadow else 2
            second.noise.setdefault(name, [0, 0, 0])[slot] += 1

    def dropped(self, shadows: Mapping[str, int]) -> None:
        """Shadows that did not go, by reason; they count in the next second that is closed."""
        self._dropped.update(shadows)

    def fell_back(self, served: System, asked: System | None, epoch: int, latency_ms: float, now_ms: float) -> None:
        """A read was answered by `served`, in place of its owner; `asked`: the owner, which did not answer in time."""
        second = self._second(now_ms)
        second.fallbacks[served] = second.fallbacks.get(served, 0) + 1
        if asked is not None:
            self.answered(asked, epoch, "timeout", latency_ms, now_ms)

    def refused(self, cause: str) -> None:
        """A request was rejected for `overload`; counts in the next second that is closed."""
        self._refused[cause] += 1

    def take(self, now_ms: float, partitions: list[int]) -> list[Outcome]:
        """One record per second that has passed since the last call, also for seconds in which nothing happened."""
        current = int(now_ms // 1000)
        first = min([current - 1 if self._next is None else self._next, *self._seconds])
        first = max(first, current - MAX_GAP_S)
        taken = [self._close(second, partitions) for second in range(first, current)]
        self._seconds = {s: v for s, v in self._seconds.items() if s >= current}
        self._now_ms = -1.0
        self._next = max(current, self._next or 0)
        return taken

    def _close(self, second: int, partitions: list[int]) -> Outcome:
        self._seq += 1
        found = self._seconds.get(second, _Second())
        dropped, self._dropped = dict(self._dropped), Counter()
        refused, self._refused = dict(self._refused), Counter()
        ignored, self.reads_ignored = self.reads_ignored, 0
        left_out = self.sampling.take()
        return Outcome(
            router=self._router,
            seq=self._seq,
            at_ms=second * 1000,
            arms=[
                Arm(system=s, epoch=e, ok=c.ok, error=c.error, timeout=c.timeout, latency_us=c.latency_us)
                for (s, e), c in found.arms.items()
            ],
            rejected=found.rejected,
            comparisons={epoch: Comparisons(**results) for epoch, results in found.comparisons.items()},
            shadow_ok=found.shadow_ok,
            shadow_errors=found.shadow_errors,
            shadows_dropped=dropped,
            shadow_latency_us=found.shadow_latency_us,
            twin_ok=found.twin_ok,
            twin_error=found.twin_error,
            pairs=found.pairs,
            noise=[
                FieldNoise(operation=o, kind=k, path=p, both=both, shadow=shadow, twin=twin)
                for (o, k, p), (both, shadow, twin) in found.noise.items()
            ],
            overload=refused,
            fallbacks=found.fallbacks,
            reads_ignored=ignored,
            divergences_left_out=left_out.divergences,
            left_out=[
                LeftOut(operation=o, kind=k, path=p, rule=r, count=count)
                for (o, k, p, r), count in left_out.named.items()
            ],
            left_out_beyond=left_out.beyond,
            partitions=partitions,
        )
