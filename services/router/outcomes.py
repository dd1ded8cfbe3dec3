"""What one router did, by the second: the records that the guardian, the orchestrator and the console live on. Pure."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from hal9.stats.sketch import bucket
from schemas.base import System
from schemas.reports import DivergenceKind
from schemas.telemetry import Arm, Comparisons, Outcome

MAX_GAP_S = 120
"""After a longer pause (a stopped process) the missing seconds are left out: an empty second would say "idle"."""


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
    rejected: int = 0


class OutcomeBook:
    """Shared by all partitions of one router; `take` closes the seconds that have passed."""

    def __init__(self, router: str) -> None:
        self._router, self._seq = router, 0
        self._seconds: dict[int, _Second] = {}
        self._next: int | None = None
        self.divergences: dict[DivergenceKind, int] = {}
        """Since the start, by kind."""
        self._dropped: Counter[str] = Counter()

    def _second(self, now_ms: float) -> _Second:
        second = int(now_ms // 1000)
        found = self._seconds.get(second)
        if found is None:
            found = self._seconds[second] = _Second()
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
        """A comparison found a difference that is reported."""
        self.divergences[kind] = self.divergences.get(kind, 0) + 1

    def shadow_failed(self, system: System, now_ms: float) -> None:
        """A shadow execution ended in an error."""
        errors = self._second(now_ms).shadow_errors
        errors[system] = errors.get(system, 0) + 1

    def dropped(self, shadows: Mapping[str, int]) -> None:
        """Shadows that did not go, by reason; they count in the next second that is closed."""
        self._dropped.update(shadows)

    def take(self, now_ms: float, partitions: list[int]) -> list[Outcome]:
        """One record per second that has passed since the last call, also for seconds in which nothing happened."""
        current = int(now_ms // 1000)
        first = min([current - 1 if self._next is None else self._next, *self._seconds])
        first = max(first, current - MAX_GAP_S)
        taken = [self._close(second, partitions) for second in range(first, current)]
        self._seconds = {s: v for s, v in self._seconds.items() if s >= current}
        self._next = max(current, self._next or 0)
        return taken

    def _close(self, second: int, partitions: list[int]) -> Outcome:
        self._seq += 1
        found = self._seconds.get(second, _Second())
        dropped, self._dropped = dict(self._dropped), Counter()
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
            shadow_errors=found.shadow_errors,
            shadows_dropped=dropped,
            partitions=partitions,
        )
