"""What clients of the seeded world asked for, and what came back."""

from dataclasses import dataclass, field

from hal9 import wire
from hal9.testing.memory import Stored

Position = tuple[int, int]
"""Partition and offset on `requests`, where offsets count on from topic to topic, by the witness's own counting."""


@dataclass(slots=True, eq=False)
class Asked:
    """One request of a client, its repeats and its copies on other partitions included."""

    label: str
    """Its value, by which its effect is known."""
    id: str
    key: bytes
    operation: str
    deadline_ms: int | None
    """Set by the client; None: the default."""
    due_ms: int
    """When an answer is no use any more, whoever set it."""
    bad: bool = False
    positions: list[Position] = field(default_factory=list)
    asked_ms: int = 0
    floor: int = 0
    """Version of its key that the asker had seen when it asked."""
    answers: list[Stored] = field(default_factory=list)
    effect: int | None = None
    """Version of its key that it made, answered `ok`."""

    @property
    def reads(self) -> bool:
        """Whether it changes nothing."""
        return self.operation == "read"

    def overtook(self, partition: int, position: int) -> bool:
        """Whether it is a read that was answered, not as a fallback, without a change that precedes it."""
        if not self.reads or self.status != "ok" or wire.header(self.answers[0].headers, wire.FALLBACK) is not None:
            return False
        return position < min((at for there, at in self.positions if there == partition), default=-1)

    @property
    def status(self) -> str | None:
        """What the first answer, which counts, says."""
        return wire.text(self.answers[0].headers, wire.STATUS) if self.answers else None
