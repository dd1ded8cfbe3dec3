"""Requests that no system executes: repeats, those on the wrong partition, rejections, quarantined ones. Pure."""

from typing import Protocol

from hal9 import wire
from hal9.keys import MAX_KEY_BYTES, is_mark, key_error
from hal9.log.effects import Effects, Record, Send
from hal9.log.quarantine import QUARANTINED
from schemas.base import System
from services.router import headers
from services.router.config import RouterConfig
from services.router.entry import Entry
from services.router.handover import Handover
from services.router.identities import Known
from services.router.keybook import Key, KeyBook
from services.router.ledger import Ledger
from services.router.load import Load
from services.router.passed import Passed
from services.router.returned import Returned


def status_of(rejected: str | None) -> str:
    """The status of the answer to a request that was rejected with this code."""
    return "error" if rejected == QUARANTINED else "rejected"


class Partition(Protocol):
    """What they share with the requests that are admitted: a core."""

    partition: int
    config: RouterConfig
    effects: Effects
    term: int
    handover: Handover
    ledger: Ledger
    load: Load
    keys: KeyBook
    passed: Passed
    returned: Returned

    def leave(self, entry: Entry) -> None:
        """Out of the table and of the queue of its key, which may go on."""
        ...


class Admission:
    """Of one partition."""

    def __init__(self, partition: Partition) -> None:
        self._of = partition

    def unseen(self, key: bytes | None, request: wire.Request) -> tuple[bytes | None, Key | None]:
        """A key that was not asked for lately; None for one that is no neuron id."""
        if key is not None and key_error(key) is None:
            return key, self._of.keys.of(key)
        request.rejected = "bad-key"
        # Nobody writes a mark for a user; and out of a compressed batch comes a key that fits into no log.
        return (None if not key or is_mark(key) or len(key) > MAX_KEY_BYTES else key), None

    def refuse_if_crowded(self, entry: Entry) -> None:
        """A request for which there is no room is to be rejected."""
        cause = self._of.load.refuses(entry.key)
        if cause is not None:
            entry.rejected = entry.request.rejected = "overload"
            self._of.config.book.refused(cause)

    def repeat(self, entry: Entry, first: Known, now_ms: float) -> None:
        """One id is one request: a repeat gets the answer of the first, now or when it is there."""
        if first.told is None:
            return
        core = self._of
        core.ledger.read(entry)
        entry.answered, entry.value = True, None
        core.ledger.unacked[entry.position] = entry
        core.load.bytes += len(first.value or b"")
        told, value = first.told, first.value
        if first.gone:
            told, value = headers.of_answer(entry, "timeout", "answer-gone"), None
        written = headers.identified(entry.request, told)
        core.effects.sends.append(Send("responses", entry.key, value, written, entry))
        core.ledger.forget(now_ms)

    def move(self, entry: Entry, partition: int, record: Record) -> None:
        """A request on the wrong partition goes to the right one, its id and deadline fixed first."""
        core = self._of
        core.ledger.read(entry)
        entry.answered = True
        core.ledger.unacked[entry.position] = entry
        core.load.bytes += len(entry.value or b"")
        moved = [*headers.of_user(record), *headers.fixed(entry.request)]
        core.effects.sends.append(Send("requests", entry.key, entry.value, moved, entry, partition))

    def bar(self, entry: Entry, system: System, offset: int) -> None:
        """`system` said at `offset` that the key is quarantined there: nobody executes the request from now on.

        As with every rejection a record says so first. The response alone would not do: a router that was superseded
        would forward it, while its successor asks the system that owns the key by then.
        """
        core = self._of
        core.returned.add(entry, system, offset)
        core.load.drop(entry.value)
        entry.rejected = QUARANTINED
        self.reject(entry)  # before what waits for the key: a successor that finds that must find this
        core.leave(entry)

    def reject(self, entry: Entry) -> None:
        """A rejection is first a record in `dispatched`, so that no successor dispatches what was rejected."""
        core = self._of
        entry.value = None
        core.load.rejecting += 1
        entry.sending += 1
        core.passed.sent()
        written = headers.of_rejection(entry, core.partition, core.handover.epoch, core.term)
        core.effects.sends.append(Send("dispatched", entry.key, None, written, entry))
