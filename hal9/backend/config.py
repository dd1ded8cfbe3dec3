"""What the core of a system is told when it is made. Pure."""

from collections.abc import Callable
from dataclasses import dataclass, field

from hal9.backend.execution import Limits
from hal9.compare import RuleBook


@dataclass(frozen=True, slots=True)
class BackendConfig:
    """Plain values; `unique` makes ids of claims (randomness comes from outside)."""

    migration: str
    instance: str
    unique: Callable[[], str]
    answers_ms: float = 75_000
    """Longest deadline (60 s) and some: how long an answer by position is kept."""
    limits: Limits = field(default_factory=Limits)
    batch: int = 256
    backlog: int = 10_000
    metadata_bytes: int = 4_000
    """Of what rides with a commit: one that needs more is left out, and a successor reads more."""
    rules: RuleBook = field(default_factory=RuleBook)
    remote: bool = False
    """The handler is somewhere else: it is asked by `Effects.calls`, only its `read_only` is used here."""
