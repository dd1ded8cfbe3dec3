"""Reads beside the owner of their key: which way a read goes, and when it is asked for elsewhere. Pure.

Only operations that every living instance of both systems declares read-only; a request that changes state goes to the
owner and nowhere else. Three ways lead elsewhere. An *aligned* read, by operation, is served by the system that the
route names, consistently, and by the owner if that takes too long. A *fallback* read is answered by the other system
from what it holds: because the owner's breaker is not closed, because the owner has not answered for a part of the time
to the deadline, or because the read has waited so long for its key to be handed over.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence

from schemas.base import System, other
from services.router.entry import Course, Entry
from services.router.outcomes import OutcomeBook
from services.router.protection import Protection

YOUNG_MS = 50
"""Requests in flight for less are not looked at: while nothing is wrong all are."""
LOOKED_AT_PER_MS = 50
"""With very many in flight they are looked at less often than at every tick: it must not cost what they need."""
UNALIGNED = frozenset({b"not-held", b"not-read-only", b"not-reached"})
"""Why a system does not answer a read beside the owner: the owner is asked then."""


class Extra:
    """The token of a fallback record beside the dispatch to the owner, which stays what a successor begins with."""

    __slots__ = ("entry",)

    def __init__(self, entry: Entry) -> None:
        self.entry = entry


class Reading:
    """Of one partition."""

    def __init__(self, protection: Protection, book: OutcomeBook) -> None:
        self._protection, self._after = protection, protection.policy.fallback_after
        self._due: dict[int, float] = {}
        """When a read that was turned from one system to the other is due again."""
        self._refused: set[int] = set()
        """Reads that the other system does not serve, and that may not go to their owner yet."""
        self._book = book
        self._look_ms = 0.0

    def looks(self, in_flight: int, now_ms: float) -> bool:
        """Whether it is time to ask what is `due`, of so many."""
        if now_ms < self._look_ms:
            return False
        self._look_ms = now_ms + in_flight / LOOKED_AT_PER_MS
        return True

    def course(self, operation: str, owner: System, reads: Mapping[str, System]) -> Course | None:
        """Which way a request goes (None: to the owner); `reads`: who serves an operation, by the route."""
        protection, named = self._protection, reads.get(operation)
        if operation not in protection.read_only:
            self._book.reads_ignored += named is not None
            return None
        tripped = protection.tripped
        if named is not None and named != owner and named not in tripped:
            return Course.ALIGNED
        return Course.ELSEWHERE if owner in tripped and other(owner) not in tripped else None

    def may_fall_back(self, system: System) -> bool:
        """Whether the other system may be asked in its place."""
        return other(system) not in self._protection.tripped

    def due(self, in_flight: Iterable[Entry], now_ms: float) -> Iterator[Entry]:
        """Reads whose system has had its time; they are in order of dispatch, so that the first young one ends it."""
        read_only = self._protection.read_only
        if not read_only or not (self._after or self._refused):
            return
        for entry in in_flight:
            if now_ms - entry.received_ms < YOUNG_MS:
                return
            if entry.course is not Course.BOTH and entry.request.operation in read_only:
                since = self._due.get(entry.position, entry.received_ms)
                late = self._after and now_ms >= since + self._after * (entry.request.deadline_ms - since)
                if late or entry.position in self._refused:
                    yield entry

    def held_up(
        self, queues: Iterable[Sequence[Entry]], in_flight: Iterable[Entry], now_ms: float
    ) -> list[tuple[Entry, System]]:
        """Reads that have had their time waiting for their key to be handed over, and who holds it up."""
        late = [entry for queue in queues for entry in self.due(queue, now_ms)]
        if not late:
            return []
        holding = {e.key: e.owner for e in in_flight if e.away is not None}
        found = [(entry, holding.get(entry.key)) for entry in late]
        return [(entry, system) for entry, system in found if system is not None and self.may_fall_back(system)]

    def elsewhere(self, entry: Entry, now_ms: float) -> None:
        """The other system alone is asked from now on."""
        entry.course = Course.ELSEWHERE
        self._due[entry.position] = now_ms

    def turned(self, entry: Entry, now_ms: float) -> None:
        """The owner is asked from now on."""
        entry.course = Course.TURNED
        self._due[entry.position] = now_ms
        self._refused.discard(entry.position)

    def refused(self, entry: Entry) -> None:
        """The other system does not serve it: due at every tick until it is turned to its owner."""
        self._refused.add(entry.position)

    def was_refused(self, entry: Entry) -> bool:
        """Whether the other system said so."""
        return entry.position in self._refused

    def left(self, entry: Entry) -> None:
        """It is answered."""
        self._due.pop(entry.position, None)
        self._refused.discard(entry.position)
