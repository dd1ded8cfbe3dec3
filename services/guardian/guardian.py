"""The guardian at work: keeps the watch over `outcomes`, looks at it again and again, publishes what follows.

At-least-once in, once in effect: panes are rebuilt from the log whenever the partition is taken, and a command's id
says what it is about, so that giving it twice changes nothing.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Protocol

from aiokafka import TopicPartition

from hal9.control.reducer import ControlState, Outcome
from hal9.errors import Hal9Error, Poison, Transient
from hal9.log.batches import Damaged, Plain
from hal9.log.clock import Clock
from hal9.log.effects import EARLIEST, Record, Send
from hal9.log.quarantine import quarantine
from hal9.stats.panes import Panes
from hal9.telemetry.families import CONSUMER_LAG, EPOCH, QUARANTINED, VERDICTS, Family
from hal9.telemetry.logs import logger
from hal9.telemetry.metrics import Metrics
from schemas.base import decode, encode
from services.guardian.verdict import Command, Policy, decide
from services.guardian.watch import Checkpoint, Read, Watch, checkpoint_decoder

SERVICE = "guardian"
LOG = "outcomes"
OUTCOMES = Family("hal9_guardian_outcomes_total", "Outcomes by what became of them.", ("arrival",))
QUIET_MS = 1_500
"""Routers report each second: after so long without a word, ask whether the log holds something."""
STALLED_MS = 30_000
"""There is something to read and nothing comes: the consumer is dead without saying so (it happens)."""
REBUILD_S = 60.0

_log = logger("guardian")

Append = Callable[[Command], Awaitable[Outcome]]
Report = Callable[[Send], Awaitable[None]]


class Log(Protocol):
    """Reading beside the host; `hal9.log.reading.Reader` is one."""

    async def ends(self, partitions: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
        """The offset after the last record of each partition; raises Transient."""
        ...

    def range(
        self, topic: str, partition: int, start: int, end: int, *, deadline_s: float
    ) -> AsyncIterator[list[Record]]:
        """The records start <= offset < end, unreadable ones as `Damaged`; raises Transient."""
        ...


@dataclass(frozen=True, slots=True)
class Ports:
    """What the guardian works with: the log, the folded `control`, and how to append to it and to `quarantine`."""

    reader: Log
    control: ControlState
    append: Append
    report: Report
    metrics: Metrics
    clock: Clock


class Guardian:
    """Receives the records of `outcomes` (see `services.guardian.host.Receiver`) and is told to look by `look`."""

    def __init__(
        self, instance: str, at: TopicPartition, policy: Policy, panes: Callable[[], Panes], ports: Ports
    ) -> None:
        self._instance, self._at, self._policy, self._panes = instance, at, policy, panes
        self._reader, self._control = ports.reader, ports.control
        self._append, self._report = ports.append, ports.report
        self._metrics, self._clock = ports.metrics, ports.clock
        self._lag = self._metrics.gauge(CONSUMER_LAG, topic=at.topic)
        self._epoch = self._metrics.gauge(EPOCH)
        self.watch: Watch | None = None
        self._reported = 0
        """What cannot be read before this offset is in `quarantine`."""
        self.lag = 0
        self.quarantined = 0

    # ------------------------------------------------------------------ what the host calls
    async def taken(self, checkpoint: bytes | None) -> int:
        """Build the panes again, from the checkpoint to the end of the log; the offset to go on from."""
        end = (await self._reader.ends([self._at]))[self._at]
        saved = self._saved(checkpoint, end)
        start = saved.replay_from if saved else EARLIEST
        watch = Watch(self._control.migration, self._panes(), max(start, 0), self._clock.now_ms())
        known = max(self._reported, saved.next_offset if saved else 0)
        await self._read(watch, start, end, known)
        self.watch = watch
        _log.info("outcomes_taken", start=start, end=end, panes=repr(watch.panes))
        return end

    def _saved(self, checkpoint: bytes | None, end: int) -> Checkpoint | None:
        if checkpoint is None:
            return None
        try:
            saved = decode(checkpoint_decoder, checkpoint)
        except Poison as error:
            _log.warning("checkpoint_unreadable", reason=error.detail)
            return None
        if saved.next_offset > end:
            _log.warning("checkpoint_of_another_log", next_offset=saved.next_offset, end=end)
            return None
        return saved

    async def receive(self, offset: int, key: bytes | None, value: bytes | None) -> None:
        """One record; one that comes after `lost` is another guardian's to read."""
        watch = self.watch
        if watch is None:
            return
        if offset > watch.next_offset:
            # The host passed something over: what it could not read, or what it lost.
            await self._read(watch, watch.next_offset, offset, 0)
        await self._feed(watch, Plain(offset, self._clock.now_ms(), key, value, ()), 0)

    async def _read(self, watch: Watch, start: int, end: int, known: int) -> None:
        """Read a range beside the host."""
        chunks = self._reader.range(self._at.topic, self._at.partition, start, end, deadline_s=REBUILD_S)
        async for chunk in chunks:
            for record in chunk:
                await self._feed(watch, record, known)
        watch.passed(end, self._clock.now_ms())

    def checkpoint(self) -> bytes | None:
        """What a successor needs; None while nothing is held."""
        return encode(self.watch.checkpoint()) if self.watch is not None else None

    def lost(self) -> None:
        """Another guardian reads on."""
        if self.watch is not None:
            _log.info("outcomes_lost", next_offset=self.watch.next_offset)
        self.watch = None

    async def _feed(self, watch: Watch, record: Record, known: int) -> None:
        """Read one record; what cannot be read is reported, unless that was done before (below `known`)."""
        now_ms = self._clock.now_ms()
        read = _fed(watch, record, now_ms)
        if not isinstance(read, Poison):
            self._metrics.counter(OUTCOMES, arrival=read).inc()
            return
        if record.offset < known:
            return
        _log.warning("outcome_quarantined", offset=record.offset, reason=read.code, detail=read.detail)
        await self._report(quarantine(SERVICE, LOG, self._at.partition, record, read, now_ms))
        self._metrics.counter(QUARANTINED, reason=read.code).inc()
        self.quarantined += 1
        self._reported = record.offset + 1

    # ------------------------------------------------------------------ looking
    async def look(self) -> None:
        """Judge what is known now, and publish what follows. Raises Hal9Error if reading has come to a stand."""
        watch = self.watch
        if watch is None:
            return
        await self._listen(watch)
        self._epoch.set(self._control.epoch)
        now_ms = self._clock.now_ms()
        if watch.stalled_ms(now_ms) > STALLED_MS:
            raise Hal9Error(f"nothing was read from {self._at.topic} for {watch.stalled_ms(now_ms)} ms: {watch!r}")
        found = decide(watch.panes, self._control, self._policy, now_ms, quiet_ms=watch.quiet_ms, actor=self._instance)
        for decision in found:
            self._metrics.counter(VERDICTS, trigger=decision.trigger, verdict=decision.verdict).inc()
            if decision.command is not None:
                await self._publish(decision.command)

    async def _listen(self, watch: Watch) -> None:
        """Whether the log holds more than was read, asked when nothing came for a while."""
        if watch.idle_ms(self._clock.now_ms()) < QUIET_MS:
            self.lag = 0
        else:
            asked_ms = self._clock.now_ms()
            end: int | None
            try:
                end = (await self._reader.ends([self._at]))[self._at]
                self.lag = max(0, end - watch.next_offset)
            except Transient as error:
                _log.warning("end_of_outcomes_unknown", reason=str(error))
                end = None
            watch.ended(end, asked_ms, self._clock.now_ms())
        self._lag.set(self.lag)

    async def _publish(self, command: Command) -> None:
        try:
            outcome = await self._append(command)
        except Transient as error:
            # The next look gives the same command again, with the same id.
            _log.warning("command_not_confirmed", id=command.id, reason=str(error))
            return
        _log.warning(
            "command_published",
            id=command.id,
            trigger=command.trigger,
            verdict=outcome.verdict,
            epoch=outcome.epoch,
            reason=command.reason,
            refused=outcome.reason,
        )


def _fed(watch: Watch, record: Record, now_ms: int) -> Read | Poison:
    if isinstance(record, Damaged):
        watch.passed(record.offset + 1, now_ms)
        return Poison("unreadable", record.detail)
    try:
        return watch.feed(record.offset, record.key, record.value, now_ms)
    except Poison as error:
        return error
