"""What an incarnation takes over from those before it: where to read on, what is in flight, what was answered. Pure.

`dispatched` is read from the restore point to the own claim: what was validly dispatched or rejected there, and has no
answer, is now this incarnation's to answer. Which has one is found by reading `responses` to its end.
"""

from collections.abc import Mapping, Sequence
from typing import ClassVar, Protocol

from hal9 import wire
from hal9.errors import Poison
from hal9.keys import key_error
from hal9.log.effects import EARLIEST, Commit, Effects, Record
from hal9.log.quarantine import quarantine
from hal9.log.validity import Validity
from schemas.base import other
from services.router import headers
from services.router.admission import status_of
from services.router.entry import Course, Entry
from services.router.handover import Handover
from services.router.identities import Identities, Identity
from services.router.keybook import KeyBook
from services.router.ledger import Ledger
from services.router.load import Load
from services.router.numbering import Numbering


class Partition(Protocol):
    """Whose it is from now on: a core."""

    reads: ClassVar[tuple[str, ...]]
    partition: int
    effects: Effects
    answers_next: int
    in_flight: dict[int, Entry]
    handover: Handover
    ledger: Ledger
    identities: Identities
    load: Load
    keys: KeyBook
    numbering: Numbering
    validity: Validity

    def admit(self, entry: Entry, now_ms: float) -> None:
        """A request that is to be answered by a system, or by its deadline."""
        ...

    def reply(self, entry: Entry, status: str, value: bytes | None, error: str | None, now_ms: float) -> None:
        """Answer a request."""
        ...

    def leave(self, entry: Entry) -> None:
        """Out of the table and of the queue of its key, which may go on."""
        ...

    def serve(self, now_ms: float) -> None:
        """All of it is known."""
        ...


class Succession:
    """Of one partition; it is over when that serves."""

    def __init__(self, partition: Partition) -> None:
        self._of = partition
        self._answers_end = 0
        self._rejections: dict[int, Entry] = {}
        self._layers: dict[bytes, tuple[str, int]] = {}
        """Key -> its layer and layer version, as the newest record that names one has them: never forgotten."""

    # ------------------------------------------------------------------ the commits
    def start(self, committed: Mapping[str, Commit]) -> dict[str, int]:
        """Restore what rides with the commit of `dispatched`; from where to read each log (offsets)."""
        core = self._of
        restore = committed.get("dispatched", Commit(EARLIEST))
        answers, _, saved = restore.metadata.partition(";")
        core.answers_next = int(answers) if answers.isdecimal() else 0
        try:
            core.validity.restore(saved)
        except Poison:
            restore, core.answers_next = Commit(EARLIEST), 0
        if core.validity.marker is not None:
            core.handover.adopt(core.validity.marker)
        positions = {log: committed.get(log, Commit(EARLIEST)).offset for log in core.reads}
        positions["dispatched"] = restore.offset
        positions["requests"] = core.numbering.start(committed)
        return positions

    # ------------------------------------------------------------------ what was dispatched
    def dispatched(self, record: Record, now_ms: float) -> None:
        """A predecessor's record: what it dispatched, this incarnation has in flight."""
        core = self._of
        try:
            found = wire.parse_dispatched(record)
        except Poison as error:
            core.effects.sends.append(quarantine("router", "dispatched", core.partition, record, error, now_ms))
            return
        entry = core.in_flight.get(found.position) or self._entry(found, record, now_ms)
        if found.rejected is not None and entry.rejected is None:
            self._barred(entry, found.rejected)
        if entry.key is not None and entry.known is not None and found.layer is not None:
            core.keys.learn(entry.key, found.layer, found.layer_version)
            self._layers[entry.key] = found.layer, found.layer_version
        if found.fallback and found.primary is not None:
            if entry.owner is not None:
                entry.course = Course.BOTH
                return  # beside the dispatch to the owner, which counts
            entry.epoch, entry.owner, entry.course = found.epoch, other(found.primary), Course.ELSEWHERE
            core.handover.missed(entry)
        else:
            core.handover.release(entry)
            entry.epoch, entry.owner = found.epoch, found.primary
            entry.course = Course.ALIGNED if found.aligned else None
        core.ledger.dispatched(entry, record.offset, now_ms)

    def _entry(self, found: wire.Dispatched, record: Record, now_ms: float) -> Entry:
        core, key = self._of, record.key
        request = wire.Request(
            id=found.id,
            operation=found.operation,
            deadline_ms=found.deadline_ms,
            traceparent=found.traceparent,
            passed_on=headers.of_user(record),
            rejected=found.rejected,
            base=found.base,
        )
        known = core.keys.of(key) if key is not None and key_error(key) is None else None
        entry = Entry(found.position, key, known, request, record.value, now_ms, core.answers_next, found.rejected)
        core.identities.see(Identity(key, found.id, found.base), found.position, now_ms)
        if found.rejected is None:
            core.admit(entry, now_ms)
            core.in_flight[found.position] = entry
        else:
            self._rejections[found.position] = entry
        return entry

    def _barred(self, entry: Entry, rejected: str) -> None:
        """It was dispatched, and then rejected: what was asked could not execute it."""
        core = self._of
        self._settle(entry)
        entry.rejected = rejected
        del core.in_flight[entry.position]
        self._rejections[entry.position] = entry

    def _settle(self, entry: Entry) -> None:
        """It holds nothing any more."""
        self._of.load.drop(entry.value)
        entry.value = None

    # ------------------------------------------------------------------ what was answered
    def end(self, offset: int, now_ms: float) -> None:
        """Where `responses` ended when the claim was read: it is read up to there, then this incarnation serves."""
        if offset <= self._of.answers_next:
            self._serve(now_ms)
        else:
            self._answers_end = offset
            self._of.effects.scan.append(("responses", self._of.answers_next, offset))

    def scanned(self, records: Sequence[Record], next_offset: int, now_ms: float) -> None:
        """Answers that predecessors gave."""
        for record in records:
            name = wire.text(record.headers, wire.ID)
            if name is not None:
                told = [h for h in record.headers if h[0] not in (wire.ID, wire.BASE)]
                identity = Identity(record.key, name, wire.number(record.headers, wire.BASE) or 0)
                self._of.identities.answer(identity, told, record.value, now_ms)
        self._of.answers_next = max(self._of.answers_next, next_offset)
        if next_offset >= self._answers_end:
            self._serve(now_ms)

    def _serve(self, now_ms: float) -> None:
        """In flight is what was validly dispatched and has no answer."""
        core = self._of
        for entry in list(core.in_flight.values()):
            if self._answered(entry):
                self._settle(entry)
                entry.answered = True
                core.leave(entry)
        for entry in self._rejections.values():
            if self._answered(entry):
                entry.answered = True
            else:
                core.reply(entry, status_of(entry.rejected), None, entry.rejected, now_ms)
        self._rejections.clear()
        self._learn()
        core.handover.taken_over(core.in_flight.values())
        core.serve(now_ms)

    def _learn(self) -> None:
        """Every request in flight knows the layer of its key, whichever record named it.

        The key book may have forgotten it since: then a later request of the key would go to flat, past one that is
        in flight at hierarchical.
        """
        core = self._of
        for key, (layer, version) in self._layers.items():
            core.keys.learn(key, layer, version)
        for entry in core.in_flight.values():
            if entry.key in self._layers:
                entry.known = core.keys.of(entry.key)

    def _answered(self, entry: Entry) -> bool:
        known = self._of.identities.first(Identity(entry.key, entry.request.id, entry.request.base))
        return known is not None and known.told is not None
