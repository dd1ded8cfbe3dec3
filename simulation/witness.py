"""Judges every record the moment it lands, so that a broken promise is seen where it is broken.

`Witness` keeps what the logs have said so far: per partition what counts, per key the chain of its versions, per
request its effect and its answers. Compaction can hide nothing from it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from hal9 import wire
from hal9.backend.freshness import HELD_MS
from hal9.control.reducer import ControlState, fold
from hal9.keys import bucket_of
from hal9.log.effects import Commit
from hal9.log.validity import Validity
from hal9.testing.memory import Name, Stored
from schemas.base import FLAT, SYSTEMS, System, Tree, decode, other
from schemas.control import Settled
from schemas.reports import Divergence, divergence_decoder, quarantined_decoder
from simulation.applied import after, answered, applied, is_odd
from simulation.asked import Asked, Position
from simulation.commits import Passed
from simulation.counting import Counting
from simulation.history import CHANGES, REPLICA, RESPONSES, Change, Violation, change_of

OWN: Mapping[str, System] = {log: system for system, log in CHANGES.items()}
COPIES: Mapping[str, System] = {log: system for system, log in REPLICA.items()}
ID_WINDOW_MS = 60_000
ANSWERS: Mapping[str, System] = {log: system for system, log in RESPONSES.items()}


@dataclass(slots=True)
class Witness:
    """`control` is the log of that name, folded as far as it has landed."""

    salt: str
    partitions: int
    control: ControlState
    layers: bool = False
    """Whether states name layers."""
    asked: dict[tuple[bytes, str], Asked] = field(default_factory=dict)
    chains: dict[bytes, list[Change]] = field(default_factory=dict)
    """Per key its versions 1, 2, 3, ..., as the records that made them count."""
    forgotten: set[bytes] = field(default_factory=set)
    """Keys whose newest version is a deletion that is a null value by now."""
    layer_of: dict[bytes, str] = field(default_factory=dict)
    """The layer that a key is owned by, once a change log has said so."""
    positions: dict[Position, Asked] = field(default_factory=dict)
    seen: dict[str, int] = field(default_factory=dict)
    """What the schedule has exercised, counted."""
    counting: Counting = field(default_factory=Counting)
    passed: Passed = field(init=False)
    _validity: dict[Name, Validity] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.passed = Passed(self.counting)
        for p in range(self.partitions):
            for system in SYSTEMS:
                self._validity[CHANGES[system], p] = Validity(system=system, salt=self.salt)
                self._validity[REPLICA[system], p] = Validity(salt=self.salt)
            self._validity["dispatched", p] = Validity()

    def count(self, what: str, by: int = 1) -> None:
        """One more of something that a schedule is meant to exercise."""
        self.seen[what] = self.seen.get(what, 0) + by

    def landed(self, name: Name, record: Stored) -> str:
        """A record was stored; whether it counts, for logs in which that is a question. Raises `Violation`."""
        log, partition = name
        validity = self._validity.get(name)
        if validity is None:
            self._plain(log, partition, record)
            self.passed.landed(name, record, "data")
            return ""
        kind = validity.feed(record)
        if kind == "data":
            self._counts(log, partition, record)
        elif kind == "requests" and validity.requests is not None:
            self.counting.marked(partition, validity.requests)
        elif kind == "void":
            self.count("voids")
        elif kind == "seal" and log in OWN and validity.seal is not None and validity.seal.forced:
            self.count("forced_seals")
        self.passed.landed(name, record, kind)
        return kind

    def _plain(self, log: str, partition: int, record: Stored) -> None:
        """A record of a log that nobody claims."""
        if log == "requests":
            self._request(partition, record)
        elif log in ANSWERS:
            self._system_answer(ANSWERS[log], record)
        elif log == "responses":
            self._answer(record)
        elif log == "control":
            self._control(record)
        elif log == "divergences":
            divergence = decode(divergence_decoder, record.value)
            if divergence.kind in ("value", "state", "status") and not _hung(divergence):
                raise Violation("compared at unequal state", divergence)
        elif log == "quarantine":
            self._quarantined(record)

    def committed(self, service: str, partition: int, commits: Mapping[str, Commit], now_ms: int) -> None:
        """A commit was stored: nothing below it may be needed by a successor."""
        self.passed.check(self, service, partition, commits, now_ms)

    def validity(self, log: str, partition: int) -> Validity:
        """What counts in a claimed log, so far."""
        return self._validity[log, partition]

    def _quarantined(self, record: Stored) -> None:
        """Nothing is quarantined but what cannot be mapped."""
        found = decode(quarantined_decoder, record.value)
        chain = self.chains.get((found.key or b""), [])
        version = int(dict(found.headers).get(wire.VERSION, b"0"))
        if not (0 < version <= len(chain) and is_odd(chain[version - 1].state)):
            raise Violation("quarantined a sound record", found)
        self.count("quarantined")

    # ------------------------------------------------------------------ requests
    def _request(self, partition: int, record: Stored) -> None:
        name = self.counting.name(record.headers) or self.default_id(partition, record.offset)
        asked = self.asked.get((record.key or b"", name))
        if asked is None:
            raise Violation("a request that nobody sent", record)
        position = partition, self.counting.number(record.offset)
        asked.positions.append(position)
        self.positions[position] = asked

    def default_id(self, partition: int, offset: int) -> str:
        """What a request without an id is called here."""
        return self.counting.default_id(partition, offset)

    def made_anew(self) -> None:
        """The topic `requests` was deleted, with what is in it, and made anew."""
        self.counting.topic += 1
        self.passed.made_anew()

    def lost(self, asked: Asked) -> bool:
        """Whether a request went with its topic: it was never dispatched, and lies nowhere any more."""
        lost = not any(self.counting.there(at) or at in self.passed.first for at in asked.positions)
        self.count("requests_lost", int(lost))
        return lost

    # ------------------------------------------------------------------ changes
    def _counts(self, log: str, partition: int, record: Stored) -> None:
        position = wire.parse_position(wire.header(record.headers, wire.POSITION))
        if log == "dispatched" and position is not None:
            self.counting.dispatched(*position)
        system = OWN.get(log)
        if system is not None:
            change = change_of(log, record)
            self._change(system, partition, change)
            if record.value is None and change.header.version == len(self.chains[change.key]):
                self.layer_of.pop(change.key, None)  # the deletion is forgotten: a later life may be of another one
                self.forgotten.add(change.key)
                self.count("forgotten")
        elif log in COPIES:
            self._copy(change_of(log, record))

    def _change(self, system: System, partition: int, change: Change) -> None:
        chain = self.chains.setdefault(change.key, [])
        version = change.header.version
        if version <= len(chain):
            first = chain[version - 1]
            if not _of_one(first, change) or first.state != change.state:
                raise Violation("two changes with one version count", f"{first} / {change}")
            self.count("repairs")
            return
        if version > len(chain) + 1:
            self._begins_again(partition, chain, change)
        if change.header.origin == wire.MOVE:
            self._given_up(chain, change)
        else:
            self._built(partition, chain, change)
        self._owned(system, partition, chain, change)
        chain.append(change)
        if change.key in self.forgotten:
            self.forgotten.discard(change.key)
            self.count("lives")

    def _begins_again(self, partition: int, chain: list[Change], change: Change) -> None:
        """A version may be above the next one where there is no state, up to the floor of what was forgotten."""
        floor = max(self._validity[log, partition].floor for log in (*OWN, *COPIES))
        last = chain[-1] if chain else None
        if (last is not None and last.state is not None) or change.header.version > floor + 1:
            raise Violation("a version is missing", f"{change} after {len(chain)} versions")
        nothing = last or Change(change.log, -1, change.key, wire.Change(0, None, 0, wire.MOVE, None, None), None, None)
        chain += [replace(nothing, unused=True)] * (change.header.version - 1 - len(chain))

    def _given_up(self, chain: list[Change], change: Change) -> None:
        """A version that only says of which layer the key is: like the one before it, hierarchical's last for now."""
        last, state = (chain[-1].position, chain[-1].state) if chain else (-1, None)
        forgotten = change.key in self.forgotten and change.position == -1
        if (change.position != last and not forgotten) or change.state != state or change.key in self.layer_of:
            raise Violation("given up, and not as it was", change)
        self.count("given_up")

    def _built(self, partition: int, chain: list[Change], change: Change) -> None:
        """Each state is the one before it, changed by the request at its position alone, in order of positions."""
        place = self.counting.place(partition, change.position)
        asked = self.positions.get(place)
        if asked is None or asked.key != change.key:
            raise Violation("a change of no request", change)
        last = next((c.position for c in reversed(chain) if c.position >= 0), -1)
        if change.position <= last:
            raise Violation("a position after a later one of its key", f"{change} after {last}")
        before = chain[-1].state if chain else None
        expected: Tree | None = before
        if change.header.answer_status == "ok":
            expected = after(before, asked.operation, asked.label, layers=self.layers)
            if asked.effect is not None:
                raise Violation("two effects of one request", f"{asked}: {change}")
            if asked.status in ("error", "rejected"):
                raise Violation(f"answered {asked.status}, and yet it took effect", f"{asked}: {change}")
            asked.effect = change.header.version
        for read in self.asked.values() if asked.status is None else ():  # after `timeout` it may come at any time
            if read.key == change.key and read.overtook(*place):
                raise Violation("a read overtook a change", f"{read}: {change}")
        if change.state != expected:
            raise Violation("lost or doubled update", f"{change} of {asked.operation} on {before}")

    def _owned(self, system: System, partition: int, chain: list[Change], change: Change) -> None:
        """Only the owner changes a key, and only after the seal of the last one's epoch was copied to it."""
        epoch, layer = change.header.epoch, change.header.layer
        route = self.control.history[epoch].route
        if layer is not None and self.layer_of.setdefault(change.key, layer) != layer:
            raise Violation("a key of two layers", f"{self.layer_of[change.key]}: {change}")
        if change.header.origin == wire.MOVE:
            return
        layer = self.layer_of.get(change.key)
        if route.owner(bucket_of(self.salt, change.key), change.key.decode(), layer) != system:
            raise Violation("changed by who is not its owner", f"{system}: {change}")
        if change.key in self.forgotten:
            return  # a life of its own: nothing is handed over
        if chain and chain[-1].log != change.log and chain[-1].header.origin == wire.MOVE:
            self.count("handovers_by_version")
        elif chain and chain[-1].log != change.log and chain[-1].offset >= 0:
            seals = self._validity[REPLICA[system], partition].seals
            if not any(chain[-1].header.epoch < sealed <= epoch for sealed in seals):
                raise Violation("executed by two owners without a seal between", f"{chain[-1]} / {change}")
            self.count("handovers")

    def _copy(self, change: Change) -> None:
        """A replica holds nothing but what counts in the change log that it is a copy of."""
        chain = self.chains.get(change.key, [])
        version = change.header.version
        if version > len(chain):
            raise Violation("a copy of what does not count", change)
        original = chain[version - 1]
        unmapped = change.header.unmapped is not None and change.state is None and is_odd(original.state)
        if (original.state != change.state and not unmapped) or not _of_one(original, change):
            raise Violation("a copy differs from its original", f"{change} / {original}")

    # ------------------------------------------------------------------ answers
    def _system_answer(self, system: System, record: Stored) -> None:
        """What a system answers is true, whoever forwards it and whenever."""
        role = wire.text(record.headers, wire.ROLE)
        if role == "twin":
            if system != FLAT or wire.header(record.headers, wire.CHANGE) is not None:
                raise Violation("a twin that is none", record)
            if wire.header(record.headers, wire.STATE_DIFF) not in (None, b"[]"):
                raise Violation("a twin made another state of the same one", record)
        if role not in ("primary", "fallback"):
            self.count(f"{role}s")
            return
        position = self.counting.place(*(wire.parse_position(wire.header(record.headers, wire.POSITION)) or (-1, -1)))
        asked = self.positions.get(position)
        status = wire.text(record.headers, wire.STATUS)
        if asked is None:
            raise Violation("an answer to no request", record)
        if status == "ok" and (role == "fallback" or wire.header(record.headers, wire.ALIGNED) is not None):
            place = (system, position, None if role == "fallback" else wire.number(record.headers, wire.EPOCH))
            self._read_beside(system, position[0], self.passed.beside[place], asked, record)
        if status == "ok" and role == "primary":
            self._true(asked, record, f"{system}: ")
        elif wire.text(record.headers, wire.ERROR) == "quarantined":
            self.count("answers_quarantined")
        elif status == wire.MOVED:
            self.count("moved_back")

    def _read_beside(self, system: System, partition: int, dispatched: int, asked: Asked, record: Stored) -> None:
        """A state that was once valid; a fallback says what it does not show of all that was dispatched before it."""
        version = wire.number(record.headers, wire.STATE_VERSION) or 0
        chain = self.chains.get(asked.key, [])
        if not asked.reads:
            raise Violation("a request that changes state was asked for elsewhere", f"{system}: {asked}")
        if not 0 < version <= len(chain) or applied(chain[version - 1].state) != answered(record.value):
            raise Violation("a read of what never was", f"{system}: version {version} of {asked}")
        made = [c for c in chain[version:] if c.header.origin != wire.MOVE and not c.unused]
        missing = [c for c in made if self._missed(self.counting.place(partition, c.position), dispatched, record)]
        stale = wire.number(record.headers, wire.STALE_VERSIONS)
        self.count("aligned_reads" if stale is None else "fallback_reads")
        self.count("stale_reads", int(bool(stale)))
        if len(missing) > (stale or 0):
            raise Violation("more is missing than a read says", f"{system}: {stale} of {missing}, {asked}")

    def _missed(self, change: Position, dispatched: int, record: Stored) -> bool:
        """Whether a read that was dispatched there must say that it does not show this change.

        One that was asked for a minute before is over by its deadline, done or not: nobody is told of it any more.
        """
        recent = record.timestamp < self.passed.first_ms[change] + HELD_MS
        return recent and self.passed.first[change] < dispatched

    def _answer(self, record: Stored) -> None:
        """To the user: `ok` is one effect, `timeout` at most one, `error` and `rejected` none."""
        asked = self.asked.get((record.key or b"", self.counting.name(record.headers)))
        if asked is None:
            raise Violation("an answer to no request", record)
        status = wire.text(record.headers, wire.STATUS) or ""
        if status not in ("ok", "error", "rejected", "timeout"):
            raise Violation("no answer for a user", record)
        if asked.answers and record.timestamp > asked.asked_ms + ID_WINDOW_MS:
            self.count("answers_late")  # of a copy that was moved after the window: a new request by then, and expired
            return
        self.count(f"answers_{status}")
        if asked.answers:
            self.count("answers_repeated")
            self._repeated(asked, status, record)
        asked.answers.append(record)
        if wire.header(record.headers, wire.FALLBACK) is not None:
            self.count("answers_fallback")
        elif status == "ok":
            self._true(asked, record, "")
        elif status in ("error", "rejected") and asked.effect is not None:
            raise Violation(f"answered {status}, and yet it took effect", asked)

    def _repeated(self, asked: Asked, status: str, record: Stored) -> None:
        """Every answer to a request that changes state is the same, except that one may say `timeout`."""
        for earlier in () if asked.reads else asked.answers:
            before = wire.text(earlier.headers, wire.STATUS)
            if "timeout" not in (before, status) and (before != status or earlier.value != record.value):
                raise Violation("answered otherwise when repeated", f"{asked}: {before}, then {status}")

    def _true(self, asked: Asked, record: Stored, who: str) -> None:
        if who and asked.reads and record.timestamp > asked.due_ms:
            return  # nobody waits any more for what a system says, a zombie's least of all
        chain = self.chains.get(asked.key, [])
        if asked.bad:
            raise Violation("accepted a bad request", f"{who}{asked}")
        if asked.reads:
            if self.version_read(asked, record.value) is None:
                states = [applied(change.state) for change in chain]
                raise Violation("a dirty or stale read", f"{who}{answered(record.value)} of {asked}, states {states}")
        elif asked.effect is None:
            raise Violation("answered ok before its change counts", f"{who}{asked}")
        elif chain[asked.effect - 1].answer not in (record.value, None):
            raise Violation("an answer that differs from the one in the log", f"{who}{asked}")

    def version_read(self, asked: Asked, value: bytes | None) -> int | None:
        """The first version a read may have answered, not older than what its client had seen; None: there is none."""
        read = answered(value)
        states = [[], *(applied(change.state) for change in self.chains.get(asked.key, ()))]
        return next((v for v in range(asked.floor, len(states)) if states[v] == read), None)

    # ------------------------------------------------------------------ control
    def _control(self, record: Stored) -> None:
        outcome = fold(self.control, record.offset, record.value)
        if outcome.verdict not in ("accepted", "duplicate"):
            raise Violation("a control record was refused", f"{record.offset}: {outcome}")
        if isinstance(outcome.record, Settled):
            partition, epoch = outcome.record.partition, outcome.record.epoch
            for system in SYSTEMS:
                if epoch not in self._validity[REPLICA[system], partition].seals:
                    raise Violation("settled before both seals were copied", f"{outcome.record}: {other(system)}")


def _hung(divergence: Divergence) -> bool:
    """Whether they differ in that one handler did not answer in time."""
    shown = [side for field in divergence.fields for side in (field.flat, field.hierarchical)]
    return divergence.kind == "status" and "error: handler-timeout" in shown


def _of_one(first: Change, again: Change) -> bool:
    """Whether two records of a version are of one request, as far as the first one knows of any.

    A life that begins anew may know none; who puts its deletion down remembers one of the life before.
    """
    return first.position in (again.position, -1)
