"""One incarnation of one partition: a core, the cursors it reads by, and the tails of the logs it claims.

What a core asks for is passed on after each call; after `drop` nothing reaches it any more.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

from aiokafka import TopicPartition

from hal9.log.appender import Appender
from hal9.log.clock import Clock
from hal9.log.cursor import Cursor, always
from hal9.log.effects import EARLIEST, Call, Commit, PartitionCore, Send
from hal9.log.fetching import Fetching
from hal9.log.keeper import Keeper
from hal9.log.tail import Acked, Tail
from hal9.log.watchdog import Pulse
from hal9.telemetry.logs import logger
from hal9.topics import Topics

if TYPE_CHECKING:
    from hal9.backend.handler import Outcome
    from hal9.control.reducer import ControlState

_log = logger("log.holding")

CHUNK = 500
"""Records of one log handed to a core at once: some milliseconds of work."""


class Holding:
    """A partition held; `core` is fed by it alone."""

    def __init__(
        self,
        core: PartitionCore,
        *,
        topics: Topics,
        clock: Clock,
        fetching: Fetching,
        appender: Appender,
        keeper: Keeper,
        intake: Collection[str],
        committed: Mapping[str, Commit],
    ) -> None:
        self.core, self.partition = core, core.partition
        self.committed = dict(committed)
        self.ids: Mapping[str, str] = {}
        self._doubt: Callable[[], None] | None = None
        self.dropped = self.draining = False
        self._unseen: set[str] | None = None
        """Claimed logs whose end is not known yet, of a partition that is about to be gone on with."""
        self._topics, self._clock = topics, clock
        self._fetching, self._appender, self._keeper = fetching, appender, keeper
        self._intake = intake
        self._cursors: dict[str, Cursor] = {}
        self._tails: dict[str, Tail] = {}
        self._scans: list[tuple[str, Cursor]] = []
        self._restoring = set(core.claimed)
        self._moves = 0

    def __repr__(self) -> str:
        return f"<Holding {self.core!r} {self._tails} {self._cursors}>"

    # ------------------------------------------------------------------ life
    def identify(self, ids: Mapping[str, str], doubt: Callable[[], None]) -> None:
        """The ids of topics, before `start`; `doubt` finds out whether they still are: `believe`."""
        self.ids, self._doubt = ids, doubt
        if identify := getattr(self.core, "identify", None):
            identify(ids)

    def start(self) -> Mapping[str, int]:
        """Where the core wants to read from; nothing it sends leaves before `begin`."""
        return self.core.start(self.committed, self._clock.precise_ms())

    def begin(self, starts: Mapping[str, int], state: "ControlState | None") -> None:
        """Read from these offsets on, and let go what the core sent."""
        for log in self.core.reads:
            # What lies before the start of a log is found out by fetching, so EARLIEST needs no question.
            start = 0 if starts[log] == EARLIEST else starts[log]
            if log in self.core.claimed:
                self._tails[log] = Tail(start)
                self._read_or_rest(log)
            else:
                self._cursors[log] = self._open(log, start, wanted=self._wanted(log))
        if state is not None:
            self.core.control(state, self._clock.precise_ms())
        self._drain()

    def believe(self) -> None:
        """They still are."""
        for cursor in self._cursors.values():
            cursor.believe()

    def drop(self) -> None:
        """This incarnation is over."""
        self.dropped = True
        for cursor in [*self._cursors.values(), *(cursor for _, cursor in self._scans)]:
            self._fetching.drop(cursor)
        self._cursors, self._scans = {}, []

    def hold_back(self) -> None:
        """Take in nothing new until `resume`; all else goes on."""
        self.draining, self._unseen = True, None

    def resume(self) -> None:
        """The group changed, and this partition is ours still, or again.

        What was held back is taken in once the claimed logs are read up to where they end now: if another member had
        the partition meanwhile, its claim lies there, and the core asks for a restart.
        """
        self._unseen = set(self._tails)
        for log in self._tails:
            self._keeper.ask_end(self, log, partial(self._ended, log))

    def _ended(self, log: str, end: int) -> None:
        if self._unseen is not None:
            self._unseen.discard(log)
        self.grown(log, end)
        self._go_on()

    def _go_on(self) -> None:
        if self._unseen == set() and not any(tail.reading for tail in self._tails.values()):
            self.draining, self._unseen = False, None
            self._keeper.ready(self)

    @property
    def restored(self) -> bool:
        """The claims are read back."""
        return not self._restoring

    def lag(self) -> dict[str, int]:
        """Records not handed over yet, per topic."""
        return {cursor.topic: cursor.lag for cursor in self._cursors.values()}

    def pulse(self) -> Pulse:
        """What a watchdog wants to know. A core may say in `awaits` whom it waits for, if not for records."""
        lag = sum(cursor.lag for cursor in [*self._cursors.values(), *(cursor for _, cursor in self._scans)])
        return Pulse(lag, self._moves, getattr(self.core, "awaits", None))

    def held_up(self) -> list[Cursor]:
        """Cursors that are not fetched for, so that they do not learn how their log grows."""
        return [cursor for cursor in self._cursors.values() if not cursor.wanted()]

    def unwatched(self) -> list[str]:
        """Claimed logs of which nothing was heard since this was asked last: somebody else may have written there."""
        return [log for log, tail in self._tails.items() if tail.still()]

    def grown(self, log: str, end: int) -> None:
        """A claimed log ends at `end` now: read up to there what was not read yet."""
        if not self.dropped:
            self._tails[log].until(end)
            self._read_or_rest(log)

    # ------------------------------------------------------------------ what the core is told
    def pump(self) -> bool:
        """Hand a chunk of each log over; whether more is there to be handed over now."""
        more = False
        for log, cursor in list(self._cursors.items()):
            if not cursor.moved() or not cursor.wanted():
                continue
            records = cursor.take(CHUNK)
            self._moves += 1
            if log in self._tails:
                self._tails[log].read(cursor.position)
                self._read_or_rest(log)
            if records:
                self.core.read(log, records, self._clock.precise_ms())
                self._drain()
            if self.dropped:
                return False
            more = more or (cursor.moved() and not cursor.closed)
        return self._pump_scans() or more

    def _pump_scans(self) -> bool:
        more = False
        for scan in list(self._scans):
            log, cursor = scan
            if not cursor.moved() and not cursor.done():
                continue
            records = cursor.take(CHUNK)
            self._moves += 1
            if cursor.done():
                self._scans.remove(scan)
                self._fetching.drop(cursor)
            self.core.scanned(log, records, cursor.position, self._clock.precise_ms())
            self._drain()
            if self.dropped:
                return False
            more = more or (cursor.moved() and not cursor.done())
        return more

    def stored(self, log: str, partition: int, sends: Sequence[Send]) -> None:
        """Own sends are stored one behind the other, from the first one's offset on (-1: not known where)."""
        if self.dropped:
            return
        self._moves += 1
        now_ms = self._clock.precise_ms()
        tail = self._tails.get(log) if partition == self.partition else None
        if tail is None:
            for send in sends:
                self.core.acked(send, now_ms)
            self._drain()
            return
        news = tail.acked(sends[0].offset, len(sends))
        if news is Acked.NEXT:
            self.core.read(log, sends, now_ms)
            self._drain()
            return
        if news is Acked.UNKNOWN:
            self._keeper.ask_end(self, log, partial(self.grown, log))
        self._read_or_rest(log)

    def called(self, call: Call, outcomes: "Sequence[Outcome]") -> None:
        """A call of the core was answered."""
        if not self.dropped:
            call.then(outcomes, self._clock.precise_ms())
            self._drain()

    def tick(self) -> None:
        """Time passes."""
        self.core.tick(self._clock.precise_ms())
        self._drain()

    def control(self, state: "ControlState") -> None:
        """Control has moved on."""
        self.core.control(state, self._clock.precise_ms())
        self._drain()

    # ------------------------------------------------------------------ what the core asks for
    def _drain(self) -> None:
        effects = self.core.effects
        if effects.sends:
            sends, effects.sends = effects.sends, []
            self._appender.add(self, sends)
        if effects.ask_end:
            asked, effects.ask_end = effects.ask_end, []
            for log in asked:
                self._keeper.ask_end(self, log, partial(self._answer, log))
        if effects.scan:
            scans, effects.scan = effects.scan, []
            for log, start, end in scans:
                self._scans.append((log, self._open(log, max(start, 0), end=end)))
        if effects.calls:
            calls, effects.calls = effects.calls, []
            for call in calls:
                self._keeper.call(self, call)
        self._rewind(effects.rewind)
        for event, fields in effects.notes:
            _log.info(event, partition=self.partition, **fields)
        effects.notes.clear()
        if effects.restart is not None:
            reason, effects.restart = effects.restart, None
            self._keeper.restart(self, reason)
        self._keeper.ready(self)

    def _rewind(self, logs: list[str]) -> None:
        while logs:
            log = logs.pop()
            self._fetching.drop(self._cursors[log])
            self._cursors[log] = self._open(log, 0, wanted=self._wanted(log))

    def _answer(self, log: str, offset: int) -> None:
        self.core.end(log, offset, self._clock.precise_ms())
        self._drain()

    def _read_or_rest(self, log: str) -> None:
        """A claimed log is read only while its tail wants it."""
        tail = self._tails[log]
        if tail.reading and log not in self._cursors:
            self._cursors[log] = self._open(log, tail.position)
        elif not tail.reading and log in self._cursors:
            self._fetching.drop(self._cursors.pop(log))
            if self._restoring == {log}:
                _log.info("taken_over", partition=self.partition)
            self._restoring.discard(log)
            self._go_on()

    def _open(self, log: str, start: int, *, end: int | None = None, wanted: Callable[[], bool] = always) -> Cursor:
        cursor = Cursor(self._topics.name(log), self.partition, start, end=end, wanted=wanted)
        cursor.on_doubt = self._doubt if log in self.ids else None
        return self._fetching.open(cursor)

    def _wanted(self, log: str) -> Callable[[], bool]:
        core, intake = self.core, log in self._intake
        if intake:
            return lambda: not self.draining and core.wants(log)
        return lambda: core.wants(log)

    # ------------------------------------------------------------------ commits
    def commits(self) -> dict[TopicPartition, tuple[str, Commit]]:
        """What may be committed and was not yet, with the log it is of."""
        return {
            TopicPartition(self._topics.name(log), self.partition): (log, commit)
            for log, commit in self.core.commits().items()
            if self.committed.get(log) != commit
        }
