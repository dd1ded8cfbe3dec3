"""What one incarnation makes of its own change log: versions appended, read back, appended again. Pure.

A version counts once it was read back as valid; what is answered rests on the own changes before it (`sent`, and of
them `verified`). A void record behind a state would be all that compaction keeps of its key: it is appended again.

A deletion is forgotten (a null value, which compaction takes in the end) only when no older state of its key can come
back: if both logs of the system had records of the key, the other system has put the deletion down in its own log, too.
A floor of versions comes first, so that a later life of the key begins above whatever anybody remembers of this one.
"""

from collections import deque
from collections.abc import Callable

from msgspec import Struct
from msgspec.structs import replace

from hal9 import wire
from hal9.backend.execution import Executed
from hal9.backend.store import Held, Kept, Store, envelope, read_change
from hal9.log.effects import Effects, Record, Send
from hal9.log.validity import Validity
from schemas.base import System, other

AT_ONCE = 500
"""Deletions that are forgotten at most per tick."""


class Change(Struct, eq=False, gc=False):
    """An own state record that was sent and not read back: a new version, or (`repair`) the present one again.

    `forgets`: as a null value.
    """

    key: bytes
    held: Held
    repair: bool = False
    forgets: bool = False


class OwnChanges:
    """Of one partition and term. `sent` numbers the versions made here; those up to `verified` were read back."""

    def __init__(
        self,
        log: str,
        partition: int,
        system: System,
        store: Store,
        validity: Validity,
        effects: Effects,
        unique: Callable[[], str],
    ) -> None:
        self._log, self._partition, self._system, self._unique = log, partition, system, unique
        self._store, self._validity, self._effects = store, validity, effects
        self.term = -1
        """Offset of the own claim, once it was read."""
        self.sent = self.verified = 0
        self._floor = self._forgotten = 0
        """The floor that was sent last, and the greatest version that a null value in either log has."""
        self._unique_floor = ""
        self._unconfirmed: deque[Change] = deque()
        self._repairs: dict[bytes, None] = {}
        self._deleted: deque[tuple[float, bytes, int]] = deque()
        self._due: deque[tuple[int, bytes, int]] = deque()
        """Deletions that may be forgotten once `dispatched` is committed up to there."""
        self._awaited: dict[bytes, int] = {}
        """Deletions that the other system has not put down yet: key -> version."""
        self._foreign: dict[bytes, None] = {}
        """Deletions of the other system that are to be put down in the own log, too."""

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
        version, position, epoch = self._store.next_version(before), request.position, request.epoch
        held = Held(version, executed.state, position, epoch, self.sent, None, True, layer=layer)
        held.shared, held.follows = _in_both(before), _gap(before, version)
        self._store.keep(position, Kept(executed.status, executed.error, executed.answer, held.bare(), now_ms))
        self._made(key, held, now_ms)
        self._append(Change(key, held), executed.change, executed.status, executed.error, epoch)
        return held

    def of_layer(self, key: bytes, epoch: int, before: Held, layer: str, now_ms: float) -> Held:
        """A version that says of which layer the key is from now on, and is otherwise the one before."""
        self.sent += 1
        version = self._store.next_version(before)
        held = replace(before, version=version, epoch=epoch, sequence=self.sent, own=True)
        held.offset, held.layer, held.forgotten = None, layer, False
        held.shared, held.agreed, held.follows = _in_both(before), False, _gap(before, version)
        self._made(key, held, now_ms)
        self._append_kept(Change(key, held), epoch, wire.MOVE)
        return held

    def _made(self, key: bytes, held: Held, now_ms: float) -> None:
        self._store.states[key] = held
        self._awaited.pop(key, None)
        if held.state is None:
            self._deleted.append((now_ms, key, held.version))

    # ------------------------------------------------------------------ as read back
    def read(self, record: Record, key: bytes, valid: bool, now_ms: float) -> None:
        """A record of a state, own or a predecessor's, or a void one of anybody. Raises Poison if it is none."""
        if self.term >= 0 and wire.number(record.headers, wire.TERM) == self.term and self._unconfirmed:
            self._confirmed(record, self._unconfirmed.popleft(), valid, now_ms)
        elif valid:
            self._noted(key, record, now_ms)
        elif self._store.held(key).own:
            self._repairs[key] = None

    def _confirmed(self, record: Record, change: Change, valid: bool, now_ms: float) -> None:
        if change.repair:
            if not change.held.own:
                self._put_down(change, valid, now_ms)
            elif valid:
                self._repairs.pop(change.key, None)
                change.held.forgotten = change.held.forgotten or change.forgets
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
        if record.value is None:
            self._forgotten = max(self._forgotten, change.version)
        before = self._store.held(key)
        held = self._store.learn(key, change, found, record.timestamp, now_ms)
        held.own = True
        held.shared = _in_both(before)
        self._store.located(held, record.offset)
        if self._store.held(key) is held:
            self._repairs.pop(key, None)
            held.forgotten = record.value is None
            if held.state is None and not held.forgotten:
                self._deleted.append((now_ms, key, held.version))
        elif record.value is None and held.version == before.version:
            before.forgotten = True

    # ------------------------------------------------------------------ what the replica log says
    def replicated(self, key: bytes, before: Held, held: Held, now_ms: float, *, forgotten: bool) -> None:
        """A version from the replica log: the newest one if the store holds it now instead of `before`.

        `forgotten`: it is a null value.
        """
        if forgotten:
            self._forgotten = max(self._forgotten, held.version)
        if self._store.held(key) is held:
            held.shared = before.shared or before.own
            self._repairs.pop(key, None)
            held.forgotten = forgotten
            if held.absent and held.shared:
                self._foreign[key] = None
            return
        before.forgotten = before.forgotten or (forgotten and held.version == before.version)
        before.shared = before.shared or before.own
        if before.own and before.absent and held.version == before.version:
            before.agreed = True
            if self._awaited.pop(key, None) == held.version:
                self._deleted.append((now_ms, key, held.version))

    def _put_down(self, change: Change, valid: bool, now_ms: float) -> None:
        """A deletion of the other system was read back in the own log; void: it is appended again."""
        key, held = change.key, change.held
        if self._store.held(key) is not held:
            return
        if not valid:
            self._foreign[key] = None
            return
        held.own = held.agreed = True
        self._deleted.append((now_ms, key, held.version))

    # ------------------------------------------------------------------ again
    def repair(self) -> None:
        """Append a state again that a void record lies after: compaction would keep the void one alone.

        And put deletions of the other system down.
        """
        for key in list(self._foreign):
            held = self._store.held(key)
            if held.absent and not held.own:
                self._append_kept(Change(key, held, repair=True), self._newest(held), other(self._system))
        self._foreign.clear()
        for key in list(self._repairs):
            held = self._store.held(key)
            if held.sequence > self.verified:
                continue
            del self._repairs[key]
            if held.own:
                self._append_kept(Change(key, held, repair=True, forgets=held.forgotten), self._newest(held))

    def expire(self, before_ms: float, read: int, committed: int) -> None:
        """Append deletions of that time again, without their answers: nobody can ask for these any more.

        Not before `dispatched`, which was `read` up to there, is `committed` so far: a successor that read the request
        of a forgotten deletion again would execute it again.
        """
        while self._deleted and self._deleted[0][0] <= before_ms:
            _, key, version = self._deleted.popleft()
            self._due.append((read, key, version))
        due: list[tuple[bytes, Held]] = []
        while self._due and self._due[0][0] <= committed and len(due) < AT_ONCE:
            _, key, version = self._due.popleft()
            held = self._store.held(key)
            if held.version != version or not held.own or held.sequence > self.verified:
                continue
            if held.shared and not held.agreed:
                self._awaited[key] = version
            else:
                due.append((key, held))
        self._raise_floor(max([self._forgotten, *(held.version for _, held in due)]))
        for key, held in due:
            self._append_kept(Change(key, held, repair=True, forgets=True), self._newest(held))

    def _raise_floor(self, version: int) -> None:
        """Append a floor, unless there is one as high. Null values of that version come behind it."""
        if version <= max(self._validity.floor, self._floor):
            return
        self._floor = version
        self._store.floor = max(self._store.floor, version)
        self._unique_floor = self._unique_floor or self._unique()
        key, headers = wire.floor_mark(version, self._unique_floor, self.term)
        self._effects.sends.append(Send(self._log, key, b"", headers))

    def _newest(self, held: Held) -> int:
        """The epoch in which a state is appended again: no seal voids it."""
        return max([held.epoch, *self._validity.seals])

    # ------------------------------------------------------------------ sends
    def _append_kept(self, change: Change, epoch: int, origin: str | None = None) -> None:
        """A state that was not made just now, with the answer that is kept of it."""
        kept = self._store.kept.get(change.held.position)
        status, error, answer = (kept.status, kept.error, kept.answer) if kept else (None, None, None)
        value = None if change.forgets else envelope(change.held.state, answer)
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
        of = wire.Change(held.version, position, epoch, origin or self._system, status, error)
        of.layer, of.follows = held.layer, held.follows
        self._unconfirmed.append(change)
        headers = wire.change_headers(of, self._partition, self.term)
        self._effects.sends.append(Send(self._log, change.key, value, headers, change))


def _in_both(before: Held) -> bool:
    """Whether both logs have records of a key once a version that follows `before` lies in the own one."""
    return before.shared or bool(before.version and not before.own)


def _gap(before: Held, version: int) -> int | None:
    """What `follows` says of a version made on `before`."""
    return None if version == before.version + 1 else before.version
