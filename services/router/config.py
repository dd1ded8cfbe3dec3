"""What the core of the router is told when it is made. Pure."""

from collections.abc import Callable
from dataclasses import dataclass, field

from hal9 import wire
from hal9.compare import RuleBook
from services.router.keybook import REMEMBERED_MS
from services.router.outcomes import OutcomeBook
from services.router.protection import Protection


@dataclass(frozen=True, slots=True)
class RouterConfig:
    """Plain values; `unique` makes ids of claims (randomness comes from outside)."""

    migration: str
    partitions: int
    instance: str
    unique: Callable[[], str]
    book: OutcomeBook
    limits: wire.Limits = field(default_factory=wire.Limits)
    requests_topic: str = "hal9.requests"
    id_window_ms: float = 60_000
    id_window_bytes: int = 16 * 1024 * 1024
    metadata_bytes: int = 3900
    """Of what rides with a commit: one that needs more is left out, and a successor reads more."""
    remembered_ms: float = REMEMBERED_MS
    """How long keys, and the layers that are known of them, are remembered at most."""
    rules: RuleBook = field(default_factory=RuleBook)
    comparison_grace_ms: float = 2_000
    protection: Protection = field(default_factory=Protection)
