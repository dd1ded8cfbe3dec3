"""What the evidence says, trigger by trigger, and the command that follows from it. Pure: the same input, the same ids.

Three verdicts: ok, regression, insufficient; silence is never ok. A command that was folded once is not given again.
"""

from dataclasses import dataclass, field, replace
from typing import Literal

from hal9.control.progress import epochs_of_route
from hal9.control.reducer import ControlState
from hal9.stats.chance import improbable
from hal9.stats.panes import ArmTotals, Panes
from schemas.base import FLAT, HIERARCHICAL, Tree
from schemas.control import Freeze, Rollback, Trigger

Verdict = Literal["ok", "regression", "insufficient"]
Command = Rollback | Freeze


@dataclass(frozen=True, slots=True)
class Policy:
    """When to go back. The defaults are those of the migration's source document."""

    error_rate: float = 0.05
    """Share of failed requests above which hierarchical is sick (timeouts are failures)."""
    window_s: int = 60
    min_requests: int = 50
    """Fewer requests in the window say nothing."""
    relative: float = 2.0
    """Flat is just as sick if hierarchical fails less than so many times as often."""
    silence_s: float = 30.0
    """No outcome for so long: freeze. For twice as long: roll back."""


@dataclass(frozen=True, slots=True)
class Decision:
    """One trigger's verdict; `command` is what to publish now, if anything."""

    trigger: Trigger
    verdict: Verdict
    reason: str
    evidence: Tree = field(default_factory=dict)
    command: Command | None = None


def decide(
    panes: Panes, control: ControlState, policy: Policy, now_ms: int, *, quiet_ms: int, actor: str
) -> list[Decision]:
    """One decision per trigger. `quiet_ms`: for how long the log of outcomes was seen to hold nothing new."""
    author = _Author(control, now_ms, actor)
    if control.flags.error_threshold is not None:
        policy = replace(policy, error_rate=control.flags.error_threshold)
    return [_errors(panes, policy, author), _silence(policy, quiet_ms, author)]


def running(control: ControlState) -> bool:
    """Whether a plan is being walked."""
    entries = control.journal[control.started_entry :]
    finished = bool(entries) and entries[-1].state in ("finished", "failed")
    return control.plan is not None and control.rolled_back is None and not finished


def at_stake(control: ControlState) -> bool:
    """Whether there is anything to go back from, or to stop."""
    return control.route.involved or running(control)


@dataclass(frozen=True, slots=True)
class _Author:
    """Writes commands; gives none that would change nothing or was folded before."""

    control: ControlState
    now_ms: int
    actor: str

    def rollback(self, trigger: Trigger, reason: str, evidence: Tree) -> Command | None:
        control = self.control
        if not control.flags.auto_rollback:
            return self.freeze(trigger, f"auto_rollback is off: {reason}", evidence)
        name = f"guardian/rollback/{trigger}/{control.epoch}"
        if name in control.ids or not at_stake(control):
            return None
        return Rollback(
            id=name,
            migration=control.migration,
            actor=self.actor,
            at_ms=self.now_ms,
            expected_epoch=control.epoch,
            trigger=trigger,
            evidence=evidence,
            reason=reason,
        )

    def freeze(self, trigger: Trigger, reason: str, evidence: Tree) -> Freeze | None:
        control = self.control
        # A `start` lifts a freeze and leaves the epoch, so the walk is part of the name.
        name = f"guardian/freeze/{trigger}/{control.epoch}/{control.started_entry}"
        if name in control.ids or control.frozen is not None or not at_stake(control):
            return None
        return Freeze(
            id=name,
            migration=control.migration,
            actor=self.actor,
            at_ms=self.now_ms,
            expected_epoch=control.epoch,
            trigger=trigger,
            evidence=evidence,
            reason=reason,
        )


