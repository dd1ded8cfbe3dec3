"""What the orchestrator has seen: outcomes, heartbeats, quarantined records. Pure; a view, rebuilt from the logs.

Latencies are dropped at the door: no gate looks at them yet, and an hour of panes stays small without.
"""

from collections import Counter

from msgspec.structs import replace

from hal9.control.plan import MAX_WINDOW_S
from hal9.liveness import Liveness
from hal9.stats.panes import Arrival, Panes
from schemas.base import SYSTEMS
from schemas.reports import Quarantined
from schemas.telemetry import Outcome, Status

NEEDED = ("router", "migrator", *SYSTEMS)
"""Services without which no step begins."""

USERS_LOG = "requests"
REMEMBERED = 100_000
"""Quarantined records told apart: far beyond what any gate lets pass."""


class Evidence:
    """Everything the core is given besides the folded control log. Times are those of one clock, the reader's."""

    def __init__(self, started_ms: int, dead_after_ms: float = 2_000) -> None:
        self.panes = Panes(retain_s=MAX_WINDOW_S)
        self.liveness = Liveness(started_ms, dead_after_ms)
        self._started_ms, self._dead_after_ms = started_ms, dead_after_ms
        self._quarantined: Counter[int] = Counter()
        self._sources: set[tuple[str, int, int]] = set()

    def __repr__(self) -> str:
        return f"<Evidence {self.panes!r}, {self.liveness!r}, {self._quarantined.total()} quarantined>"

    def outcome(self, outcome: Outcome, now_ms: int) -> Arrival:
        """One router's results of one second arrived."""
        arms = [replace(arm, latency_us={}) for arm in outcome.arms]
        return self.panes.add(replace(outcome, arms=arms, shadow_latency_us={}), now_ms)

    def status(self, status: Status, now_ms: int) -> None:
        """A heartbeat arrived."""
        self.liveness.fold(status, now_ms)

    def quarantined(self, record: Quarantined) -> None:
        """A record was set aside. What users sent is not counted: garbage of theirs is no fault of the migration."""
        source = (record.topic, record.partition, record.offset)
        # A service that starts again reads, and sets aside, some records a second time.
        if record.topic == USERS_LOG or source in self._sources:
            return
        if len(self._sources) < REMEMBERED:
            self._sources.add(source)
        self.set_aside(record.at_ms)

    def set_aside(self, at_ms: int) -> None:
        """A record of ours was set aside, whatever it was."""
        self._quarantined[at_ms // 1000] += 1

    def quarantined_since(self, since_ms: int) -> int:
        """How many were set aside since the second of `since_ms`."""
        return sum(count for second, count in self._quarantined.items() if second >= since_ms // 1000)

    def missing(self, now_ms: int) -> list[str]:
        """The needed services without a living instance."""
        return [service for service in NEEDED if not self.liveness.alive(service, now_ms)]

    def lives(self, instance: str, now_ms: int) -> bool:
        """Whether an orchestrator of this name has a young heartbeat, or had no time yet to be heard here."""
        if now_ms - self._started_ms < self._dead_after_ms:
            return True
        return any(status.instance == instance for status in self.liveness.alive("orchestrator", now_ms))

    def backfilled(self, partition: int, now_ms: int) -> float:
        """Percentage copied of a partition, as living migrators say; what is copied stays, so the greatest counts."""
        alive = self.liveness.alive("migrator", now_ms)
        return max((status.backfilled.get(partition, 0.0) for status in alive), default=0.0)

    def marked(self, partition: int) -> int:
        """The newest epoch whose marker a router has read back in a partition; true even if that router died since."""
        return max((status.epochs.get(partition, 0) for status in self.liveness.newest("router")), default=0)
