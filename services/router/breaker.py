"""The circuit breaker of one system, as one router process sees it. Pure: seconds of counts in, transitions out.

Closed: the window over the system's own arm, of the present route only (the errors of an older one say nothing of this
one), is judged each second. Open: nothing is judged until the open time has passed. Half-open: judged by probes, which
are shadow executions, and by what the system answers to the keys that it owns anyway; never by users' writes sent
there for the purpose.
"""

from collections import deque
from dataclasses import dataclass
from enum import Enum

from hal9.errors import Hal9Error
from hal9.stats.sketch import bucket
from schemas.base import System, Tree
from schemas.telemetry import Arm


class State(Enum):
    """Of a breaker; `level` is what the metric shows."""

    CLOSED = "closed"
    """The system is used as the route says."""
    HALF_OPEN = "half-open"
    """Only probes go there, beside what it owns."""
    OPEN = "open"
    """No shadows and no reads go there, beside the writes that it owns."""

    @property
    def level(self) -> int:
        """0 closed, 1 half-open, 2 open."""
        return _LEVELS[self]


_LEVELS = {State.CLOSED: 0, State.HALF_OPEN: 1, State.OPEN: 2}


class Event(Enum):
    """What moves a breaker."""

    FAILING = "failing"
    """Enough requests in the window, and too many of them failed or slow."""
    RESTED = "rested"
    """The open time has passed."""
    PROBES_PASSED = "probes passed"
    PROBES_FAILED = "probes failed"


class IllegalTransition(Hal9Error):
    """A breaker was told something that its state has no meaning for."""


_MOVES = {
    (State.CLOSED, Event.FAILING): State.OPEN,
    (State.OPEN, Event.RESTED): State.HALF_OPEN,
    (State.HALF_OPEN, Event.PROBES_PASSED): State.CLOSED,
    (State.HALF_OPEN, Event.PROBES_FAILED): State.OPEN,
}


def transition(state: State, event: Event) -> State:
    """The state after an event; raises IllegalTransition."""
    found = _MOVES.get((state, event))
    if found is None:
        raise IllegalTransition(f"{event.value} in state {state.value}")
    return found


@dataclass(frozen=True, slots=True)
class BreakerPolicy:
    """When a breaker opens, and how it closes again."""

    window_s: int = 10
    min_requests: int = 20
    """Fewer requests in the window say nothing."""
    error_share: float = 0.5
    """Share of requests that failed (timeouts are failures), at which it opens."""
    slow_share: float = 0.8
    """Share of requests slower than `slow_ms`, at which it opens."""
    slow_ms: float = 2_000
    open_ms: float = 10_000
    probes: int = 5
    """Results that a half-open breaker waits for before it decides."""


@dataclass(slots=True)
class Window:
    """Counts of one arm."""

    requests: int = 0
    error: int = 0
    timeout: int = 0
    slow: int = 0

    def add(self, other: "Window") -> None:
        """Add the counts of another one."""
        self.requests += other.requests
        self.error += other.error
        self.timeout += other.timeout
        self.slow += other.slow

    def failing(self, policy: BreakerPolicy) -> bool:
        """Whether there are enough requests, and too many of them failed or slow."""
        if self.requests < policy.min_requests:
            return False
        failed = self.error + self.timeout
        return failed >= policy.error_share * self.requests or self.slow >= policy.slow_share * self.requests

    def evidence(self) -> Tree:
        """As a command and a log line carry it."""
        share = 1 / self.requests if self.requests else 0.0
        return {
            "requests": self.requests,
            "error": self.error,
            "timeout": self.timeout,
            "slow": self.slow,
            "error_share": round((self.error + self.timeout) * share, 4),
            "slow_share": round(self.slow * share, 4),
        }


@dataclass(frozen=True, slots=True)
class Transition:
    """One move of a breaker, and what it rests on."""

    system: System
    before: State
    after: State
    event: Event
    epoch: int
    opening: int
    """How often it has opened in this epoch, this time included."""
    evidence: Tree


class Breaker:
    """Shared by the partitions of one router process. `observe` counts a second, `look` decides; both once a second."""

    def __init__(self, system: System, policy: BreakerPolicy) -> None:
        self.system, self.policy = system, policy
        self.state = State.CLOSED
        self.opening = 0
        self._epochs = range(1)
        self._slow_from = bucket(policy.slow_ms * 1000)
        self._seconds: deque[tuple[int, Window]] = deque()
        self._since_ms = 0.0
        self._passed = self._failed = 0

    def __repr__(self) -> str:
        return f"<Breaker of {self.system} {self.state.value}, {self.window.evidence()}>"

    @property
    def window(self) -> Window:
        """What the window holds."""
        total = Window()
        for _, counts in self._seconds:
            total.add(counts)
        return total

    @property
    def wanted(self) -> int:
        """Probe results that a half-open breaker still waits for."""
        return max(0, self.policy.probes - self._passed - self._failed) if self.state is State.HALF_OPEN else 0

    def enter(self, epochs: range) -> None:
        """The present route is that of these epochs: what was counted in older ones is forgotten."""
        if epochs and epochs.start not in self._epochs:
            self._seconds.clear()
            self.opening = 0
        self._epochs = epochs

    def observe(self, at_ms: int, arms: list[Arm]) -> None:
        """The arms of one second, of whatever system and epoch."""
        counts = Window()
        for arm in arms:
            if arm.system == self.system and arm.epoch in self._epochs:
                requests = arm.ok + arm.error + arm.timeout
                slow = sum(count for index, count in arm.latency_us.items() if index > self._slow_from)
                counts.add(Window(requests, arm.error, arm.timeout, slow))
        if not counts.requests:
            return
        self._seconds.append((at_ms, counts))
        if self.state is State.HALF_OPEN and at_ms >= self._since_ms:
            bad = min(counts.requests, max(counts.error + counts.timeout, counts.slow))
            self._failed += bad
            self._passed += counts.requests - bad

    def probed(self, *, ok: bool) -> None:
        """A probe was answered, or never was."""
        if self.state is State.HALF_OPEN:
            self._passed += ok
            self._failed += not ok

    def look(self, now_ms: float) -> Transition | None:
        """What the counts say now."""
        oldest = now_ms - self.policy.window_s * 1000
        while self._seconds and self._seconds[0][0] + 1000 <= oldest:
            self._seconds.popleft()
        event = self._event(now_ms)
        return None if event is None else self._move(event, now_ms)

    def _event(self, now_ms: float) -> Event | None:
        if self.state is State.CLOSED:
            return Event.FAILING if self.window.failing(self.policy) else None
        if self.state is State.OPEN:
            return Event.RESTED if now_ms - self._since_ms >= self.policy.open_ms else None
        total = self._passed + self._failed
        if total < self.policy.probes:
            return None
        failed = self._failed >= self.policy.error_share * total
        return Event.PROBES_FAILED if failed else Event.PROBES_PASSED

    def _move(self, event: Event, now_ms: float) -> Transition:
        before, evidence = self.state, self.window.evidence()
        if before is State.HALF_OPEN:
            evidence = {"passed": self._passed, "failed": self._failed}
        self.state, self._since_ms = transition(before, event), now_ms
        self.opening += event is Event.FAILING
        self._passed = self._failed = 0
        if self.state is State.CLOSED:
            self._seconds.clear()
        evidence = {"system": self.system, "window_s": self.policy.window_s, **evidence}
        epoch = self._epochs[-1] if self._epochs else 0
        return Transition(self.system, before, self.state, event, epoch, self.opening, evidence)
