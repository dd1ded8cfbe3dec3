"""The in-memory counterpart of `hal9.log.runtime`: drives one core at a time over `MemoryLogs`.

It gives a core what the Kafka runtime gives it, and nothing more: sends land one by one, in order per log and possibly
long after the core is gone; acknowledgements come later still; commits of a replaced member are refused; a core that
asks for it is dropped and built anew. A claimed log is read only while it must be (the tail rule), and when nothing
of its own is on its way: what a zombie left there must be found by an idle writer too, or compaction keeps the void
record and drops the state before it. Every step is a method, so a test or a seeded world decides what happens when.
"""

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from hal9.backend.handler import Outcome
from hal9.control.reducer import ControlState, fold
from hal9.log.effects import EARLIEST, Call, PartitionCore, Send
from hal9.testing.memory import MemoryGroup, MemoryLogs, Name

UNKNOWN = -1
"""Offset in an acknowledgement that names none (a broker that saw the batch before answers so)."""


@dataclass(slots=True)
class _Tail:
    """How far the core has been fed a claimed log, and how far it must be read from the log itself."""

    next: int = 0
    goal: int = -1
    """Greatest offset of an own record that lies beyond a gap."""
    restoring: bool = True
    """The first own record, which is the claim, is not acknowledged: everything is read."""


@dataclass(slots=True)
class _Incarnation:
    """One core from take-over to its end; what arrives for an older one is dropped."""

    number: int
    core: PartitionCore
    positions: dict[str, int] = field(default_factory=dict)
    tails: dict[str, _Tail] = field(default_factory=dict)
    ends: list[str] = field(default_factory=list)
    scans: deque[tuple[str, int, int]] = field(default_factory=deque)
    calls: deque[Call] = field(default_factory=deque)
    ids: dict[str, str] = field(default_factory=dict)
    """Of the topics that the core wants to tell from those of the same name before and after."""


