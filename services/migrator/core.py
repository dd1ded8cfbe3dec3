"""The migrator of one partition: copies both change logs into the other system's replica log, then the seals. Pure.

Guarantees (DESIGN section 7): a valid change is copied with its version, position, answer and epoch; a seal is copied
after everything before it, the cold neurons of the buckets that move with it included; a missing seal is forced;
`settled` is said when both seals were read back from the replica logs. The rules are those of `Migrator` in the model.
"""

from collections import Counter, deque
from collections.abc import Mapping, Sequence
from typing import ClassVar

from hal9 import wire
from hal9.backend.core import CHANGES, REPLICA
from hal9.backend.store import envelope, read_change
from hal9.control.reducer import ROUTE_SALT, ControlState, salt
from hal9.control.route import Route
from hal9.errors import Poison
from hal9.keys import bucket_of
from hal9.log.effects import EARLIEST, Commit, Effects, Record, Send
from hal9.log.quarantine import quarantine
from hal9.log.validity import Validity
from hal9.stats.tokens import TokenBucket
from schemas.base import FLAT, HIERARCHICAL, SYSTEMS, System, encode, other
from schemas.state import RouteMark, Seal
from schemas.telemetry import HandOver
from services.migrator.backfill import Backfill
from services.migrator.config import MigratorConfig
from services.migrator.handovers import HandOvers
from services.migrator.replica import Copied, Replica
from services.migrator.translation import Translation
from services.migrator.unmapped import Unmapped

SOURCE: dict[str, System] = {log: system for system, log in CHANGES.items()}
COPY: dict[str, System] = {log: system for system, log in REPLICA.items()}


