"""How state logs lose records: as Kafka's cleaner takes them, in time, or cruelly, at any moment.

Kafka's way (`clean`) is `simulation.cleaner` on the world's clock. Two facts bound what it can take: nobody is away for
as long as `min.compaction.lag.ms` (`World` sees to that when time leaps), and no reader is behind by
`delete.retention.ms`.

The cruel way (`take`) has no clock. Up to any offset, the active segment's included, it keeps the last record of each
key; a null value goes as soon as no router can remember the layer of its key. It spares only what the two facts spare:
what somebody who is there has not read yet, and the newest valid record of a key while nothing but void ones lie behind
it; and the last record of a log, without which nobody could tell that he has read to its end.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from hal9.keys import is_mark
from hal9.testing.memory import MemoryLogs, Name, Stored
from simulation.cast import REMEMBERED_MS
from simulation.cleaner import CleanerSettings, LogCleaner
from simulation.history import STATE_LOGS

LAG_MS = 120_000
"""Longer than a deadline, the id window and the time for which answers are kept, as a day is in the field."""
RETENTION_MS = 300_000
SETTINGS = CleanerSettings(
    segment_ms=30_000,
    segment_records=12,
    min_compaction_lag_ms=LAG_MS,
    max_compaction_lag_ms=1 << 62,
    min_cleanable_dirty_ratio=0.0,
    delete_retention_ms=RETENTION_MS,
)


@dataclass(slots=True)
class Compaction:
    """Of all state logs of a world."""

    logs: MemoryLogs
    partitions: int
    newest: Mapping[Name, Mapping[bytes, tuple[int, int]]]
    """Per log and key the newest valid version, and where it lies (of the witness)."""
    _cleaners: dict[Name, LogCleaner] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ((log, partition) for log in STATE_LOGS for partition in range(self.partitions)):
            self._cleaners[name] = LogCleaner(self.logs[name], SETTINGS)

    def landed(self, name: Name, record: Stored) -> None:
        """A record was stored."""
        cleaner = self._cleaners.get(name)
        if cleaner is not None:
            cleaner.appended(record)

    def clean(self, log: str, partition: int, now_ms: int) -> list[int]:
        """One pass of Kafka's cleaner, if it would make one now; the offsets that went."""
        return self._cleaners[log, partition].clean(now_ms)

    def take(self, log: str, partition: int, until: int, read: int, now_ms: int) -> list[int]:
        """Cruelly, below `until`, of what everybody has `read`; the offsets that went."""
        held = self.logs[log, partition]
        records = held.read(0, max(0, min(until, read, held.end - 1)))
        last = {record.key: record.offset for record in records}
        newest = self.newest.get((log, partition), {})
        gone = []
        for record in records:
            key, valid = record.key or b"", newest.get(record.key or b"", (0, -1))[1] == record.offset
            if record.offset < last[record.key]:
                goes = not valid
            else:
                goes = record.value is None and not is_mark(key) and valid and record.timestamp < now_ms - REMEMBERED_MS
            if goes:
                gone.append(record.offset)
        held.remove(gone)
        return gone
