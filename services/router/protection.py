"""What protects one router process, over all its partitions: breakers, the shadow gate, the commands that follow. Pure.

Opening for hierarchical publishes one rollback per epoch and opening, of the same id at every router; none while flat
is failing as well, because going back would not help (the guardian freezes then). Opening for flat publishes nothing:
hierarchical is not its cause. Writes are never redirected.
"""

from dataclasses import dataclass, field

from hal9.control.progress import epochs_of_route
from hal9.control.reducer import ControlState
from schemas.base import FLAT, HIERARCHICAL, SYSTEMS, System
from schemas.control import Rollback
from schemas.telemetry import Outcome
from services.router.breaker import Breaker, BreakerPolicy, Event, State, Transition
from services.router.load import Budget, LoadPolicy
from services.router.shadowing import ShadowGate


@dataclass(frozen=True, slots=True)
class ProtectionPolicy:
    """Plain values; see the settings of the router."""

    breaker: BreakerPolicy = field(default_factory=BreakerPolicy)
    breakers: bool = True
    shadow_rate: float = 0.0
    shadow_burst: float = 1_000
    load: LoadPolicy = field(default_factory=LoadPolicy)
    fallback_after: float = 0.5
    """Part of the time to its deadline that a read waits for the system asked first; 0: to its end."""


class Protection:
    """One per router process."""

    def __init__(self, policy: ProtectionPolicy | None = None) -> None:
        self.policy = policy or ProtectionPolicy()
        self.breakers = {system: Breaker(system, self.policy.breaker) for system in SYSTEMS}
        self.gate = ShadowGate(self.breakers, self.policy.shadow_rate, self.policy.shadow_burst)
        self.budget = Budget(self.policy.load)
        self.tripped: frozenset[System] = frozenset()
        """Systems that reads do not go to while the other system can answer them."""
        self.read_only: frozenset[str] = frozenset()
        """Operations that every living instance of both systems declares read-only."""
        self._control: ControlState | None = None
        self._owed: Transition | None = None

    # ------------------------------------------------------------------ what the cores say
    def control(self, state: ControlState) -> None:
        """`control` has moved on."""
        self._control = state
        for breaker in self.breakers.values():
            breaker.enter(epochs_of_route(state))

    def tick(self, now_ms: float) -> None:
        """Time passes."""
        self.gate.tick(now_ms)

    # ------------------------------------------------------------------ what the shell says, each second
    def look(self, outcomes: list[Outcome], now_ms: float) -> list[Transition]:
        """The seconds that have passed; the moves that follow."""
        if not self.policy.breakers:
            return []
        for outcome in outcomes:
            for breaker in self.breakers.values():
                breaker.observe(outcome.at_ms, outcome.arms)
        moves = [move for breaker in self.breakers.values() if (move := breaker.look(now_ms)) is not None]
        for move in moves:
            if move.system == HIERARCHICAL:
                # What closed again, or opened again on its probes, is owed nothing: one command per opening.
                self._owed = move if move.event is Event.FAILING else self._still_owed(move)
        self.gate.moved()
        self.tripped = frozenset(s for s, b in self.breakers.items() if b.state is not State.CLOSED)
        return moves

    def _still_owed(self, move: Transition) -> Transition | None:
        return None if move.after is State.CLOSED else self._owed

    def command(self, now_ms: float, actor: str) -> Rollback | None:
        """The rollback to publish now: again and again until `control` holds it or has moved on."""
        owed, control = self._owed, self._control
        if owed is None or control is None:
            return None
        name = f"breaker/{HIERARCHICAL}/{owed.epoch}/{owed.opening}"
        if name in control.ids or owed.epoch not in epochs_of_route(control) or not control.flags.auto_rollback:
            self._owed = None
            return None
        flat = self.breakers[FLAT]
        if flat.state is not State.CLOSED or flat.window.failing(flat.policy):
            return None
        return Rollback(
            id=name,
            migration=control.migration,
            actor=actor,
            at_ms=int(now_ms),
            expected_epoch=owed.epoch,
            trigger="breaker",
            evidence={**owed.evidence, "flat": flat.window.evidence()},
            reason=f"the circuit breaker of {HIERARCHICAL} opened",
        )