class MigratorCore:
    """One partition, one incarnation; see `hal9.log.effects.PartitionCore` for the calls.

    `dead` is set by the shell: the systems of which no instance has a heartbeat.
    """

    reads: ClassVar[tuple[str, ...]] = (*CHANGES.values(), *REPLICA.values(), "dispatched")
    claimed: ClassVar[tuple[str, ...]] = tuple(REPLICA.values())

    def __init__(self, partition: int, config: MigratorConfig) -> None:
        self.partition, self.config = partition, config
        self.effects = Effects()
        self.dead: frozenset[System] = frozenset()
        self.phase = "claim"
        """claim: reading both replica logs to the own claims; serve."""
        self.copied = dict.fromkeys(SYSTEMS, 0)
        self.failed: Counter[str] = Counter()
        """By reason; taken and set to zero by the shell."""
        self.unmapped, self.translation = Unmapped(partition, config), Translation(config)
        tokens = TokenBucket(config.backfill_rate, config.backfill_burst)
        self.backfill = Backfill(config.migration, tokens, self._scan_source, config.backfill_slice)
        self._salt = salt(config.migration, ROUTE_SALT)
        self._validity = {s: Validity(system=s, salt=self._salt) for s in SYSTEMS}
        self._replicas = {s: Replica(s, partition, self.effects) for s in SYSTEMS}
        self._dispatch_validity = Validity()
        self._next = dict.fromkeys(self.reads, 0)
        self._held: dict[System, deque[Record]] = {s: deque() for s in SYSTEMS}
        """Source records that wait: for the end of the log to be known, or behind a seal for the backfill."""
        self._control: ControlState | None = None
        self.handovers = HandOvers(partition, config)

    def __repr__(self) -> str:
        unread = sum(len(replica.unconfirmed) for replica in self._replicas.values())
        return (
            f"<MigratorCore {self.partition} {self.phase}, copied {self.copied}, {unread} not read back, "
            f"backfilled {self.backfill.done}/{self.backfill.target}, {self.handovers!r}>"
        )

    # ------------------------------------------------------------------ taking over
    def start(self, committed: Mapping[str, Commit], now_ms: float) -> Mapping[str, int]:  # noqa: ARG002
        """Claim both replica logs and read each to its claim; sources and `dispatched` from the commit."""
        positions = dict.fromkeys(self.reads, EARLIEST)
        for system, log in CHANGES.items():
            commit = committed.get(log)
            if commit is not None and self._restored(system, commit.metadata):
                positions[log] = commit.offset
        if self.backfill.until is None:
            self.effects.ask_end.append(CHANGES[FLAT])
        commit = committed.get("dispatched")
        if commit is not None:
            try:
                self._dispatch_validity.restore(commit.metadata)
                positions["dispatched"] = commit.offset
            except Poison:
                positions["dispatched"] = EARLIEST
        self._next = {log: max(offset, 0) for log, offset in positions.items()}
        for replica in self._replicas.values():
            replica.begin(self.config.unique(), self.config.instance)
        return positions

    def _restored(self, system: System, metadata: str) -> bool:
        until, _, rest = metadata.partition(";")
        done, _, saved = rest.partition(";")
        try:
            self._validity[system].restore(saved)
        except Poison:
            return False
        if system == FLAT:
            if not until.isdecimal() or not done.isdecimal():
                return False
            self.backfill.until, self.backfill.done = int(until), int(done)
        return True

    def wants(self, log: str) -> bool:
        """Once it serves; a source not while its records are held."""
        return self.phase == "serve" and not (log in SOURCE and self._held[SOURCE[log]])

    def read(self, log: str, records: Sequence[Record], now_ms: float) -> None:
        """Records of one log, in order; then whatever became possible is done."""
        if not records:
            return
        if log in SOURCE:
            self._held[SOURCE[log]].extend(records)
            self._copy_held(SOURCE[log], now_ms)
        elif log in COPY:
            for record in records:
                self._read_back(self._replicas[COPY[log]], record)
        else:
            for record in records:
                self._dispatched(record, now_ms)
        if log not in SOURCE:
            self._next[log] = records[-1].offset + 1
        self._proceed(now_ms)

    def end(self, log: str, offset: int, now_ms: float) -> None:  # noqa: ARG002
        """The end of flat's change log: from here on everything is followed, what lies before is backfilled."""
        self.backfill.until = offset
        self._proceed(now_ms)

    @property
    def awaits(self) -> str | None:
        """Whom it waits for, if it can do nothing itself: a watchdog asks."""
        return "the backfill" if self.phase == "serve" and self._held[FLAT] else None

    # ------------------------------------------------------------------ the replica logs, as read back
    def _read_back(self, replica: Replica, record: Record) -> None:
        kind = replica.validity.feed(record)
        if kind == "claim":
            if record.key == replica.claim:
                replica.term = record.offset
                if all(each.term >= 0 for each in self._replicas.values()):
                    self.phase = "serve"
            elif replica.term >= 0:
                self.effects.restart = "another migrator claimed the partition"
        if kind == "claim" or record.key is None:
            return
        copied = replica.confirmed(record)
        if copied is None:
            self._noted(replica, record, record.key, kind)
        elif copied.seal is not None:
            self.handovers.read_back(replica.source, copied.seal)

    def _noted(self, replica: Replica, record: Record, key: bytes, kind: str) -> None:
        """A predecessor's record: which seals and versions the replica has, and what a void record hides."""
        seal, source = replica.validity.seal, replica.source
        if kind == "seal" and seal is not None:
            self.handovers.read_back(source, seal)
        elif replica.noted(key, record, valid=kind == "data"):
            self.unmapped.noted(source, key, wire.text(record.headers, wire.UNMAPPED))
            self._learn(replica, key, record)

    def _learn(self, replica: Replica, key: bytes, record: Record) -> None:
        """What a predecessor's copy says of the layers of a key; its readers quarantine one that cannot be read."""
        try:
            change, found = read_change(record)
        except Poison:
            return
        self.translation.owned(key, change.layer, change)
        if replica.reader == HIERARCHICAL:
            self.translation.placed(key, found.state, change)
        if record.value is None:
            self.translation.forget(key, change.version)

    # ------------------------------------------------------------------ copying
    def _copy_held(self, system: System, now_ms: float) -> None:
        """Copy what was read of a change log, up to a seal that must wait."""
        held = self._held[system]
        while held and self.phase == "serve" and (system != FLAT or self.backfill.until is not None):
            record = held[0]
            seal = self._peeked(system, record)
            if seal is not None and not self._may_seal(system, seal.route):
                self.handovers.stages.sealed(system, seal.route.epoch, now_ms)
                return
            held.popleft()
            kind = self._validity[system].feed(record)
            self._next[CHANGES[system]] = record.offset + 1
            sealed = self._validity[system].seal
            if kind == "seal" and sealed is not None:
                self.handovers.stages.sealed(system, sealed.route.epoch, now_ms)
                self._copy_seal(system, record.offset, sealed)
            elif kind == "floor":
                self._replicas[other(system)].raise_floor(self._validity[system].floor, record.offset)
            elif kind == "data" and not self._cold(system, record):
                self._copy(system, record, now_ms)

    def _peeked(self, system: System, record: Record) -> Seal | None:
        if record.key is None or not record.key.startswith(wire.SEAL):
            return None
        probe = Validity()
        headers = [(wire.TERM, b"0")]
        send = Send("", record.key, record.value, headers)
        return probe.seal if probe.feed(send) == "seal" and system == FLAT else None

    def _may_seal(self, system: System, route: RouteMark) -> bool:
        """Flat's seal is copied when all that moves away from flat with it is in the replica, or on its way there."""
        if system != FLAT:
            return True
        reach = Route.of(route).reach(self.handovers.route_before(), self._salt)
        if self.backfill.covers(reach):
            return True
        self.backfill.want(reach)
        return False

    def _cold(self, system: System, record: Record) -> bool:
        """Written before the migrator began to follow: left to the backfill."""
        return system == FLAT and record.offset < (self.backfill.until or 0)

    def _copy(self, system: System, record: Record, now_ms: float) -> bool:
        """Copy one valid change, if the replica has not got it; whether it was sent."""
        key, replica = record.key or b"", self._replicas[other(system)]
        try:
            change, found = read_change(record)
            known = replica.known(key)
            if change.version < known or (change.version == known and record.value is not None):
                self._hold_commit(replica, key, record)
                return False
            self.translation.owned(key, change.layer, change)
        except Poison as error:
            self._quarantine(system, record, error, now_ms)
            return False
        if record.value is None:
            replica.raise_floor(change.version, record.offset)
        try:
            value = None if record.value is None else self.translation.value(system, key, found, change)
            self.unmapped.noted(system, key, None)
            self.copied[system] += 1
        except Poison as error:
            # The version and the answer are copied all the same: whoever gets the key must not go on from an older one.
            self._quarantine(system, record, error, now_ms)
            change.unmapped, value = error.code, envelope(None, found.answer)
        change.layer = self.translation.owner(key)
        replica.copy(key, value, change, record.offset)
        if record.value is None:
            self.translation.forget(key, change.version)
        return True

    def _hold_commit(self, replica: Replica, key: bytes, record: Record) -> None:
        """A followed record whose version is on its way, copied from a cold one, stands for that from now on.

        It may be what compaction leaves of the two, and then no pass of the backfill finds the cold one again.
        """
        if not replica.on_its_way(key) or self._cold(replica.source, record):
            return
        for copied in replica.unconfirmed:
            if copied.key == key and self._is_cold(replica.source, copied):
                copied.source = record.offset

    def _copy_seal(self, system: System, offset: int, seal: Seal) -> None:
        copy = self.handovers.copy_of(system, seal, offset)
        if copy is not None:
            key = wire.seal_key(seal.route.epoch, self.config.unique())
            self._replicas[other(system)].copy_seal(key, copy, offset)

    # ------------------------------------------------------------------ backfill
    def _scan_source(self, low: int, high: int) -> None:
        self.effects.scan.append((CHANGES[FLAT], low, high))

    def scanned(self, log: str, records: Sequence[Record], next_offset: int, now_ms: float) -> None:
        """A piece of flat's change log for the backfill, or a record to append again."""
        if log in COPY:
            replica = self._replicas[COPY[log]]
            replica.again(records, self._next[CHANGES[replica.source]])
            return
        copied = 0
        for record in records:
            if self.backfill.validity.feed(record) == "data" and record.key is not None:
                wanted = self.backfill.wanted(bucket_of(self._salt, record.key))
                copied += wanted and self._copy(FLAT, record, now_ms)
        self.backfill.advanced(next_offset, copied)
        self._proceed(now_ms)

    @property
    def backfilled(self) -> float:
        """Percentage below which every neuron is in the replica, read back, or pinned where it is."""
        if self._replicas[HIERARCHICAL].unconfirmed or not self.unmapped.all_in(self._pins):
            return self._reported
        self._reported = (10_000 if self.backfill.until == 0 else self.backfill.done) / 100
        return self._reported

    _reported = 0.0

    @property
    def _pins(self) -> Mapping[str, System]:
        return self._control.route.pins if self._control is not None else {}

    # ------------------------------------------------------------------ markers, seals, settled
    def _dispatched(self, record: Record, now_ms: float) -> None:
        if self._dispatch_validity.feed(record) == "marker" and self._dispatch_validity.marker is not None:
            self.handovers.marked(self._dispatch_validity.marker, record.offset, now_ms)

    def control(self, state: ControlState, now_ms: float) -> None:
        """How far to backfill, which keys are pinned, what has settled."""
        self._control = state
        self.handovers.control(state, now_ms)
        self.backfill.want(max(round(state.backfill * 100), state.route.bound))
        self._proceed(now_ms)

    def _proceed(self, now_ms: float) -> None:
        if self.phase != "serve" or self.effects.restart is not None:
            return
        for system in SYSTEMS:
            self._copy_held(system, now_ms)
        self._settle(now_ms)
        for replica in self._replicas.values():
            replica.repair()
        self.backfill.step(now_ms)

    def _settle(self, now_ms: float) -> None:
        for record in self.handovers.settle(now_ms):
            self._note("settled", epoch=record.epoch, forced=list(record.forced), took_ms=record.took_ms)
            self._decree(encode(record))

    def _force(self, now_ms: float) -> None:
        """Append the seals of a system that is dead or too slow."""
        for system in SYSTEMS:
            dead, sealed, held = system in self.dead, self._validity[system].seals, self._held[system]
            for seal in self.handovers.force(system, sealed, held, dead=dead, now_ms=now_ms):
                epoch = seal.route.epoch
                self._note("seal_forced", epoch=epoch, system=system, dead=dead)
                key = wire.seal_key(epoch, self.config.unique())
                self.effects.sends.append(Send(CHANGES[system], key, encode(seal), [], seal))

    # ------------------------------------------------------------------ quarantine
    def _quarantine(self, system: System, record: Record, error: Poison, now_ms: float) -> None:
        """What cannot be mapped is named, and its key pinned to the system that has its state."""
        self.failed[error.code] += 1
        self.unmapped.noted(system, record.key or b"", error.code)
        self.effects.sends.append(quarantine("migrator", CHANGES[system], self.partition, record, error, now_ms))

    def _pin(self, now_ms: float) -> None:
        pin = self.unmapped.pin(self._pins, now_ms)
        if pin is not None:
            self._decree(encode(pin))

    # ------------------------------------------------------------------ time, acknowledgements, commits
    def acked(self, send: Send, now_ms: float) -> None:
        """Forced seals, `settled`, pins: they are read where they count."""

    def tick(self, now_ms: float) -> None:
        """Seals that are missing, pins, the next slice of the backfill."""
        if self.phase != "serve":
            return
        self._force(now_ms)
        self._pin(now_ms)
        self._proceed(now_ms)

    def commits(self) -> Mapping[str, Commit]:
        """A source when its copy is read back; `dispatched` up to the first marker that has not settled."""
        if self.phase != "serve" or self.backfill.until is None:
            return {}
        found: dict[str, Commit] = {}
        for system, log in CHANGES.items():
            unconfirmed = self._replicas[other(system)].unconfirmed
            waiting = (copied.source for copied in unconfirmed if not self._is_cold(system, copied))
            position = min([self._next[log], *waiting])  # a floor may be copied by the backfill, from further on
            saved = self._validity[system].saved(position)
            done = 0 if self._replicas[HIERARCHICAL].unconfirmed else self.backfill.done
            metadata = f"{self.backfill.until};{done};{saved}"
            if len(metadata) <= self.config.metadata_bytes:
                found[log] = Commit(position, metadata)
        first = self.handovers.first_open()
        position = self._next["dispatched"] if first is None else first
        metadata = self._dispatch_validity.saved(position)
        if len(metadata) <= self.config.metadata_bytes:
            found["dispatched"] = Commit(position, metadata)
        return found

    def _is_cold(self, system: System, copied: Copied) -> bool:
        """A copy made by the backfill: its pass is repeated after a crash, so the position need not wait for it.

        Seals and floors are not: they are followed from the start of the log, whatever is cold.
        """
        return not copied.is_mark and system == FLAT and copied.source < (self.backfill.until or 0)

    def idle(self) -> bool:
        """Everything read is copied and read back."""
        unconfirmed = any(replica.unconfirmed for replica in self._replicas.values())
        return self.phase == "serve" and not unconfirmed and not any(self._held.values())

    @property
    def migrated(self) -> int:
        """Neurons whose state both systems hold, or will when what is on its way has been read."""
        return len(self._replicas[FLAT].versions.keys() | self._replicas[HIERARCHICAL].versions.keys())

    @property
    def settled_epoch(self) -> int:
        """The newest epoch that has settled."""
        return max(self.handovers.settled, default=0)

    def handing_over(self, now_ms: float) -> HandOver | None:
        """What a hand-over that is under way here waits for."""
        return self.handovers.stages.waits(now_ms, backfilling=bool(self._held[FLAT]))

    # ------------------------------------------------------------------ sends
    def _note(self, event: str, **fields: object) -> None:
        self.effects.notes.append((event, fields))

    def _decree(self, value: bytes) -> None:
        self.effects.sends.append(Send("control", self.config.migration.encode(), value, [], partition=0))
