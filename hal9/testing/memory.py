"""Partition logs in memory: append, read, compact, and the committed positions of a group.

They do what a Kafka topic partition and a consumer group do, as far as the partition cores can tell: offsets without
reuse, compaction that keeps the newest record of each key (valid or void: a broker cannot know), commits refused for a
member that the group has replaced. Nothing is durable and nothing is concurrent.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from hal9.log.effects import Commit, Headers

Name = tuple[str, int]
"""Topic without prefix, and partition."""

METADATA_BYTES = 4096
"""Kafka's default bound of commit metadata (offset.metadata.max.bytes)."""


@dataclass(slots=True)
class Stored:
    """One record as it lies in a log; satisfies `hal9.log.effects.Record`."""

    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Headers

    def __repr__(self) -> str:
        headers = " ".join(f"{name}={value.decode('utf-8', 'replace')}" for name, value in self.headers)
        return f"[{self.offset}] {self.key!r} {headers}"


class MemoryLog:
    """One partition of one topic. Compacted records leave gaps; offsets are never reused."""

    __slots__ = ("_landed", "_records", "name")

    def __init__(self, name: Name, landed: "Landed | None" = None) -> None:
        self.name, self._landed = name, landed
        self._records: list[Stored | None] = []

    def __iter__(self) -> Iterator[Stored]:
        return (record for record in self._records if record is not None)

    def __repr__(self) -> str:
        return f"<MemoryLog {self.name[0]}[{self.name[1]}], end {self.end}>"

    @property
    def end(self) -> int:
        """The next offset to be written."""
        return len(self._records)

    def append(
        self,
        key: bytes | None,
        value: bytes | None,
        headers: Headers = (),
        timestamp: int = 0,
    ) -> Stored:
        """Store a record; `timestamp` is the log's append time in milliseconds."""
        held = tuple([(name, bytes(value)) for name, value in headers])
        stored = Stored(len(self._records), timestamp, key, value, held)
        self._records.append(stored)
        if self._landed is not None:
            self._landed(self.name, stored)
        return stored

    def read(self, start: int, until: int) -> list[Stored]:
        """What is left of the offsets start <= o < until."""
        return [record for record in self._records[max(0, start) : until] if record is not None]

    def empty(self) -> None:
        """The topic was deleted and made anew."""
        self._records = []

    def compact(self, until: int) -> list[int]:
        """Keep, of the offsets below `until`, the newest record of each key; the offsets that went."""
        seen: set[bytes | None] = set()
        gone: list[int] = []
        for offset in range(min(until, self.end) - 1, -1, -1):
            record = self._records[offset]
            if record is None:
                continue
            if record.key in seen:
                self._records[offset] = None
                gone.append(offset)
            seen.add(record.key)
        return gone

    def remove(self, offsets: Iterable[int]) -> None:
        """Take these records out; their offsets stay used."""
        for offset in offsets:
            self._records[offset] = None


Landed = Callable[[Name, Stored], object]
"""Told of each record as soon as it is stored; what it raises reaches whoever appended."""


class MemoryLogs:
    """All logs, made on first use."""

    def __init__(self, landed: Landed | None = None) -> None:
        self._logs: dict[Name, MemoryLog] = {}
        self._landed = landed
        self._renewals: dict[str, int] = {}

    def __getitem__(self, name: Name) -> MemoryLog:
        found = self._logs.get(name)
        if found is None:
            found = self._logs[name] = MemoryLog(name, self._landed)
        return found

    def __iter__(self) -> Iterator[MemoryLog]:
        return iter(self._logs.values())

    def topic_id(self, topic: str) -> str:
        """What a broker calls a topic beside its name: another id each time it was made."""
        return f"{topic}#{self._renewals.get(topic, 0)}"

    def make_anew(self, topic: str) -> None:
        """Delete a topic with all that is in it, and make one of the same name."""
        self._renewals[topic] = self._renewals.get(topic, 0) + 1
        for (name, _), log in self._logs.items():
            if name == topic:
                log.empty()


@dataclass(slots=True)
class MemoryGroup:
    """A consumer group as one partition sees it: who holds it (a generation) and what is committed."""

    generation: int = 0
    committed: dict[str, Commit] = field(default_factory=dict)

    def join(self) -> int:
        """A new member takes the partition over; the member before it is fenced from now on."""
        self.generation += 1
        return self.generation

    def commit(self, generation: int, commits: Mapping[str, Commit]) -> bool:
        """Store positions; False (and nothing stored) for a member that was replaced.

        Raises:
            ValueError: metadata that a broker would refuse, or a position below zero.
        """
        for log, commit in commits.items():
            if len(commit.metadata.encode()) >= METADATA_BYTES:
                raise ValueError(f"metadata of {log} has {len(commit.metadata)} bytes")
            if commit.offset < 0:
                raise ValueError(f"position {commit.offset} of {log}")
        if generation != self.generation:
            return False
        self.committed.update(commits)
        return True
