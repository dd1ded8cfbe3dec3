"""Which request a position means, by what `dispatched` says of the topics that were `requests` one after the other."""

from dataclasses import dataclass, field

from hal9 import wire
from hal9.log.effects import Headers
from schemas.state import Requests
from simulation.asked import Position
from simulation.history import Violation

TOPIC = 1 << 40
"""How many requests a topic may have: the witness counts by it, and not as the router does."""
_DEFAULT = wire.default_id("hal9.requests", 0, 0).removesuffix("0-0")


@dataclass(slots=True)
class Counting:
    """`topic` is the number of the topic as it is now: how many there were before it."""

    topic: int = 0
    _marks: dict[int, list[tuple[int, int]]] = field(default_factory=dict)
    """Per partition (base, number of the topic), as they count in `dispatched`."""
    _used: dict[int, int] = field(default_factory=dict)
    """Per partition the greatest position dispatched."""

    def marked(self, partition: int, mark: Requests) -> None:
        """A mark was written that counts."""
        if mark.base <= self._used.get(partition, -1):
            raise Violation("one position is two requests", f"{mark} after {self._used[partition]}")
        self._marks.setdefault(partition, []).append((mark.base, _number(mark.topic)))

    def dispatched(self, partition: int, position: int) -> None:
        """A request was dispatched, as the router counts."""
        self._used[partition] = max(self._used.get(partition, -1), position)

    def place(self, partition: int, position: int) -> Position:
        """Where a request lies that the router gave this position."""
        base, topic = next((m for m in reversed(self._marks.get(partition, [])) if m[0] <= position), (0, 0))
        return partition, self.number(position - base, topic)

    def number(self, offset: int, topic: int | None = None) -> int:
        """What the witness calls an offset of a topic; without one of that which there is now."""
        return (self.topic if topic is None else topic) * TOPIC + offset

    def there(self, position: Position) -> bool:
        """Whether it lies in the topic that there is now."""
        return position[1] // TOPIC == self.topic

    def default_id(self, partition: int, offset: int) -> str:
        """What the witness calls a request without an id, in the topic as it is now."""
        return _named(partition, offset, self.topic)

    def name(self, headers: Headers) -> str:
        """What the witness calls a request with these headers."""
        name, base = wire.text(headers, wire.ID) or "", wire.number(headers, wire.BASE) or 0
        if not name.startswith(_DEFAULT):
            return name
        partition, _, offset = name.removeprefix(_DEFAULT).partition("-")
        topic = next((t for at, t in self._marks.get(int(partition), [(0, 0)]) if at == base), -1)
        return _named(int(partition), int(offset), topic)

    def is_of(self, committed: str) -> bool:
        """Whether a commit with this metadata is of the topic as it is now."""
        return not committed or _number(committed) == self.topic


def _named(partition: int, offset: int, topic: int) -> str:
    return f"{wire.default_id('hal9.requests', partition, offset)}@{topic}"


def _number(topic: str) -> int:
    return int(topic.rpartition("#")[2])
