"""Who is alive, judged by when heartbeats arrive here: the senders' clocks are never compared with this one. Pure.

A system is dead when each of its instances has been silent for as long as the limit, or has said that it leaves; and
only once this has listened for as long as the limit, so that a fresh reader buries nobody.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from schemas.base import SYSTEMS, System
from schemas.telemetry import Status


@dataclass(slots=True)
class _Seen:
    status: Status
    at_ms: float


class Liveness:
    """The newest heartbeat of every instance. Times are milliseconds of one monotonic clock, the reader's."""

    def __init__(self, started_ms: float, dead_after_ms: float = 2_000, forget_after_ms: float = 60_000) -> None:
        self._started_ms, self._dead_after_ms, self._forget_after_ms = started_ms, dead_after_ms, forget_after_ms
        self._seen: dict[str, _Seen] = {}
        self._read_only: dict[System, frozenset[str]] = {}

    def __repr__(self) -> str:
        return f"Liveness({', '.join(sorted(self._seen))})"

    def fold(self, status: Status, now_ms: float) -> None:
        """A heartbeat arrived at `now_ms`."""
        self._seen[status.instance] = _Seen(status, now_ms)
        forgotten = now_ms - self._forget_after_ms
        for instance in [name for name, seen in self._seen.items() if seen.at_ms < forgotten]:
            del self._seen[instance]
        for system in SYSTEMS:
            self._declare(system, now_ms)

    def recall(self, statuses: Iterable[Status]) -> None:
        """Heartbeats from before: what a system that is dead by now declared last; they say nothing of life."""
        newest = {status.instance: status for status in statuses}
        for system in SYSTEMS:
            beats = [status for status in newest.values() if status.service == system]
            last = max((status.at_ms for status in beats), default=0)
            together = [frozenset(s.read_only) for s in beats if s.at_ms > last - self._dead_after_ms]
            if together:
                self._read_only.setdefault(system, frozenset.intersection(*together))

    def _declare(self, system: System, now_ms: float) -> None:
        declared = [frozenset(status.read_only) for status in self.alive(system, now_ms)]
        if declared:
            self._read_only[system] = frozenset.intersection(*declared)

    def alive(self, service: str, now_ms: float) -> list[Status]:
        """The newest heartbeat of each living instance of a service."""
        return [status for status in self.living(now_ms) if status.service == service]

    def living(self, now_ms: float) -> list[Status]:
        """The newest heartbeat of each living instance of any service."""
        young = now_ms - self._dead_after_ms
        return [seen.status for seen in self._seen.values() if seen.at_ms > young and not seen.status.leaving]

    def newest(self, service: str) -> list[Status]:
        """The newest heartbeat of each instance that is remembered, dead ones too."""
        return [seen.status for seen in self._seen.values() if seen.status.service == service]

    def dead(self, now_ms: float) -> frozenset[System]:
        """The systems without a living instance."""
        if now_ms - self._started_ms < self._dead_after_ms:
            return frozenset()
        return frozenset(system for system in SYSTEMS if not self.alive(system, now_ms))

    def read_only(self) -> frozenset[str]:
        """The operations that every instance of both systems declares read-only, by the newest word of each system."""
        declared = [self._read_only.get(system, frozenset()) for system in SYSTEMS]
        return frozenset.intersection(*declared)
