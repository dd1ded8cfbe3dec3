"""Responses of native systems that lie on the wrong partition, on their way to the right one. Pure.

A system that lets its client choose the partition (librdkafka's default is not murmur2) answers where nobody waits. The
`position` in a response says where it belongs, so the router that reads it elsewhere sends it there, as it is: once,
for there it is at home. Until that is stored, the response log is not committed past it; a crash repeats it, and the
second copy of a response changes nothing.
"""

from hal9.errors import Poison
from hal9.log.effects import Record, Send


class Moved:
    """One response on its way: the log it was read from, and where it lay."""

    __slots__ = ("log", "offset")

    def __init__(self, log: str, offset: int) -> None:
        self.log, self.offset = log, offset


class Moves:
    """Of one partition."""

    def __init__(self, partitions: int) -> None:
        self._partitions = partitions
        self._under_way: set[Moved] = set()

    def __len__(self) -> int:
        """How many are not known to be stored."""
        return len(self._under_way)

    def move(self, log: str, record: Record, partition: int) -> Send:
        """The send that brings it to `partition`; Poison if there is no such one."""
        if partition >= self._partitions:
            raise Poison("bad-response", f"position on partition {partition} of {self._partitions}")
        moved = Moved(log, record.offset)
        self._under_way.add(moved)
        return Send(log, record.key, record.value, list(record.headers), moved, partition)

    def acked(self, moved: Moved) -> None:
        """It is stored."""
        self._under_way.discard(moved)

    def held(self, log: str, next_offset: int) -> int:
        """What may be committed of `log`."""
        if not self._under_way:
            return next_offset
        return min([next_offset, *(moved.offset for moved in self._under_way if moved.log == log)])
