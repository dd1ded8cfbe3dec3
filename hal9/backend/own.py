"""What one incarnation makes of its own change log: versions appended, read back, appended again. Pure.

A version counts once it was read back as valid; what is answered rests on the own changes before it (`sent`, and of
them `verified`). A void record behind a state would be all that compaction keeps of its key: it is appended again.
"""

from collections import deque

from msgspec import Struct
from msgspec.structs import replace

from hal9 import wire
from hal9.backend.execution import Executed
from hal9.backend.store import Held, Kept, Store, envelope, read_change
from hal9.log.effects import Effects, Record, Send
from hal9.log.validity import Validity
from schemas.base import System


class Change(Struct, eq=False, gc=False):
    """An own state record that was sent and not read back: a new version, or (`repair`) the present one again."""

    key: bytes
    held: Held
    repair: bool = False


class OwnChanges:
    """Of one partition and term. `sent` numbers the versions made here; those up to `verified` were read back."""

    def __init__(
        self, log: str, partition: int, system: System, store: Store, validity: Validity, effects: Effects
    ) -> None:
        self._log, self._partition, self._system = log, partition, system
        self._store, self._validity, self._effects = store, validity, effects
        self.term = -1
        """Offset of the own claim, once it was read."""
        self.sent = self.verified = 0
        self._unconfirmed: deque[Change] = deque()
        self._repairs: dict[bytes, None] = {}
        self._deleted: deque[tuple[float, bytes, int]] = deque()

    @property
    def idle(self) -> bool:
        """Whether all that was sent was read back."""
        return not self._unconfirmed

    # ------------------------------------------------------------------ new versions
    def executed(
        self, key: bytes, request: wire.Dispatched, before: Held, executed: Executed, layer: str | None, now_ms: float
    ) -> Held:
        """The version that a request made, which is what the store shows from now on."""
        self.sent += 1
        version, position, epoch = before.version + 1, request.position, request.epoch
        held = Held(version, executed.state, position, epoch, self.sent, None, True, layer=layer)
        self._store.keep(position, Kept(executed.status, executed.error, executed.answer, held.bare(), now_ms))
        self._made(key, held, now_ms)
        self._append(Change(key, held), executed.change, executed.status, executed.error, epoch)
        return held

    def of_layer(self, key: bytes, epoch: int, before: Held, layer: str, now_ms: float) -> Held:
        """A version that says of which layer the key is from now on, and is otherwise the one before."""
        self.sent += 1
        held = replace(before, version=before.version + 1, epoch=epoch, sequence=self.sent, own=True)
        held.offset, held.layer = None, layer
        self._made(key, held, now_ms)
        self._append_kept(Change(key, held), epoch, wire.MOVE)
        return held

    def _made(self, key: bytes, held: Held, now_ms: float) -> None:
        self._store.states[key] = held
        if held.state is None:
            self._deleted.append((now_ms, key, held.version))

    # ------------------------------------------------------------------ as read back
    def read(self, record: Record, key: bytes, valid: bool, now_ms: float) -> None:
        """A record of a state, own or a predecessor's, or a void one of anybody. Raises Poison if it is none."""
        if self.term >= 0 and wire.number(record.headers, wire.TERM) == self.term and self._unconfirmed:
            self._confirmed(record, self._unconfirmed.popleft(), valid)
        elif valid:
            self._noted(key, record, now_ms)
        elif self._store.held(key).own:
            self._repairs[key] = None

    def _confirmed(self, record: Record, change: Change, valid: bool) -> None:
        if change.repair:
            if valid:
                self._repairs.pop(change.key, None)
            else:
                self._repairs[change.key] = None
            return
        if not valid:
            self._effects.restart = "an own change is void: rebuild from the logs"
            return
        self.verified = change.held.sequence
        self._store.located(change.held, record.offset)
        self._repairs.pop(change.key, None)

    def _noted(self, key: bytes, record: Record, now_ms: float) -> None:
        """A valid record of a predecessor."""
        change, found = read_change(record)
        held = self._store.learn(key, change, found, record.timestamp, now_ms)
        held.own = True
        self._store.located(held, record.offset)
        if self._store.held(key) is held:
            self._repairs.pop(key, None)
            if held.state is None and record.value is not None:
                self._deleted.append((now_ms, key, held.version))

    def superseded(self, key: bytes) -> None:
        """The newest version of a key is in the replica log now: nothing is to be appended again here."""
        self._repairs.pop(key, None)

    # ------------------------------------------------------------------ again
    def repair(self) -> None:
        """Append a state again that a void record lies after: compaction would keep the void one alone."""
        for key in list(self._repairs):
            held = self._store.held(key)
            if held.sequence > self.verified:
                continue
            del self._repairs[key]
            if held.own:
                self._append_kept(Change(key, held, repair=True), self._newest(held))

    def expire(self, before_ms: float) -> None:
        """Append deletions of that time again, without their answers: nobody can ask for these any more."""
        while self._deleted and self._deleted[0][0] <= before_ms:
            _, key, version = self._deleted.popleft()
            held = self._store.held(key)
            if held.version == version and held.own and held.sequence <= self.verified:
                self._append_kept(Change(key, held, repair=True), self._newest(held), forget=True)

    def _newest(self, held: Held) -> int:
        """The epoch in which a state is appended again: no seal voids it."""
        return max([held.epoch, *self._validity.seals])

    # ------------------------------------------------------------------ sends
    def _append_kept(self, change: Change, epoch: int, origin: str | None = None, *, forget: bool = False) -> None:
        """A state that was not made just now, with the answer that is kept of it."""
        kept = self._store.kept.get(change.held.position)
        status, error, answer = (kept.status, kept.error, kept.answer) if kept else (None, None, None)
        value = None if forget else envelope(change.held.state, answer)
        self._append(change, value, status, error, epoch, origin)

    def _append(
        self,
        change: Change,
        value: bytes | None,
        status: str | None,
        error: str | None,
        epoch: int,
        origin: str | None = None,
    ) -> None:
        held = change.held
        position = held.position if held.position >= 0 else None
        of = wire.Change(held.version, position, epoch, origin or self._system, status, error, layer=held.layer)
        self._unconfirmed.append(change)
        headers = wire.change_headers(of, self._partition, self.term)
        self._effects.sends.append(Send(self._log, change.key, value, headers, change))
