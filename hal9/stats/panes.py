"""Event-time panes of one second, built from the outcomes that routers report.

The same outcomes in any order make the same panes; a redelivered one counts once; memory is bounded by
`retain_s`, counted back from the newest second seen. No clock: arrival times are arguments.
"""

from collections.abc import Container, Iterator
from dataclasses import dataclass, field
from typing import Literal, get_args

from hal9.stats import sketch
from schemas.base import System
from schemas.telemetry import Arm, Comparisons, Outcome, Sketch

Arrival = Literal["merged", "late", "redelivered", "expired", "future"]
ARRIVALS: tuple[Arrival, ...] = get_args(Arrival)
"""`late`: merged into a pane that the watermark had closed. The last three changed nothing."""

Epochs = int | Container[int] | None
"""One epoch, several, or all."""

AHEAD_MS = 60_000
"""An outcome further ahead of its arrival has a wrong clock; merging it would expire every honest pane."""


@dataclass(slots=True)
class ArmTotals:
    """What one system did as primary: requests by result, and their latencies."""

    ok: int = 0
    error: int = 0
    timeout: int = 0
    latency_us: Sketch = field(default_factory=dict)

    @property
    def requests(self) -> int:
        """All requests of the arm, however they ended."""
        return self.ok + self.error + self.timeout

    @property
    def failed(self) -> int:
        """Errors and timeouts: a timeout is an error of its arm."""
        return self.error + self.timeout

    @property
    def error_rate(self) -> float:
        """Share of the requests that failed, 0.0 without any."""
        return self.failed / self.requests if self.requests else 0.0

    def add(self, other: "ArmTotals | Arm") -> None:
        """Count `other` in."""
        self.ok += other.ok
        self.error += other.error
        self.timeout += other.timeout
        sketch.merge(self.latency_us, other.latency_us)


@dataclass(slots=True)
class Pane:
    """One second of event time, over all routers."""

    arms: dict[tuple[System, int], ArmTotals] = field(default_factory=dict)
    """By system and epoch."""
    comparisons: dict[int, Comparisons] = field(default_factory=dict)
    """By epoch."""
    shadow_latency_us: dict[System, Sketch] = field(default_factory=dict)
    shadow_errors: dict[System, int] = field(default_factory=dict)
    rejected: int = 0
    seen: set[tuple[str, int]] = field(default_factory=set)
    """(router, seq) of every outcome merged."""

    def merge(self, outcome: Outcome) -> None:
        """Count one outcome in."""
        self.seen.add((outcome.router, outcome.seq))
        self.rejected += outcome.rejected
        for arm in outcome.arms:
            self.arms.setdefault((arm.system, arm.epoch), ArmTotals()).add(arm)
        for epoch, counts in outcome.comparisons.items():
            self.comparisons[epoch] = added(self.comparisons.get(epoch, Comparisons()), counts)
        for system, latency in outcome.shadow_latency_us.items():
            sketch.merge(self.shadow_latency_us.setdefault(system, {}), latency)
        for system, errors in outcome.shadow_errors.items():
            self.shadow_errors[system] = self.shadow_errors.get(system, 0) + errors


@dataclass(slots=True)
class Router:
    """What is known of one reporting router."""

    newest_ms: int
    arrived_ms: int


