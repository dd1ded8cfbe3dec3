"""What the logs say of a run: the position of each request, what was applied, when each epoch was marked. Pure.

Only valid records count, judged by the one class that judges them everywhere.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

from hal9 import wire
from hal9.control.reducer import ROUTE_SALT, salt
from hal9.errors import Poison
from hal9.keys import is_mark
from hal9.log.effects import Record
from hal9.log.validity import Validity
from schemas.base import System

Position = tuple[int, int]
"""Partition and offset on `requests`."""


@dataclass(slots=True)
class Trail:
    """Of all partitions together; `dispatched` and `changes` take each partition's log whole, in offset order."""

    migration: str
    positions: dict[tuple[str, str], Position] = field(default_factory=dict)
    """Of each key and id."""
    applied: dict[Position, System] = field(default_factory=dict)
    """The system whose change of that position counts, for requests that ended `ok`."""
    marked: dict[int, list[tuple[int, int]]] = field(default_factory=dict)
    """Per partition, epochs and the log times of their markers."""
    unreadable: int = 0
    """Valid records that are not what a service writes."""

    def dispatched(self, partition: int, records: Iterable[Record]) -> None:
        """The log of the routers' decisions, of one partition."""
        validity = Validity()
        markers = self.marked.setdefault(partition, [])
        for record in records:
            kind = validity.feed(record)
            if kind == "marker":
                markers.append((validity.epoch, record.timestamp))
            elif kind == "data":
                self._dispatched(partition, record)

    def _dispatched(self, partition: int, record: Record) -> None:
        try:
            request = wire.parse_dispatched(record)
        except Poison:
            self.unreadable += 1
            return
        key = (record.key or b"").decode("utf-8", "replace")
        # A repeated id is the same request: the first one has the position that is served.
        self.positions.setdefault((key, request.id), (partition, request.position))

    def changes(self, system: System, partition: int, records: Iterable[Record]) -> None:
        """What a system itself changed, of one partition."""
        validity = Validity(system=system, salt=salt(self.migration, ROUTE_SALT))
        for record in records:
            if validity.feed(record) != "data" or is_mark(record.key):
                continue
            try:
                change = wire.parse_change(record)
            except Poison:
                self.unreadable += 1
                continue
            if change.position is not None and change.answer_status == "ok":
                self.applied[partition, change.position] = system

    def acknowledged_at_ms(self, epoch: int) -> int | None:
        """When the last partition got its marker of `epoch` or of a later one; None while one has none."""
        times = [min((at for e, at in marks if e >= epoch), default=None) for marks in self.marked.values()]
        known = [at for at in times if at is not None]
        return max(known) if known and len(known) == len(times) else None