class MemoryRuntime:
    """One instance of a service, holding one partition.

    `alive` becomes False when its core has to stop and the group has given the partition to somebody else. `paused` is
    for the caller's use: nothing here looks at it.
    """

    def __init__(
        self,
        name: str,
        logs: MemoryLogs,
        make_core: Callable[[str], PartitionCore],
        group: MemoryGroup,
        control: ControlState,
        *,
        partition: int = 0,
        trace: Callable[[str], None] = lambda _: None,
        calling: Callable[[Call], Sequence[Outcome]] | None = None,
    ) -> None:
        self.name, self.partition = name, partition
        self.alive, self.paused = True, False
        self.outgoing: dict[Name, deque[tuple[Send, int]]] = {}
        self.restarts: list[str] = []
        self._logs, self._make_core, self._group, self._trace = logs, make_core, group, trace
        self._generation = group.join()
        self._calling = calling
        self._control = control
        self._acks: dict[Name, deque[tuple[Send, int, int, int]]] = {}
        self._now: _Incarnation | None = None

    def __repr__(self) -> str:
        sends = sum(len(queue) for queue in self.outgoing.values())
        life = "alive" if self.alive else "gone"
        return f"<MemoryRuntime {self.name} {life}, incarnation {len(self.restarts) + 1}, {sends} sends on the way>"

    @property
    def core(self) -> PartitionCore:
        """The core of the present incarnation."""
        return self._held.core

    @property
    def current(self) -> bool:
        """Whether the group still gives the partition to this instance."""
        return self._generation == self._group.generation

    @property
    def _held(self) -> _Incarnation:
        if self._now is None:
            raise RuntimeError(f"{self.name} was not opened")
        return self._now

    def _name(self, log: str, partition: int | None = None) -> Name:
        return (log, self.partition if partition is None else partition)

    # ------------------------------------------------------------------ life
    def open(self, now_ms: int) -> None:
        """Take the partition over: a new core, its positions, the folded control."""
        number = self._now.number + 1 if self._now else 1
        core = self._make_core(f"{self.name}.{number}")
        self._now = held = _Incarnation(number, core)
        held.ids = {log: self._logs.topic_id(log) for log in getattr(core, "identified", ())}
        if identify := getattr(core, "identify", None):
            identify(held.ids)
        starts = core.start(dict(self._group.committed), now_ms)
        if set(starts) != set(core.reads):
            raise ValueError(f"{core!r} starts at {sorted(starts)} and reads {sorted(core.reads)}")
        for log, start in starts.items():
            end = self._logs[self._name(log)].end
            offset = 0 if start == EARLIEST else end if start < 0 else start
            if log in core.claimed:
                held.tails[log] = _Tail(offset)
            else:
                held.positions[log] = offset
        core.control(self._control, now_ms)
        self._drain(now_ms)

    def regain(self) -> None:
        """The group gives the partition back to this instance, which goes on as it was, whoever had it meanwhile."""
        self._generation = self._group.join()

    def _drain(self, now_ms: int) -> None:
        """Take what the core left in its effects; a restart it asks for happens at once."""
        held = self._held
        effects = held.core.effects
        for send in effects.sends:
            name = self._name(send.log, send.partition)
            self.outgoing.setdefault(name, deque()).append((send, held.number))
        for log in effects.rewind:
            held.positions[log] = 0
        held.ends.extend(effects.ask_end)
        held.scans.extend(effects.scan)
        held.calls.extend(effects.calls)
        reason, effects.restart = effects.restart, None
        effects.sends, effects.ask_end, effects.scan, effects.calls = [], [], [], []
        effects.notes, effects.rewind = [], []
        if reason is not None:
            self._end(reason, now_ms)

    def _end(self, reason: str, now_ms: int) -> None:
        """This incarnation is over; the next one begins, if the partition is still this instance's."""
        self._trace(f"-- {self.name} {'takes over again' if self.current else 'stops'}: {reason}")
        self.restarts.append(reason)
        if self.current:
            self.open(now_ms)
        else:
            self.alive = False

    # ------------------------------------------------------------------ sends
    def sending(self) -> list[Name]:
        """Logs to which something is on its way."""
        return list(self.outgoing)

    def lose_producer(self, now_ms: int) -> dict[Name, deque[tuple[Send, int]]]:
        """A produce failed or hung: a new producer, a new incarnation. Returns what may land all the same."""
        lost, self.outgoing = self.outgoing, {}
        self._acks.clear()
        self.restarts.append("the producer was lost")
        if self.current:
            self.open(now_ms)
        else:
            self.alive = False
        return lost

    @property
    def outlived(self) -> bool:
        """Whether a topic that the core tells by its id was made anew since it began."""
        return any(map(self._anew, self._held.ids))

    def _anew(self, log: str) -> bool:
        known = self._held.ids.get(log)
        return known is not None and known != self._logs.topic_id(log)

    def notice(self, now_ms: int) -> None:
        """It hears that a topic was made anew: a new incarnation."""
        self._end("a topic was made anew", now_ms)

    def land(self, name: Name, now_ms: int) -> None:
        """The oldest send to one log is stored; its acknowledgement is on its way back."""
        queue = self.outgoing[name]
        send, number = queue.popleft()
        if not queue:
            del self.outgoing[name]
        stored = self._logs[name].append(send.key, send.value, send.headers, now_ms)
        if self.alive:
            self._acks.setdefault(name, deque()).append((send, number, stored.offset, now_ms))

    def acks(self) -> list[Name]:
        """Logs that have acknowledgements for this instance."""
        return list(self._acks)

    def deliver_ack(self, name: Name, now_ms: int, *, unknown: bool = False) -> None:
        """One acknowledgement arrives; `unknown`: without an offset."""
        queue = self._acks[name]
        send, number, offset, timestamp = queue.popleft()
        if not queue:
            del self._acks[name]
        held = self._held
        if number != held.number:
            return
        log = name[0]
        if log in held.tails and name[1] == self.partition:
            self._own(log, send, UNKNOWN if unknown else offset, timestamp, now_ms)
        else:
            send.offset, send.timestamp = offset, timestamp
            held.core.acked(send, now_ms)
            self._drain(now_ms)

    def _own(self, log: str, send: Send, offset: int, timestamp: int, now_ms: int) -> None:
        """The tail rule: nobody wrote between (hand the send back), read in passing (done), or a gap (read the log)."""
        tail = self._held.tails[log]
        tail.restoring = False
        if offset == UNKNOWN:
            tail.goal = max(tail.goal, self._logs[self._name(log)].end - 1)
        elif offset == tail.next:
            send.offset, send.timestamp = offset, timestamp
            tail.next = offset + 1
            self._held.core.read(log, [send], now_ms)
            self._drain(now_ms)
        elif offset > tail.next:
            tail.goal = max(tail.goal, offset)

    # ------------------------------------------------------------------ reads
    def readable(self) -> list[str]:
        """Logs of which the core would be fed something now."""
        held, logs, partition = self._held, self._logs, self.partition
        wants, ready = held.core.wants, []
        for log, offset in held.positions.items():
            # Nobody reads a topic by the offsets of the one before it: the runtime notices first.
            if offset < logs[log, partition].end and wants(log) and not self._anew(log):
                ready.append(log)
        for log, tail in held.tails.items():
            end = logs[log, partition].end
            if tail.next < end and (tail.next <= tail.goal or tail.restoring or not self._on_its_way((log, partition))):
                ready.append(log)
        return ready

    def position(self, log: str) -> int:
        """The next offset of a log to be fed to the core; -1 if it does not read that."""
        held = self._held
        return held.tails[log].next if log in held.tails else held.positions.get(log, -1)

    def _on_its_way(self, name: Name) -> bool:
        """Whether a send of the present core has not been acknowledged: its acknowledgement says what to read."""
        number = self._held.number
        return any(of == number for _, of in self.outgoing.get(name, ())) or any(
            of == number for _, of, _, _ in self._acks.get(name, ())
        )

    def feed(self, log: str, count: int, now_ms: int) -> None:
        """Feed up to `count` records of a readable log, as one batch; a claimed log may be read past its goal."""
        held = self._held
        tail = held.tails.get(log)
        start = tail.next if tail else held.positions[log]
        stored = self._logs[self._name(log)]
        until = min(stored.end, start + count)
        records = stored.read(start, until)
        if tail:
            tail.next = until
        else:
            held.positions[log] = until
        if records:
            held.core.read(log, records, now_ms)
            self._drain(now_ms)

    @property
    def asks(self) -> bool:
        """Whether the core has asked for an end or a scan, or called a handler."""
        return bool(self._held.ends or self._held.scans or self._held.calls)

    def answer(self, now_ms: int, count: int = 1000) -> bool:
        """Answer one question for an end, one piece of a scan or one call; False if none is open."""
        held = self._held
        if held.ends:
            log = held.ends.pop(0)
            held.core.end(log, self._logs[self._name(log)].end, now_ms)
        elif held.scans:
            log, start, until = held.scans.popleft()
            piece = min(start + count, until)
            if piece < until:
                held.scans.appendleft((log, piece, until))
            held.core.scanned(log, self._logs[self._name(log)].read(start, piece), piece, now_ms)
        elif held.calls and self._calling is not None:
            # With more than one under way, the size decides which: a script stays a list of plain values.
            held.calls.rotate(-count)
            call = held.calls.popleft()
            call.then(self._calling(call), now_ms)
        else:
            return False
        self._drain(now_ms)
        return True

    # ------------------------------------------------------------------ control, time, commits
    def behind_control(self) -> bool:
        """Whether `control` has records this instance has not folded."""
        return self._control.position < self._logs["control", 0].end

    def fold(self, count: int, now_ms: int) -> None:
        """Fold up to `count` records of `control` and show the core the new state once."""
        start = self._control.position
        for record in self._logs["control", 0].read(start, start + count):
            fold(self._control, record.offset, record.value)
        self._held.core.control(self._control, now_ms)
        self._drain(now_ms)

    def tick(self, now_ms: int) -> None:
        """Time passes."""
        self._held.core.tick(now_ms)
        self._drain(now_ms)

    def commit(self) -> bool:
        """Commit what the core says may be committed; False if the group has replaced this instance."""
        commits = self._held.core.commits()
        moved = {log: c.offset for log, c in commits.items() if self._group.committed.get(log) != c}
        stored = self._group.commit(self._generation, commits)
        if moved:
            self._trace(f"   {self.name} commits {moved}{'' if stored else ', refused'}")
        return stored

    def crash(self) -> None:
        """The process is gone; what it had sent may land all the same."""
        self.alive = False
        self._acks.clear()
