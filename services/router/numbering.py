"""Positions of requests: offsets of the topic `requests`, counted on when that was deleted and made anew. Pure.

A position is a request for everybody behind the router, for days: in states, in kept answers. A topic made anew begins
at offset 0 again. So each topic, by the id that Kafka gave it, has a base in `dispatched`: position = base + offset.
"""

from hal9.log.effects import EARLIEST, Commit
from schemas.state import Requests

GAP = 1_000_000_000
"""Positions of two topics differ by half of it at least. What a router was superseded with, that nobody knows of, has
positions too; were they given again, it would take the answer to another request for its own."""


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
        self._commit, self._committed_topic = Commit(EARLIEST), ""
        self._next = 0
        self._end: int | None = None

    def __repr__(self) -> str:
        return f"<Numbering {self.topic or 'of a topic'} from {self.base}{'' if self.read_back else ', not read back'}>"

    def start(self, commit: Commit) -> int:
        """What is committed of the topic; from where to read it, as far as that is known yet."""
        self._commit = commit
        self._committed_topic, _, following = commit.metadata.partition(";")
        self._next = int(following) if following.isdecimal() else max(commit.offset, 0)
        self.offset = commit.offset if self._committed_topic in ("", self.topic) else EARLIEST
        return self.offset

    def seen(self, position: int) -> None:
        """A predecessor gave a request this position."""
        self._next = max(self._next, position + 1)

    @property
    def lacks_end(self) -> bool:
        """Whether only the end of the topic can say that a commit, of an older version, is not of it."""
        return bool(self.topic) and not self._committed_topic and self._commit.offset > 0 and self._end is None

    def ended(self, end: int) -> None:
        """The topic ends here."""
        self._end = end

    def decide(self, mark: Requests | None) -> Requests | None:
        """All that predecessors wrote is known, and `mark` is the newest of theirs; the one to be written now, if any.

        Cases: nobody tells topics apart, or the mark is of this one; none was written, and the commit may be of this
        topic: an older version read it; the topic was made anew, and counts on behind all that was dispatched before.
        """
        base = mark.base if mark is not None else 0
        if not self.topic or (mark is not None and mark.topic == self.topic):
            self.base, self.read_back = base, True
            if base and self._committed_topic != self.topic:
                self.offset = EARLIEST  # of an older version, and so of an older topic
            return None
        if mark is not None or self._committed_topic not in ("", self.topic) or self._past_the_end():
            self.base, self.offset, self.anew = self.beyond(max(self._next, base)), EARLIEST, True
        return Requests(topic=self.topic, base=self.base)

    def _past_the_end(self) -> bool:
        return self._end is not None and self._commit.offset > self._end

    @staticmethod
    def beyond(position: int) -> int:
        """Where another topic begins when positions up to there are known; never 0: default ids differ by it too."""
        return ((position + GAP // 2) // GAP + 1) * GAP

    def back(self, mark: Requests | None) -> None:
        """A mark was read back as valid."""
        self.read_back = mark is not None and mark.topic == self.topic

    def commit(self, position: int, following: int) -> Commit:
        """What to commit for `position`, when the requests below `following` were read; what is older needs none."""
        return Commit(max(position - self.base, 0), f"{self.topic};{following}" if self.topic else "")
