"""Rules that a summary suggests, as YAML that `hal9.compare.loading` reads. Pure; nothing applies them by itself.

What the paired test calls noise may be tolerated or ignored; of what is not noise only rounding and another order of a
list are suggested, and it is said that they are not. Each ends on a date, names who asked, and says what it would hide.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from math import floor, log10
from typing import Any

import yaml

from hal9.compare.summary import DivergenceClass, Summary
from hal9.stats.paired import Finding

DAYS = 30
ROUNDING = 1e-6
"""Floats nearer than that, relatively, differ by how they are computed."""
NEAR = 0.1
"""Noise within that, relatively, is tolerated; beyond it the field says nothing and is ignored."""
_DAY_MS = 86_400_000


@dataclass(frozen=True, slots=True)
class Proposal:
    """One rule, as a tree for YAML; how many divergences it would hide, and how many written ones wholly."""

    rule: dict[str, Any]
    hides: int
    whole: int


def proposals(summary: Summary, owner: str) -> list[Proposal]:
    """What could be ruled, the most frequent first."""
    found = [p for one, finding in summary.sorted() if (p := _proposal(one, finding, owner)) is not None]
    return sorted(found, key=lambda p: -p.hides)


def as_yaml(found: Sequence[Proposal]) -> str:
    """A file of rules."""
    rules = [p.rule for p in found]
    return yaml.safe_dump({"rules": rules}, sort_keys=False, allow_unicode=True, width=110)


def _proposal(one: DivergenceClass, finding: Finding, owner: str) -> Proposal | None:
    if one.kind not in ("value", "state") or not one.path or one.path.startswith("(") or not one.written:
        return None
    path, action = one.path, _action(one, finding)
    if action is None:
        return None
    if "multiset" in action:
        path = path.removesuffix("*").removesuffix(".")
    rule: dict[str, Any] = {"path": f"state.{path}" if one.kind == "state" else path}
    if one.kind == "value" and path.partition(".")[0] == "state":
        rule["of"] = "answer"
    ends = datetime.fromtimestamp((one.last_ms + DAYS * _DAY_MS) / 1000, UTC).date().isoformat()
    rule |= {"operations": [one.operation], **action, "until": ends, "owner": owner}
    rule["reason"] = _evidence(one, finding)
    return Proposal(rule, one.count, one.alone)


def _action(one: DivergenceClass, finding: Finding) -> dict[str, Any] | None:
    noise = finding.verdict == "noise"
    if one.permuted == one.written and one.path.endswith("*") and one.path != "*":
        return {"multiset": True}
    if one.relative is not None and one.relative <= (NEAR if noise else ROUNDING):
        return {"tolerance": {"relative": _above(one.relative)}}
    return {"ignore": True} if noise else None


def _evidence(one: DivergenceClass, finding: Finding) -> str:
    pairs = finding.pairs
    said = (
        f"{finding.verdict}: of {pairs.total} pairs the shadow alone differed in {pairs.shadow}, flat's twin alone in "
    )
    said += f"{pairs.twin}, both in {pairs.both} (p {finding.p_value:.2g})"
    if one.relative is not None:
        said += f"; at most {one.relative:.2g} apart, relatively"
    of = "them" if not one.left_out else f"the {one.written} that were written"
    return f"{said}; hides {one.count} divergences, {one.alone} of {of} whole"


def _above(value: float) -> float:
    """The next of 1, 2, 5, 10, ... times a power of ten that lies clearly above."""
    if value <= 0.0:
        return 1e-15
    wanted = value * 1.5
    scale = 10.0 ** floor(log10(wanted))
    return next(float(f"{step * scale:.0e}") for step in (1, 2, 5, 10) if step * scale >= wanted)
