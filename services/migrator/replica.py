"""One replica log as its migrator knows it: which versions lie there, what is on its way, what is appended again. Pure.

A copy counts once it was read back. A void record behind one would be all that compaction keeps of its key: it is read
where it lies, and appended again.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from hal9 import wire
from hal9.backend.core import REPLICA
from hal9.backend.store import read_change
from hal9.errors import Poison
from hal9.keys import is_mark
from hal9.log.effects import Effects, Record, Send
from hal9.log.validity import Validity
from schemas.base import System, encode, other
from schemas.state import Claim, Seal

_NONE = (0, -1)


@dataclass(slots=True)
class Copied:
    """An own record that was not read back yet: `source` is where its original lies."""

    source: int
    key: bytes
    version: int = 0
    seal: Seal | None = None

    @property
    def is_mark(self) -> bool:
        """Whether it is a seal or a floor of versions: followed from the start of its log, however cold."""
        return is_mark(self.key)


class Replica:
    """The log that `reader` reads: what `source`, the other system, has made, of one partition and term."""

    def __init__(self, reader: System, partition: int, effects: Effects) -> None:
        self.reader, self.source, self.log = reader, other(reader), REPLICA[reader]
        self._partition, self._effects = partition, effects
        self.validity = Validity()
        self.claim = b""
        self.term = -1
        """Offset of the own claim, once it was read."""
        self.unconfirmed: deque[Copied] = deque()
        self.versions: dict[bytes, tuple[int, int]] = {}
        """Key -> (newest version sent or read, where it lies; -1: not read back)."""
        self._repairs: set[bytes] = set()
        self._floor = 0

    def begin(self, unique: str, instance: str) -> None:
        """Claim the log."""
        self.claim = wire.CLAIM + unique.encode()
        self._effects.sends.append(Send(self.log, self.claim, encode(Claim(instance=instance)), []))

    def known(self, key: bytes) -> int:
        """The newest version of a key that lies there or is on its way; 0 if there is none."""
        return self.versions.get(key, _NONE)[0]

    def on_its_way(self, key: bytes) -> bool:
        """Whether the newest version of a key was sent and not read back."""
        return self.versions.get(key, _NONE)[1] < 0

    # ------------------------------------------------------------------ sent
    def copy(self, key: bytes, value: bytes | None, change: wire.Change, source: int) -> None:
        """Append a version that is the newest one from now on."""
        self.versions[key] = (change.version, -1)
        self._change(key, value, change, source)

    def copy_seal(self, key: bytes, seal: Seal, source: int) -> None:
        """Append a seal."""
        headers = [(wire.TERM, wire.decimal(self.term))]
        self._append(encode(seal), headers, Copied(source, key, seal=seal))

    def raise_floor(self, floor: int, source: int) -> None:
        """Append a floor of versions, unless there is one as high: deletions that are forgotten come behind it."""
        if floor <= self.validity.floor:
            return
        if floor <= self._floor:
            # It is on its way, from a later place perhaps: until then a commit must not pass this one either.
            for copied in self.unconfirmed:
                if copied.key.startswith(wire.FLOOR):
                    copied.source = min(copied.source, source)
            return
        self._floor = floor
        key, headers = wire.floor_mark(floor, self.claim.removeprefix(wire.CLAIM).decode(), self.term)
        self._append(b"", headers, Copied(source, key))

    def again(self, records: Sequence[Record], source: int) -> None:
        """Append what was read where it lies, unless there is a newer version by now."""
        for record in records:
            key = record.key or b""
            try:
                change, _ = read_change(record)
            except Poison:
                continue
            if self.versions.get(key) == (change.version, record.offset):
                self._change(key, record.value, change, source)

    def _change(self, key: bytes, value: bytes | None, change: wire.Change, source: int) -> None:
        headers = wire.change_headers(change, self._partition, self.term)
        self._append(value, headers, Copied(source, key, change.version))

    def _append(self, value: bytes | None, headers: list[tuple[str, bytes]], copied: Copied) -> None:
        self.unconfirmed.append(copied)
        self._effects.sends.append(Send(self.log, copied.key, value, headers, copied))

    # ------------------------------------------------------------------ as read back
    def confirmed(self, record: Record) -> Copied | None:
        """What was sent, if the record is an own one: in the newest term it is valid."""
        if not self.unconfirmed or wire.number(record.headers, wire.TERM) != self.term:
            return None
        copied = self.unconfirmed.popleft()
        if not copied.is_mark and copied.version >= self.known(copied.key):
            self._lies(copied.key, copied.version, record)
        return copied

    def noted(self, key: bytes, record: Record, *, valid: bool) -> bool:
        """A predecessor's record, or a void one, of whomever; whether it is the newest version of its key."""
        if not valid:
            if key in self.versions:
                self._repairs.add(key)
            return False
        version = wire.number(record.headers, wire.VERSION) or 0
        if version < self.known(key):
            return False
        self._lies(key, version, record)
        return True

    def _lies(self, key: bytes, version: int, record: Record) -> None:
        self.versions[key] = (version, record.offset)
        self._repairs.discard(key)

    def repair(self) -> None:
        """Read the states that void records lie after: compaction would keep the void ones alone."""
        for key in list(self._repairs):
            offset = self.versions.get(key, _NONE)[1]
            if offset < 0:
                continue  # a newer one is on its way
            self._repairs.discard(key)
            self._effects.scan.append((self.log, offset, offset + 1))
