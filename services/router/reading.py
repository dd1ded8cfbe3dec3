"""Reads beside the owner of their key: which way a read goes, and when it is asked for elsewhere. Pure.

Only operations that every living instance of both systems declares read-only; a request that changes state goes to the
owner and nowhere else. Three ways lead elsewhere. An *aligned* read, by operation, is served by the system that the
route names, consistently, and by the owner if that takes too long. A *fallback* read is answered by the other system
from what it holds: because the owner's breaker is not closed, because the owner has not answered for a part of the time
to the deadline, or because the read has waited so long for its key to be handed over.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Protocol

from hal9 import wire
from hal9.log.effects import Effects, Headers, Record, Send
from schemas.base import System, other
from services.router import headers
from services.router.comparison import Comparer, Report
from services.router.config import RouterConfig
from services.router.entry import Course, Entry
from services.router.handover import Handover
from services.router.keybook import Key
from services.router.passed import Passed
from services.router.returned import Returned

YOUNG_MS = 50
"""Requests in flight for less are not looked at, whatever their deadline."""
LOOKED_AT_PER_MS = 50
"""With very many in flight they are looked at less often than at every tick: it must not cost what they need."""
LONGEST_MS = float(wire.MAX_AHEAD_MS)
"""Time to its deadline that a request has at most, if clocks are right."""
UNALIGNED = frozenset({b"not-held", b"not-read-only", b"not-reached"})
"""Why a system does not answer a read beside the owner: the owner is asked then."""


class Partition(Protocol):
    """What they share with the requests that go to their owner: a core."""

    partition: int
    config: RouterConfig
    effects: Effects
    term: int
    in_flight: dict[int, Entry]
    queues: dict[bytes, list[Entry]]
    positions: dict[str, int]
    handover: Handover
    comparer: Comparer
    passed: Passed
    returned: Returned

    def pump(self, key: bytes) -> None:
        """Dispatch what waits for `key`, if it may be."""
        ...

    def unqueue(self, entry: Entry, key: bytes) -> None:
        """Out of the queue of its key."""
        ...

    def reply(
        self, entry: Entry, status: str, value: bytes | None, error: str | None, now_ms: float, beside: Headers = ()
    ) -> None:
        """Answer a request; `beside` are headers beside those of every answer."""
        ...

    def report(self, divergences: Iterable[Report]) -> None:
        """Write down what two answers differ in."""
        ...


class Extra:
    """The token of a fallback record beside the dispatch to the owner, which stays what a successor begins with."""

    __slots__ = ("entry",)

    def __init__(self, entry: Entry) -> None:
        self.entry = entry


class Reading:
    """Of one partition."""

    def __init__(self, partition: Partition) -> None:
        self._of, self._book = partition, partition.config.book
        self._protection = partition.config.protection
        self._after = self._protection.policy.fallback_after
        self._due: dict[int, float] = {}
        """When a read that was turned from one system to the other is due again."""
        self._refused: set[int] = set()
        """Reads that the other system does not serve: due at every tick until they may go to their owner."""
        self._look_ms = 0.0
        self.shortest_ms = LONGEST_MS
        """The shortest time to its deadline that a request of this minute was taken in with; 0: see `unordered`.
        Nothing is late before `fallback_after` of it. The minute before counts, too; what came earlier has longer, or
        is over."""
        self._shortest_before, self._until_ms = LONGEST_MS, 0.0

    def came(self, left_ms: float) -> None:
        """A request was taken in that has so long to its deadline."""
        self.shortest_ms = min(self.shortest_ms, left_ms)

    def unordered(self) -> None:
        """A request goes into the table behind later ones: for a minute or two its age says nothing of theirs."""
        self.shortest_ms = 0.0

    # ------------------------------------------------------------------ which way a request goes at first
    def elsewhere(self, entry: Entry, known: Key, owner: System) -> bool:
        """Whether a request is a read that goes to the other system."""
        course = self._course(entry.request.operation, owner)
        if course is None:
            return False
        entry.course = course
        if course is Course.ALIGNED:
            entry.owner = other(owner)
        self._ask(entry, known, other(owner), wire.ALIGNED if course is Course.ALIGNED else wire.FALLBACK)
        return True

    def _course(self, operation: str, owner: System) -> Course | None:
        """None: to the owner, as every request that is no read."""
        protection, named = self._protection, self._of.handover.route.reads.get(operation)
        if operation not in protection.read_only:
            self._book.reads_ignored += named is not None
            return None
        tripped = protection.tripped
        if named is not None and named != owner and named not in tripped:
            return Course.ALIGNED
        return Course.ELSEWHERE if owner in tripped and other(owner) not in tripped else None

    def _may_fall_back(self, system: System) -> bool:
        """Whether the other system may be asked in its place."""
        return other(system) not in self._protection.tripped

    def _ask(self, entry: Entry, known: Key, system: System, mark: str | None, token: object = None) -> None:
        core = self._of
        core.in_flight[entry.position] = entry
        entry.sending += 1
        core.passed.sent()
        after_seal = core.handover.after_seal(known)
        written = headers.of_read(entry, known, system, core.partition, after_seal, core.term, mark)
        core.effects.sends.append(Send("dispatched", entry.key, entry.value, written, token or entry))

    # ------------------------------------------------------------------ reads that have had their time
    def tick(self, in_flight: int, now_ms: float) -> None:
        """Ask elsewhere for the reads that are due, if it is time to look for them among so many."""
        if now_ms >= self._until_ms:
            self._shortest_before, self.shortest_ms = self.shortest_ms, LONGEST_MS
            self._until_ms = now_ms + LONGEST_MS
        if not self.looks(in_flight, now_ms):
            return
        for entry in list(self._late(self._of.in_flight.values(), now_ms)):
            self._turn(entry, now_ms)
        if self._of.queues:
            for entry, system in self._held_up(now_ms):
                self._ask_beside(entry, system, now_ms)

    def looks(self, in_flight: int, now_ms: float) -> bool:
        """Whether it is time to look for reads that are due."""
        if now_ms < self._look_ms:
            return False
        self._look_ms = now_ms + in_flight / LOOKED_AT_PER_MS
        return True

    def _late(self, in_flight: Iterable[Entry], now_ms: float) -> Iterator[Entry]:
        """Reads whose system has had its time.

        Requests stand in the order in which they came, so the first young one ends it; if they do not (`unordered`),
        none is young that came `YOUNG_MS` ago.
        """
        read_only = self._protection.read_only
        if not read_only or not (self._after or self._refused):
            return
        young_ms: float = YOUNG_MS
        if not self._refused:
            young_ms = max(young_ms, self._after * min(self.shortest_ms, self._shortest_before))
        for entry in in_flight:
            if now_ms - entry.received_ms < young_ms:
                return
            if entry.course is not Course.BOTH and entry.request.operation in read_only:
                since = self._due.get(entry.position, entry.received_ms)
                late = self._after and now_ms >= since + self._after * (entry.request.deadline_ms - since)
                if late or entry.position in self._refused:
                    yield entry

    def _held_up(self, now_ms: float) -> list[tuple[Entry, System]]:
        """Reads that have had their time waiting for their key to be handed over, and who holds it up."""
        late = [entry for queue in self._of.queues.values() for entry in self._late(queue, now_ms)]
        if not late:
            return []
        holding = {e.key: e.owner for e in self._of.in_flight.values() if e.away is not None}
        found = [(entry, holding.get(entry.key)) for entry in late]
        return [(entry, system) for entry, system in found if system is not None and self._may_fall_back(system)]

    def _turn(self, entry: Entry, now_ms: float) -> None:
        """A read was not answered for a part of its time: another system is asked, too or instead."""
        known, asked = entry.known, entry.owner
        if known is None or asked is None:
            return
        if entry.course in (Course.ALIGNED, Course.ELSEWHERE):
            if not self._freed(entry):
                return
            if entry.position not in self._refused:
                missed = asked if entry.course is Course.ALIGNED else other(asked)
                self._book.answered(missed, entry.epoch, "timeout", now_ms - entry.received_ms, now_ms)
            self._ask_owner(entry, known, now_ms)
        elif self._may_fall_back(asked):
            entry.course = Course.BOTH
            self._ask(entry, known, other(asked), wire.FALLBACK, Extra(entry))

    def _ask_beside(self, entry: Entry, system: System, now_ms: float) -> None:
        """A read that waits for its key, which `system` holds up, is asked for at the other system meanwhile."""
        if entry.known is None or entry.key is None:
            return
        self._of.unqueue(entry, entry.key)
        self.unordered()
        entry.course, self._due[entry.position] = Course.ELSEWHERE, now_ms
        entry.epoch, entry.owner = self._of.handover.epoch, system
        entry.primary = entry.shadowed = entry.shadow = None
        self._ask(entry, entry.known, other(system), wire.FALLBACK)

    def _ask_owner(self, entry: Entry, known: Key, now_ms: float) -> None:
        entry.course, self._due[entry.position] = Course.TURNED, now_ms
        self._refused.discard(entry.position)
        entry.epoch, entry.owner = self._of.handover.epoch, self._of.handover.owner(known)
        self._ask(entry, known, entry.owner, None)

    def _freed(self, entry: Entry) -> bool:
        """Whether a read may go to its owner: nothing of its key before it waits, or waited at a predecessor."""
        core = self._of
        core.handover.release(entry)
        if entry.key is None:
            return True
        core.pump(entry.key)
        return not core.handover.holds(entry.key) and entry.position < core.positions["requests"]

    def settled(self, taken: Sequence[Entry]) -> list[Entry]:
        """Of requests that settled without an answer, those that may be dispatched again: the others stay in flight.

        Before a read that a predecessor asked for elsewhere lie requests that may not have been read again yet.
        """
        read = self._of.positions["requests"]
        early = [entry for entry in taken if entry.course is Course.ELSEWHERE and entry.position >= read]
        for entry in early:
            self.unordered()
            self._of.in_flight[entry.position] = entry
            self._refused.add(entry.position)
        return [entry for entry in taken if entry not in early]

    # ------------------------------------------------------------------ what the system asked says
    def left(self, entry: Entry) -> None:
        """It is answered, or dispatched anew."""
        self._due.pop(entry.position, None)
        self._refused.discard(entry.position)

    def unaligned(self, system: System, entry: Entry, response: wire.Response, record: Record, now_ms: float) -> bool:
        """Whether the system asked first does not serve an aligned read: the owner is asked at once.

        If that system is the owner by now (the layer of the key was learnt), the refusal says nothing of what it owes.
        """
        if response.error not in UNALIGNED or entry.known is None:
            return False
        if entry.course is Course.ALIGNED:
            self._unserved(entry, entry.known, system, record.offset, now_ms)
            return True
        return wire.header(record.headers, wire.ALIGNED) is not None

    def answered(self, system: System, record: Record, response: wire.Response, now_ms: float) -> None:
        """The other system answered a read from what it holds; an error counts only if nothing is missing there."""
        entry = self._of.in_flight.get(response.position)
        if entry is None or entry.owner != other(system) or entry.course not in (Course.BOTH, Course.ELSEWHERE):
            return
        current = wire.number(record.headers, wire.STALE_VERSIONS) == 0
        if response.status != "ok" and (not current or response.error in UNALIGNED):
            if entry.course is Course.ELSEWHERE and entry.known is not None:
                self._unserved(entry, entry.known, system, record.offset, now_ms)
            return
        self._of.report(self._of.comparer.abandon(entry, now_ms))
        asked = entry.owner if entry.course is Course.BOTH else None
        self._book.fell_back(system, asked, entry.epoch, now_ms - entry.received_ms, now_ms)
        entry.course, entry.owner, entry.response_offset = Course.FELL_BACK, system, record.offset
        code = response.error.decode("utf-8", "replace") if response.error is not None else None
        self._of.reply(entry, response.status, record.value, code, now_ms, headers.of_fallback(record))

    def _unserved(self, entry: Entry, known: Key, system: System, offset: int, now_ms: float) -> None:
        """`system` said at `offset` that it does not serve a read: the owner is asked as soon as it may be."""
        self._of.returned.add(entry, system, offset)
        if self._freed(entry):
            self._ask_owner(entry, known, now_ms)
        else:
            self._refused.add(entry.position)