def _errors(panes: Panes, policy: Policy, author: _Author) -> Decision:
    """Hierarchical as primary in the present route; flat over the same panes says whether going back would help."""
    window = _Window.newest(panes, policy, epochs_of_route(author.control))
    sick, flat = window.sick, window.flat
    evidence = window.evidence(policy)
    said = f"hierarchical failed {_share(sick)} in {window.covered_s} s of epoch {author.control.epoch}"
    if sick.requests < policy.min_requests:
        return Decision("error_rate", "insufficient", f"{said}: fewer than {policy.min_requests}", evidence)
    full = window.covered_s >= policy.window_s
    if sick.error_rate <= policy.error_rate:
        closed = full and panes.closed_s(author.now_ms) >= window.to_s - panes.grace_s
        return Decision("error_rate", "ok" if closed else "insufficient", said, evidence)
    # Each look is a new chance, so what comes before the window is full must be beyond chance.
    if not full and not improbable(sick.failed, sick.requests, policy.error_rate):
        return Decision("error_rate", "insufficient", f"{said}: may be chance", evidence)
    reason = f"{said}, more than {policy.error_rate:.1%}; flat failed {_share(flat)}"
    command: Command | None
    if _just_as_sick(flat, sick, policy):
        reason += ": both are sick, going back would not help"
        command = author.freeze("error_rate", reason, evidence)
    else:
        command = author.rollback("error_rate", reason, evidence)
    return Decision("error_rate", "regression", reason, evidence, command)


@dataclass(frozen=True, slots=True)
class _Window:
    """Both arms over the newest panes, open ones too, of the epochs of one route."""

    from_s: int
    to_s: int
    epochs: range
    sick: ArmTotals
    flat: ArmTotals

    @staticmethod
    def newest(panes: Panes, policy: Policy, epochs: range) -> "_Window":
        to_s = panes.newest_s + 1
        began = panes.first_s(epochs)
        from_s = max(to_s - policy.window_s, to_s if began is None else began)
        arms = [panes.window(from_s, to_s, system, epochs) for system in (HIERARCHICAL, FLAT)]
        return _Window(from_s, to_s, epochs, *arms)

    @property
    def covered_s(self) -> int:
        return self.to_s - self.from_s

    def evidence(self, policy: Policy) -> Tree:
        return {
            "from_s": self.from_s,
            "to_s": self.to_s,
            "window_s": policy.window_s,
            "threshold": policy.error_rate,
            "min_requests": policy.min_requests,
            "epochs": [self.epochs[0], self.epochs[-1]],
            HIERARCHICAL: _counts(self.sick),
            FLAT: _counts(self.flat),
        }


def _just_as_sick(flat: ArmTotals, sick: ArmTotals, policy: Policy) -> bool:
    enough = flat.requests >= policy.min_requests
    return enough and flat.error_rate > policy.error_rate and sick.error_rate < policy.relative * flat.error_rate


def _counts(arm: ArmTotals) -> Tree:
    return {
        "requests": arm.requests,
        "error": arm.error,
        "timeout": arm.timeout,
        "rate": round(arm.error_rate, 6),
    }


def _share(arm: ArmTotals) -> str:
    timed_out = f", {arm.timeout} by timeout" if arm.timeout else ""
    return f"{arm.failed} of {arm.requests} requests ({arm.error_rate:.1%}{timed_out})"


def _silence(policy: Policy, quiet_ms: int, author: _Author) -> Decision:
    """No router has reported although something is at stake: not knowing is no reason to go on."""
    control = author.control
    evidence: Tree = {"quiet_s": round(quiet_ms / 1000, 3), "silence_s": policy.silence_s}
    if not at_stake(control):
        return Decision("silence", "insufficient", "no migration is under way", evidence)
    said = f"no router has reported for {quiet_ms / 1000:.1f} s"
    silence_ms = policy.silence_s * 1000
    if quiet_ms < silence_ms:
        return Decision("silence", "ok", said, evidence)
    if quiet_ms < 2 * silence_ms:
        return Decision("silence", "regression", said, evidence, author.freeze("silence", said, evidence))
    return Decision("silence", "regression", said, evidence, author.rollback("silence", said, evidence))
