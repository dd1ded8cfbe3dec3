"""Which requests are shadowed, beside what the route says: rate, pressure, breakers, probes. Pure.

A shadow that does not go is counted and never awaited. The gate is shared by the partitions of one router process.
"""

from collections import Counter

from hal9.stats.tokens import TokenBucket
from hal9.wire import INCOMPARABLE, Response
from schemas.base import System
from services.router.breaker import Breaker, State

PROBE_GRACE_MS = 2_000


class ShadowGate:
    """A token bucket over all shadows (`rate` 0: without bound), and the systems that shadows do not go to."""

    def __init__(self, breakers: dict[System, Breaker], rate: float = 0.0, burst: float = 1_000) -> None:
        self._breakers = breakers
        self._tokens = TokenBucket(rate, burst) if rate > 0 else None
        self.closed_to: frozenset[System] = frozenset()
        """Systems whose breaker is not closed."""
        self.probing: frozenset[System] = frozenset()
        """Systems that probes are wanted for."""
        self.dropped: Counter[str] = Counter()
        """Shadows that did not go, by reason, since they were last taken."""

    def tick(self, now_ms: float) -> None:
        """Time passes: tokens accrue."""
        if self._tokens is not None:
            self._tokens.ready(now_ms)

    def take(self) -> Counter[str]:
        """The shadows that did not go since the last call."""
        taken, self.dropped = self.dropped, Counter()
        return taken

    def moved(self) -> None:
        """A breaker moved."""
        self.closed_to = frozenset(s for s, b in self._breakers.items() if b.state is not State.CLOSED)
        self.probing = frozenset(s for s, b in self._breakers.items() if b.wanted)

    def admits(self, system: System, *, pressed: bool) -> bool:
        """Whether a shadow goes to a system whose breaker is closed; if not, it is counted."""
        if system in self.closed_to:
            reason = "breaker"
        elif pressed:
            reason = "pressure"
        elif self._tokens is not None and not self._tokens.spend():
            reason = "rate"
        else:
            return True
        self.dropped[reason] += 1
        return False

    def probed(self, system: System, *, ok: bool) -> None:
        """A probe ended."""
        self._breakers[system].probed(ok=ok)
        if not self._breakers[system].wanted:
            self.probing -= {system}

    def wanted(self, system: System) -> int:
        """Probe results that the breaker of a system waits for."""
        return self._breakers[system].wanted


class Shadowing:
    """The shadows of one partition: whether one goes, and which of them are probes (position -> system, until when)."""

    def __init__(self, gate: ShadowGate) -> None:
        self._gate = gate
        self.probes: dict[int, tuple[System, float]] = {}

    def goes(self, system: System, position: int, deadline_ms: float, *, routed: bool, pressed: bool) -> bool:
        """Whether a request is shadowed at `system`; `routed`: the route says so (a probe needs no route)."""
        gate = self._gate
        if system in gate.probing and len(self.probes) < gate.wanted(system):
            self.probes[position] = system, deadline_ms + PROBE_GRACE_MS
            return True
        return routed and gate.admits(system, pressed=pressed)

    def answered(self, system: System, response: Response) -> None:
        """A shadow was answered; one that could not run on the right state says nothing of its system's health."""
        probe = self.probes.get(response.position)
        if probe is None or probe[0] != system:
            return
        del self.probes[response.position]
        if response.status == "ok" or response.error != INCOMPARABLE:
            self._gate.probed(system, ok=response.status == "ok")

    def expire(self, now_ms: float) -> None:
        """Probes that were never answered have failed."""
        for position in [p for p, (_, until) in self.probes.items() if until <= now_ms]:
            self._gate.probed(self.probes.pop(position)[0], ok=False)
