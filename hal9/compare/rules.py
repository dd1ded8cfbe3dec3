"""What counts as the same, where: rules by path and operation, in the order in which they are written. Pure.

The first rule of a place that is alive says how it is compared; without one, floats have the default tolerance and
everything else is exact. Redaction is apart: any redaction of a place or of what holds it hides its values.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Literal

from hal9.compare.layout import Layouts
from hal9.compare.matcher import Node, compiled
from hal9.compare.paths import Pattern
from hal9.compare.showing import Redactor

Side = Literal["answer", "state"]
Action = Literal["tolerance", "multiset", "ignore", "redact"]
MAX_LABEL = 60


@dataclass(frozen=True, slots=True)
class Tolerance:
    """How far two floats may lie apart: a matrix product differs from a dot in the last bits."""

    relative: float = 1e-9
    absolute: float = 1e-12


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule. `operations` empty: all. `until_ms`: from then on the rule is dead, and says so (None: it never is)."""

    path: str
    segments: Pattern
    action: Action
    of: Side = "answer"
    operations: frozenset[str] = frozenset()
    tolerance: Tolerance = Tolerance(0.0, 0.0)
    until_ms: int | None = None
    name: str = ""
    owner: str = ""
    reason: str = ""

    @property
    def label(self) -> str:
        """How the rule is named in a divergence."""
        shown = self.name or self.path or "(root)"
        return shown if len(shown) <= MAX_LABEL else shown[: MAX_LABEL - 3] + "..."

    def broken(self) -> str:
        """What a divergence says of two values that this rule does not let pass."""
        if self.action == "tolerance":
            return f"{self.label}: rel {self.tolerance.relative:g} abs {self.tolerance.absolute:g}"
        return f"{self.label}: {self.action}"

    def dead(self) -> str:
        """What a divergence says of this rule once it is dead."""
        ended = datetime.fromtimestamp((self.until_ms or 0) / 1000, UTC).date().isoformat()
        return f"{self.label}: {self.action} ended {ended}"


@dataclass(frozen=True)
class RuleBook:
    """All rules of an installation, compiled once. Raises ValueError if they are too many states to compile."""

    rules: Sequence[Rule] = ()
    tolerance: Tolerance = field(default_factory=Tolerance)
    key: bytes = field(default=b"", repr=False)
    """Of the hashes that stand for redacted values; without one a value of few possibilities can be guessed."""
    redactor: Redactor = field(init=False, repr=False, compare=False)
    rounding: str = field(init=False)
    """What a divergence says of floats beyond the default tolerance."""
    layouts: Layouts = field(init=False, repr=False, compare=False)
    """Of the answers met lately: a memory of what is the same, which no verdict depends on."""
    _nodes: dict[tuple[Side, str | None], Node] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Compile a matcher per side and operation that a rule names, and one for all other operations."""
        object.__setattr__(self, "redactor", Redactor(self.key))
        object.__setattr__(self, "layouts", Layouts())
        object.__setattr__(self, "rounding", f"rel {self.tolerance.relative:g} abs {self.tolerance.absolute:g}")
        named = {operation for rule in self.rules for operation in rule.operations}
        nodes: dict[tuple[Side, str | None], Node] = {}
        sides: tuple[Side, Side] = ("answer", "state")
        for side in sides:
            for operation in (None, *sorted(named)):
                nodes[side, operation] = compiled([r for r in self.rules if _holds(r, side, operation)])
        object.__setattr__(self, "_nodes", nodes)

    def matcher(self, of: Side, operation: str) -> Node:
        """What holds at the root of an answer, or of a state after an operation."""
        found = self._nodes.get((of, operation))
        return found if found is not None else self._nodes[of, None]

    def ended(self, now_ms: float) -> list[Rule]:
        """Rules that are dead, in the order in which they ended."""
        dead = [rule for rule in self.rules if rule.until_ms is not None and rule.until_ms <= now_ms]
        return sorted(dead, key=lambda rule: rule.until_ms or 0)


def _holds(rule: Rule, side: Side, operation: str | None) -> bool:
    return rule.of == side and (not rule.operations or operation in rule.operations)
