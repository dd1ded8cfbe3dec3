"""How a writer reads a log that it claims: its own records come back at their acknowledgement, or by reading the log.

If an acknowledged offset is the next one expected, nobody wrote between, and what was sent is what would be read: it is
handed over without a fetch. Otherwise somebody did (a forced seal, another claim), and everything up to the own record
is read from the log, once and in order. A tail that does not move learns nothing that way, so now and then somebody
must look whether the log has grown behind it (`still`, `until`): what a zombie leaves there must not stay. Pure.
"""

from enum import Enum


class Acked(Enum):
    """What an acknowledgement means for the reading."""

    NEXT = "hand the sends over: they are the next records of the log"
    KNOWN = "they were read from the log already"
    GAP = "read the log up to them"
    UNKNOWN = "ask for the end of the log and read up to there"


class Tail:
    """Position in one claimed log of one incarnation.

    Attributes:
        position: the next offset to be handed over.
        reading: the log itself is being read, up to `target` (None: that is not known yet).
    """

    __slots__ = ("_seen", "position", "reading", "target")

    def __init__(self, start: int) -> None:
        # From the start on until the first own record, the claim, is acknowledged and read.
        self.position, self.reading = start, True
        self.target: int | None = None
        self._seen = -1

    def __repr__(self) -> str:
        state = f", reading up to {self.target}" if self.reading else ""
        return f"<Tail at {self.position}{state}>"

    def acked(self, offset: int, count: int) -> Acked:
        """`count` own records are stored from `offset` on; -1 if it is not known where."""
        if offset < 0:
            self.reading, self.target = True, None
            return Acked.UNKNOWN
        end = offset + count
        if not self.reading and offset == self.position:
            self.position = end
            return Acked.NEXT
        if end <= self.position:
            self._arrive(end)
            return Acked.KNOWN
        self.until(end)
        return Acked.GAP

    def until(self, end: int) -> None:
        """Read at least up to `end`."""
        self.reading, self.target = True, max(end, self.target or 0)
        self._arrive(end)

    def still(self) -> bool:
        """Whether it rests where it rested when this was asked last, so that nothing is known of who else wrote."""
        still = not self.reading and self.position == self._seen
        self._seen = self.position
        return still

    def read(self, position: int) -> None:
        """The log was handed over up to `position`."""
        self.position = max(self.position, position)
        if self.target is not None:
            self._arrive(self.target)

    def _arrive(self, end: int) -> None:
        """The last own record that is known of lies before `end`: read so far, the log needs no reading."""
        self.target = max(end, self.target or 0)
        if self.position >= self.target:
            self.reading, self.target = False, None
