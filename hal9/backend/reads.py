"""Reads that a system answers beside the owner of their key. Pure.

A *fallback* read is answered at once from what the store holds, and says how stale that is. An *aligned* one waits
until the store shows every change of its key that was dispatched before it, so that whoever reads sees his own writes;
its router asks the owner if that takes too long. Neither waits for a seal, nor behind requests of its key, and neither
changes anything: an operation that this system does not hold for read-only is refused.
"""

from collections import deque
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field

from hal9.backend.execution import Executed
from hal9.backend.freshness import Freshness
from hal9.backend.handler import Item
from hal9.backend.responses import Response
from hal9.backend.store import NOTHING, Held
from hal9.wire import Dispatched

UNREACHED = Executed("error", "not-reached", None, None)
"""The handler is elsewhere, and was not reached."""


@dataclass(slots=True)
class Read:
    """A read that was dispatched.

    `offset` is where it lies on `dispatched` (None: no commit waits for its response, for its router asks the owner if
    it is lost), `after` the greatest position that its state must show (-1: any). `held` is the state it is answered
    from, as of `at_ms`, and `stale` what that does not show.
    """

    key: bytes
    request: Dispatched
    value: bytes
    offset: int | None
    after: int = -1
    held: Held = field(default_factory=lambda: NOTHING)
    stale: tuple[int, int] = (0, 0)
    at_ms: float = 0.0

    @property
    def item(self) -> Item:
        """What the handler is given."""
        return self.held.state, self.request.operation, self.value

    def refusal(self, read_only: Collection[str]) -> str | None:
        """Why it is not answered: its operation may change the state here, or the key was perhaps never copied here.

        Nor was a state that could not be mapped.
        """
        if self.request.operation not in read_only:
            return "not-read-only"
        return None if self.held.version and not self.held.unmapped else "not-held"


def answer(read: Read, executed: Executed, needs: int, now_ms: float) -> Response:
    """The response to a read; `needs`: the own change that must be read back before it is true."""
    request, held, stale = read.request, read.held, None
    if request.fallback:
        stale = read.stale[0], read.stale[1] + max(0, int(now_ms - read.at_ms))
    role = b"fallback" if request.fallback else b"primary"
    return Response(needs, request, read.key, role, executed, held, held.version, read.offset, stale=stale)


class Reads:
    """Those of one partition that wait: for the replica to be read once, or for a change of their key."""

    def __init__(self, freshness: Freshness, complete: Callable[[], bool]) -> None:
        self._freshness, self._complete = freshness, complete
        self.early: deque[Read] = deque()
        self.waiting: dict[bytes, deque[Read]] = {}

    def __len__(self) -> int:
        return len(self.early) + sum(map(len, self.waiting.values()))

    def add(self, read: Read) -> Iterator[Read]:
        """A read was dispatched; yields it if it can be answered already."""
        if not self._complete():
            self.early.append(read)
            return
        newest = None if read.request.fallback else self._freshness.newest(read.key)
        if newest is None:
            yield read
            return
        read.after = newest
        self.waiting.setdefault(read.key, deque()).append(read)

    def caught_up(self) -> Iterator[Read]:
        """Perhaps the replica was read to where it ended when this incarnation began."""
        while self.early and self._complete():
            yield from self.add(self.early.popleft())

    def applied(self, key: bytes, position: int) -> Iterator[Read]:
        """The store shows what the request at `position` made of `key`, which `freshness` was told."""
        queue = self.waiting.get(key)
        while queue and queue[0].after <= position:
            yield queue.popleft()
        if queue is not None and not queue:
            del self.waiting[key]

    def expire(self, now_ms: float) -> Iterator[Read]:
        """Reads that nobody waits for any more."""
        for queue in (self.early, *list(self.waiting.values())):
            late = [read for read in queue if read.request.deadline_ms <= now_ms]
            for read in late:
                queue.remove(read)
            yield from late
        for key in [key for key, queue in self.waiting.items() if not queue]:
            del self.waiting[key]
        self._freshness.expire(now_ms)
