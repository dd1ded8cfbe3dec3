"""The gates of a step: three verdicts each, and only `ok` of all of them promotes. Pure.

Evidence is what closed panes hold of the step's own epochs since it was settled. Time is event time: when telemetry
falls silent the soak does not go on, so silence is never success. Before the soak is over an excess is a regression
only if chance can hardly explain it (each look is a new chance); at its end the figure itself decides.
"""

from dataclasses import dataclass
from typing import Literal

from hal9.control.plan import Step
from hal9.stats.chance import improbable
from hal9.stats.panes import ArmTotals
from schemas.base import FLAT, HIERARCHICAL, Tree
from services.orchestrator.evidence import Evidence

Verdict = Literal["ok", "regression", "insufficient"]
RELATIVE = 2.0
"""Flat is just as sick if hierarchical fails less than so many times as often: then going back would not help."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What one gate says, and why."""

    gate: str
    verdict: Verdict
    said: str


@dataclass(frozen=True, slots=True)
class Judgement:
    """What all gates of a step say."""

    findings: tuple[Finding, ...]
    evidence: Tree

    @property
    def verdict(self) -> Verdict:
        """Regression if any gate says so, ok only if all do."""
        verdicts = {finding.verdict for finding in self.findings}
        if "regression" in verdicts:
            return "regression"
        return "insufficient" if "insufficient" in verdicts else "ok"

    def said(self, verdict: Verdict) -> str:
        """What the gates with this verdict say."""
        return "; ".join(finding.said for finding in self.findings if finding.verdict == verdict)


@dataclass(frozen=True, slots=True)
class _Sample:
    """The evidence of one step, counted."""

    epochs: range
    from_s: int
    to_s: int
    soaked_s: float
    flat: ArmTotals
    hierarchical: ArmTotals
    compared: int
    differed: int
    quarantined: int

    def tree(self) -> Tree:
        return {
            "epochs": [self.epochs.start, self.epochs.stop - 1],
            "from_s": self.from_s,
            "to_s": self.to_s,
            "flat": {"requests": self.flat.requests, "failed": self.flat.failed},
            "hierarchical": {"requests": self.hierarchical.requests, "failed": self.hierarchical.failed},
            "compared": self.compared,
            "differed": self.differed,
            "quarantined": self.quarantined,
        }


def judge(step: Step, epochs: range, settled_ms: int, began_ms: int, evidence: Evidence, now_ms: int) -> Judgement:
    """Judge the gates of `step` over `epochs`; it was settled at `settled_ms`, and the walk began at `began_ms`."""
    sample = _sample(step, epochs, settled_ms, began_ms, evidence, now_ms)
    findings = (_soak(step, sample), _errors(step, sample), _divergences(step, sample), _quarantine(step, sample))
    return Judgement(findings, sample.tree())


def _sample(step: Step, epochs: range, settled_ms: int, began_ms: int, evidence: Evidence, now_ms: int) -> _Sample:
    panes = evidence.panes
    to_s = panes.closed_s(now_ms)
    from_s = max(-(-settled_ms // 1000), to_s - step.gates.window_s)
    counts = panes.comparisons(from_s, to_s, epochs)
    differed = counts.divergent + counts.one_sided
    return _Sample(
        epochs,
        from_s,
        to_s,
        max(to_s - settled_ms / 1000, 0.0),
        panes.window(from_s, to_s, FLAT, epochs),
        panes.window(from_s, to_s, HIERARCHICAL, epochs),
        # Where both failed nothing was compared but the failure, and what was incomparable says nothing.
        counts.equal + differed,
        differed,
        evidence.quarantined_since(began_ms),
    )


def _soak(step: Step, sample: _Sample) -> Finding:
    if sample.to_s <= 0:
        return Finding("soak", "insufficient", "no router reports results")
    done = sample.soaked_s >= step.gates.soak_s
    said = f"soaked for {min(sample.soaked_s, step.gates.soak_s):.1f} of {step.gates.soak_s:g} s"
    return Finding("soak", "ok" if done else "insufficient", said)


def _excess(step: Step, sample: _Sample, bad: int, total: int, bound: float) -> Verdict:
    if total == 0 or bad / total <= bound:
        return "ok"
    certain = sample.soaked_s >= step.gates.soak_s or improbable(bad, total, bound)
    return "regression" if certain else "insufficient"


def _errors(step: Step, sample: _Sample) -> Finding:
    gates = step.gates
    name = HIERARCHICAL if step.percentage > 0 else FLAT
    arm = sample.hierarchical if step.percentage > 0 else sample.flat
    said = f"{name} failed {arm.failed} of {arm.requests} requests"
    if arm.requests < gates.min_requests:
        return Finding("error_rate", "insufficient", f"{said}, fewer than {gates.min_requests}")
    verdict = _excess(step, sample, arm.failed, arm.requests, gates.max_error_rate)
    if verdict == "ok":
        return Finding("error_rate", "ok", said)
    said += f", more than {gates.max_error_rate:.1%}"
    if name == FLAT:
        return Finding("error_rate", "insufficient", f"{said}: it must be well itself before anything moves")
    if arm.error_rate < RELATIVE * sample.flat.error_rate:
        return Finding("error_rate", "insufficient", f"{said}, but flat fails too: going back would not help")
    return Finding("error_rate", verdict, said)


def _divergences(step: Step, sample: _Sample) -> Finding:
    gates = step.gates
    said = f"{sample.differed} of {sample.compared} comparisons differed"
    if sample.compared < gates.min_comparisons:
        return Finding("divergence", "insufficient", f"{said}, fewer than {gates.min_comparisons}")
    verdict = _excess(step, sample, sample.differed, sample.compared, gates.max_divergence_rate)
    if verdict != "ok":
        said += f", more than {gates.max_divergence_rate:.2%}"
    return Finding("divergence", verdict, said)


def _quarantine(step: Step, sample: _Sample) -> Finding:
    said = f"{sample.quarantined} records quarantined"
    if sample.quarantined <= step.gates.max_quarantined:
        return Finding("quarantine", "ok", said)
    return Finding("quarantine", "regression", f"{said}, more than {step.gates.max_quarantined}")