class Panes:
    """The newest `retain_s` seconds of all routers.

    `watermark_ms` lies at the newest second that every active router has reported; a router silent for
    `idle_timeout_ms` is not active.
    """

    def __init__(self, *, retain_s: int = 600, grace_s: int = 2, idle_timeout_ms: int = 5_000) -> None:
        self.retain_s, self.grace_s, self.idle_timeout_ms = retain_s, grace_s, idle_timeout_ms
        self.newest_s = -1
        """Start of the newest second seen; -1 before any."""
        self.counts: dict[Arrival, int] = dict.fromkeys(("merged", "late", "redelivered", "expired", "future"), 0)
        self._panes: dict[int, Pane] = {}
        self._routers: dict[str, Router] = {}

    def __repr__(self) -> str:
        return f"<Panes {len(self._panes)} to {self.newest_s}, {len(self._routers)} routers, {self.counts}>"

    @property
    def oldest_s(self) -> int:
        """Start of the oldest second that is still retained."""
        return self.newest_s - self.retain_s + 1

    def add(self, outcome: Outcome, now_ms: int) -> Arrival:
        """Merge one outcome that arrived at `now_ms`; what became of it is counted in `counts` too."""
        arrival = self._add(outcome, now_ms)
        self.counts[arrival] += 1
        return arrival

    def _add(self, outcome: Outcome, now_ms: int) -> Arrival:
        second = outcome.at_ms // 1000
        if outcome.at_ms > now_ms + AHEAD_MS:
            return "future"
        if second < self.oldest_s:
            return "expired"
        watermark_ms = self.watermark_ms(now_ms)
        self._heard(outcome, now_ms)
        pane = self._panes.setdefault(second, Pane())
        if (outcome.router, outcome.seq) in pane.seen:
            return "redelivered"
        pane.merge(outcome)
        if second > self.newest_s:
            self._advance(second)
        return "late" if outcome.at_ms < watermark_ms - self.grace_s * 1000 else "merged"

    def _heard(self, outcome: Outcome, now_ms: int) -> None:
        router = self._routers.setdefault(outcome.router, Router(outcome.at_ms, now_ms))
        router.newest_ms = max(router.newest_ms, outcome.at_ms)
        router.arrived_ms = max(router.arrived_ms, now_ms)

    def _advance(self, second: int) -> None:
        self.newest_s = second
        for old in [s for s in self._panes if s < self.oldest_s]:
            del self._panes[old]
        for name in [n for n, r in self._routers.items() if r.newest_ms // 1000 < self.oldest_s]:
            del self._routers[name]

    def watermark_ms(self, now_ms: int) -> int:
        """Start of the newest second that every active router has reported; -1 if none is active."""
        since = now_ms - self.idle_timeout_ms
        return min((r.newest_ms for r in self._routers.values() if r.arrived_ms > since), default=-1)

    def closed_s(self, now_ms: int) -> int:
        """End of the newest second that every active router has reported; 0 if none is active."""
        return self.watermark_ms(now_ms) // 1000 + 1

    def active_routers(self, now_ms: int) -> list[str]:
        """Names of the routers heard from within the idle timeout."""
        since = now_ms - self.idle_timeout_ms
        return sorted(name for name, r in self._routers.items() if r.arrived_ms > since)

    def window(self, from_s: int, to_s: int, system: System, epoch: Epochs = None) -> ArmTotals:
        """Totals of the seconds from_s <= s < to_s."""
        totals = ArmTotals()
        for pane in self._between(from_s, to_s):
            for (owner, arm_epoch), arm in pane.arms.items():
                if owner == system and _wanted(arm_epoch, epoch):
                    totals.add(arm)
        return totals

    def comparisons(self, from_s: int, to_s: int, epoch: Epochs = None) -> Comparisons:
        """Comparisons of the seconds from_s <= s < to_s."""
        totals = Comparisons()
        for pane in self._between(from_s, to_s):
            for compared_in, counts in pane.comparisons.items():
                if _wanted(compared_in, epoch):
                    totals = added(totals, counts)
        return totals

    def first_s(self, epoch: Epochs) -> int | None:
        """Start of the oldest retained second in which a request of `epoch` was answered or compared."""
        for second, pane in self.panes():
            if any(_wanted(e, epoch) for e in (*pane.comparisons, *(e for _, e in pane.arms))):
                return second
        return None

    def panes(self) -> list[tuple[int, Pane]]:
        """All retained panes, oldest first."""
        return sorted(self._panes.items())

    def _between(self, from_s: int, to_s: int) -> Iterator[Pane]:
        return (pane for second, pane in self._panes.items() if from_s <= second < to_s)


def _wanted(epoch: int, wanted: Epochs) -> bool:
    if wanted is None or isinstance(wanted, int):
        return wanted is None or epoch == wanted
    return epoch in wanted


def added(a: Comparisons, b: Comparisons) -> Comparisons:
    """The sum of two counts."""
    return Comparisons(
        equal=a.equal + b.equal,
        divergent=a.divergent + b.divergent,
        incomparable=a.incomparable + b.incomparable,
        one_sided=a.one_sided + b.one_sided,
        both_failed=a.both_failed + b.both_failed,
    )
