"""What the screen of the demo knows: folded from control, outcomes, heartbeats and the client. Pure.

Times are milliseconds of one clock, the reader's.
"""

from collections import deque
from dataclasses import dataclass, field

from hal9.control.reducer import ControlState, Outcome
from hal9.demo import words
from hal9.stats.panes import Panes
from hal9.stats.sketch import quantile
from schemas.base import System
from schemas.control import Rollback
from schemas.telemetry import Comparisons, Status
from schemas.telemetry import Outcome as Seconds

WINDOW_S = 4
"""The figures of both systems are of so many of the newest closed seconds: they move, and are no noise."""
DECISIONS = 200


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the decision log."""

    at_ms: int
    text: str
    grave: bool = False


@dataclass(frozen=True, slots=True)
class Side:
    """One system as primary, lately; latencies in milliseconds, NaN without requests."""

    requests_s: float
    p50_ms: float
    p99_ms: float
    failed_s: float
    failed: int


@dataclass(slots=True)
class Reading:
    """How well the network reads: images asked and read rightly, and those of which a neuron did not answer."""

    right: int = 0
    asked: int = 0
    missing: int = 0

    @property
    def share(self) -> float | None:
        """0 to 1; None before the first image."""
        return self.right / self.asked if self.asked else None


@dataclass(slots=True)
class Traffic:
    """The client's own counts."""

    sent: int = 0
    answered: int = 0
    ok: int = 0
    error: int = 0
    rejected: int = 0
    timeout: int = 0
    learned: int = 0


@dataclass(slots=True)
class Board:
    """Everything shown."""

    state: ControlState
    partitions: int
    stage: str = "starting"
    fault: str = "none"
    neurons: int = 0
    panes: Panes = field(default_factory=lambda: Panes(retain_s=600))
    marked: dict[int, int] = field(default_factory=dict)
    """Per partition the newest epoch whose marker a router has read back."""
    traffic: Traffic = field(default_factory=Traffic)
    before: float | None = None
    during: Reading = field(default_factory=Reading)
    after: float | None = None
    lines: deque[Line] = field(default_factory=lambda: deque(maxlen=DECISIONS))
    said: int = 0
    """Lines so far, those forgotten too."""
    settled: int = 0
    failed: dict[System, int] = field(default_factory=dict)

    def say(self, text: str, now_ms: int, *, grave: bool = False) -> None:
        """A line of the demo itself."""
        self.lines.append(Line(now_ms, text, grave))
        self.said += 1

    def since(self, said: int) -> list[Line]:
        """The lines after the first `said`, of those that are remembered."""
        return self.newest(self.said - said)

    def newest(self, count: int) -> list[Line]:
        """The last lines, oldest first."""
        return list(self.lines)[-count:] if count else []

    def control(self, outcome: Outcome, now_ms: int) -> None:
        """A control record was folded into `state`."""
        if outcome.verdict == "accepted" and outcome.record is not None:
            text = words.said(outcome.record, self.state)
            if text is not None:
                self.say(text, now_ms, grave=isinstance(outcome.record, Rollback))
        elif outcome.verdict in ("refused", "unknown"):
            self.say(f"control record {outcome.verdict}: {outcome.reason}", now_ms)
        if self.state.epoch > self.settled and self.state.settled_everywhere(self.state.epoch, self.partitions):
            self.settled = self.state.epoch
            self.say(words.settled(self.state, self.state.epoch, self.partitions), now_ms)

    def outcome(self, outcome: Seconds, now_ms: int) -> None:
        """One router's results of one second arrived."""
        if self.panes.add(outcome, now_ms) in ("merged", "late"):
            for arm in outcome.arms:
                self.failed[arm.system] = self.failed.get(arm.system, 0) + arm.error + arm.timeout

    def status(self, status: Status) -> None:
        """A heartbeat arrived."""
        if status.service == "router":
            for partition, epoch in status.epochs.items():
                self.marked[partition] = max(epoch, self.marked.get(partition, 0))

    @property
    def position(self) -> str:
        """Phase and step."""
        if self.state.rolled_back is not None:
            return f"rolled back in epoch {self.state.rolled_back}"
        walk = self.state.journal[self.state.started_entry :]
        if not walk:
            return "not begun"
        return "finished" if walk[-1].state == "finished" else words.place(walk[-1])

    @property
    def intended(self) -> float:
        """Percentage that `control` asks for."""
        return self.state.route.percentage

    @property
    def effective(self) -> float:
        """Percentage by the markers: mean over the partitions."""
        routes = {entry.epoch: entry.route for entry in self.state.history}
        # A heartbeat may be ahead of what was read of control here: the newest known one stands for it.
        marks = (min(self.marked.get(p, 0), self.state.epoch) for p in range(self.partitions))
        return sum(routes[epoch].percentage for epoch in marks) / self.partitions

    def acknowledged(self, epoch: int) -> bool:
        """Whether every partition has the marker of this epoch or of a later one."""
        return all(self.marked.get(p, 0) >= epoch for p in range(self.partitions))

    def side(self, system: System, now_ms: int) -> Side:
        """One system as primary in the newest closed seconds."""
        to_s = self.panes.closed_s(now_ms)
        arm = self.panes.window(to_s - WINDOW_S, to_s, system)
        p50, p99 = (quantile(arm.latency_us, q) / 1000 for q in (0.5, 0.99))
        failed = self.failed.get(system, 0)
        return Side(arm.requests / WINDOW_S, p50, p99, arm.failed / WINDOW_S, failed)

    @property
    def divergences(self) -> int:
        """Comparisons in which the systems differed."""
        return self.comparisons().divergent

    def comparisons(self) -> Comparisons:
        """Of the whole run."""
        return self.panes.comparisons(0, self.panes.newest_s + 1)
