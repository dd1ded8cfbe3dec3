"""Positions of requests: offsets of the topic `requests`, counted on when that was deleted and made anew. Pure.

A position is a request for everybody behind the router, for days: in states, in kept answers. A topic made anew begins
at offset 0 again. So each topic, by the id that Kafka gave it, has a base in `dispatched`: position = base + offset.
"""

from collections.abc import Mapping

from hal9.log.effects import EARLIEST, Commit
from schemas.state import Requests

GAP = 1_000_000_000_000
"""From base to base: more than a partition ever holds. The next free position will not do. A router that was superseded
gave positions that nobody knows of; were they given again, it would take another request's answer for its own."""


class Numbering:
    """Of one partition, as one incarnation finds it and leaves it."""

    def __init__(self) -> None:
        self.topic = ""
        """Id of the topic; empty: nobody told."""
        self.base = 0
        self.read_back = False
        """The base is in `dispatched` for good: before that nothing of the topic is read."""
        self.anew = False
        """The topic is not the one that a predecessor read."""
        self.offset = EARLIEST
        """From where to read the topic."""
        self._of: str | None = None
        self._vanished = False

    def __repr__(self) -> str:
        return f"<Numbering {self.topic or 'of a topic'} from {self.base}{'' if self.read_back else ', not read back'}>"

    def start(self, committed: Mapping[str, Commit]) -> int:
        """From where to read the topic if it is the one that was committed, which `decide` knows."""
        commit = committed.get("requests")
        # The broker forgets what was committed of a topic that is deleted.
        self._vanished = commit is None and "dispatched" in committed
        self._of = commit.metadata if commit is not None else None
        if commit is not None:
            self.offset = commit.offset
        return self.offset

    def decide(self, mark: Requests | None) -> Requests | None:
        """All that predecessors wrote is known, and `mark` is the newest of theirs; the one to be written now, if any.

        Cases: nobody tells topics apart, or the mark is of this one; none was written, and the commit may be of this
        topic: an older version read it; the topic was made anew.
        """
        base = mark.base if mark is not None else 0
        if base and self._of != self.topic:
            self.offset = EARLIEST  # an older topic's; no name: an older version's
        if not self.topic or (mark is not None and mark.topic == self.topic):
            self.base, self.read_back = base, True
            return None
        if mark is not None or self._vanished or self._of not in (None, "", self.topic):
            self.base, self.offset, self.anew = base + GAP, EARLIEST, True
        return Requests(topic=self.topic, base=self.base)

    def back(self, mark: Requests | None) -> None:
        """A mark was read back as valid."""
        self.read_back = mark is not None and mark.topic == self.topic

    def commit(self, position: int) -> Commit:
        """What to commit for `position`; of what is older than the topic a successor reads in `dispatched`."""
        return Commit(max(position - self.base, 0), self.topic)
