"""Runs the cores of one service on Kafka: takes partitions over, feeds them, appends what they send, commits.

Guarantees to a core what `hal9.log.effects.PartitionCore` says. Anything that makes an append uncertain ends all
incarnations and begins new ones, whose claims void what may still arrive. What cannot go on raises out of `run`:
the process must end then.
"""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from aiokafka.errors import KafkaError

from hal9.errors import Poison, Transient, Unreachable
from hal9.log.appender import Appender
from hal9.log.batches import Damaged
from hal9.log.calling import Calling, Calls
from hal9.log.clock import Clock
from hal9.log.committing import Committing
from hal9.log.cursor import Cursor
from hal9.log.effects import PartitionCore, Send
from hal9.log.ends import Ends
from hal9.log.fetching import Fetching
from hal9.log.holding import Holding
from hal9.log.membership import Membership
from hal9.log.partitions import Partitions, Service, pump
from hal9.log.quarantine import quarantine
from hal9.log.supervision import until_first
from hal9.settings.sections import Kafka
from hal9.telemetry.logs import logger
from hal9.topics import Topics

if TYPE_CHECKING:
    from hal9.control.log import ControlFollower

TICK_S, COMMIT_S = 0.1, 1.0
DEADLINE_S = 5.0
"""Of connecting anew."""
CLOSE_S, STOP_COMMIT_S = 0.5, 1.0
REVOKE_DRAIN_S = 1.0
"""How long partitions that go elsewhere may finish what is in flight; whoever takes over goes on with the rest."""
STOP_DRAIN_S = 2.0
"""With the commit and the goodbye, which have a second each, a clean stop takes less than five."""
LOOK_EVERY = 5
"""In how many seconds a claimed log is looked at that has not moved: compaction waits for far longer than that."""
_PAUSE_S = 0.2

_log = logger("log.runtime")


@dataclass(frozen=True)
class Hooks:
    """What a service's shell does along with its cores; both get the cores by partition."""

    before_tick: Callable[[Mapping[int, PartitionCore]], None] = lambda _cores: None
    each_second: Callable[[Mapping[int, PartitionCore]], None] = lambda _cores: None
    calling: Calling | None = None
    """What carries out the calls of its cores."""


class Runtime:
    """One instance of a service, as a member of `group`; `service` is who a quarantined record comes from.

    Attributes:
        partitions: what is assigned and held.
        commits: how often positions were stored, or were not.
        damaged: records that could not be read.
        producers: producers that had to be replaced.
    """

    def __init__(
        self,
        kafka: Kafka,
        topics: Topics,
        group: str,
        core_type: type[PartitionCore],
        make_core: Callable[[int], PartitionCore],
        control: "ControlFollower | None" = None,
        *,
        service: str = "",
        hooks: Hooks | None = None,
    ) -> None:
        self._kafka, self._topics, self._group, self._control = kafka, topics, group, control
        self._service, self._hooks = service or group, hooks or Hooks()
        self.clock = Clock()
        self.damaged = self.producers = 0
        self._ready: dict[Holding, None] = {}
        self._tick_due = self._control_due = self._running = False
        self._work = asyncio.Event()
        self._stopping, self._finished = asyncio.Event(), asyncio.Event()
        self._fetching = Fetching(kafka, self._moved, self._unreadable)
        self._ends = Ends(self._fetching, topics)
        self._calls = Calls(self._hooks.calling)
        self.call = self._calls.make
        self._appender = Appender(kafka, topics, self.clock)
        state = (lambda: control.state) if control is not None else (lambda: None)
        made = Service(kafka, topics, group, core_type, make_core, state)
        self.partitions = Partitions(made, self._fetching, self._appender, self.clock, self)
        names = [topics.name(log) for log in core_type.reads]
        self._membership = Membership(
            kafka, group, names, revoked=self._revoked, assigned=self.partitions.assign, lost=self.partitions.lose
        )
        self.commits = Committing(self._membership)

    def __repr__(self) -> str:
        return f"<Runtime {self._group}: {self.partitions!r}, {self._appender!r}>"

    # ------------------------------------------------------------------ for the service
    @property
    def cores(self) -> dict[int, PartitionCore]:
        """The cores by partition."""
        return {holding.partition: holding.core for holding in self.partitions}

    @property
    def assigned(self) -> frozenset[int]:
        """The partitions that the group gives to this instance."""
        return self.partitions.assigned

    def append(self, send: Send) -> None:
        """Send a record of the service's own (a heartbeat, a report), to partition 0 unless it names another."""
        self._appender.add(None, [send])

    def lag(self) -> dict[str, int]:
        """Records not read yet, per topic, as last seen."""
        found: dict[str, int] = {}
        for holding in self.partitions:
            for topic, lag in holding.lag().items():
                found[topic] = found.get(topic, 0) + lag
        return found

    def connections(self) -> int:
        """Open connections to brokers."""
        return self._fetching.connections + self._appender.connections + self._membership.connections

    def healthy(self) -> list[str]:
        """Why this instance is not ready; empty if it is."""
        reasons = [*self._fetching.trouble(), *(self._control.trouble() if self._control else ())]
        if not self._membership.joined:
            reasons.append(f"not settled in group {self._group}")
        if not self._appender.ready:
            reasons.append("no producer")
        reasons += self.partitions.trouble()
        return reasons

    async def run(self) -> None:
        """Serve until `stop`.

        Raises:
            Unreachable: Kafka did not answer within KAFKA.WAIT_S.
            Exception: anything that cannot go on; the process must end.
        """
        self._running = True
        try:
            await self._connect()
            if self._control is not None:
                self._control.listen(self._control_moved)
            await until_first(
                self._fetching.run(),
                self._membership.run(),
                self._append(),
                self._feed(),
                self._tick(),
                self.partitions.take_over(),
                self._ends.run(),
                self.partitions.topics.run(self.partitions.identify),
                self._calls.run(),
                self._keep(),
                self._watch_control(),
                self._until_stopped(),
            )
        finally:
            self.partitions.close()
            await self._membership.stop()
            await self._appender.close(CLOSE_S)
            await self._fetching.close()
            self._finished.set()

    async def stop(self) -> None:
        """Stop cleanly: finish what is in flight, commit, leave the group; returns when done.

        Before `run` it is fine (that ends at once then), and so are repeats.
        """
        self._stopping.set()
        if self._running:
            await self._finished.wait()

    async def _connect(self) -> None:
        wait_s = self._kafka.wait_s
        try:
            async with asyncio.timeout(wait_s):
                await self._fetching.start()
                await self._appender.restart(wait_s)
                await self._membership.start()
        except (TimeoutError, KafkaError, Transient, OSError) as error:
            raise Unreachable(f"Kafka at {self._kafka.bootstrap}, within {wait_s:g} s: {error!r}") from error

    async def _until_stopped(self) -> None:
        await self._stopping.wait()
        await self.partitions.drain(STOP_DRAIN_S, leaving=True)
        await self.commits.commit(self.partitions, STOP_COMMIT_S)

    async def _revoked(self) -> None:
        await self.partitions.drain(REVOKE_DRAIN_S)
        await self.commits.commit(self.partitions)

    async def _watch_control(self) -> None:
        if self._control is None:
            await self._finished.wait()
        else:
            await self._control.watch()

    # ------------------------------------------------------------------ feeding
    def ready(self, holding: Holding) -> None:
        """See `hal9.log.keeper.Keeper`."""
        self._ready[holding] = None
        self._work.set()

    def restart(self, holding: Holding, reason: str) -> None:
        """See `hal9.log.keeper.Keeper`."""
        self.partitions.restart(holding, reason)

    def _moved(self, cursor: Cursor) -> None:
        holding = self.partitions.held.get(cursor.partition)
        if holding is not None:
            self.ready(holding)

    def _control_moved(self, _offset: int, _outcome: object) -> None:
        self._control_due = True
        self._work.set()

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(TICK_S)
            self._tick_due = True
            self._work.set()

    async def _feed(self) -> None:
        while True:
            await self._work.wait()
            self._work.clear()
            if self._control_due and self._control is not None:
                self._control_due = False
                for holding in self.partitions:
                    holding.control(self._control.state)
            if self._tick_due:
                self._tick_due = False
                self._hooks.before_tick(self.cores)
                for holding in self.partitions:
                    holding.tick()
            ready, self._ready = self._ready, {}
            for holding in await pump(ready):
                self.ready(holding)
            self._fetching.poke()
            # Everybody else's turn: acknowledgements, fetches, heartbeats.
            await asyncio.sleep(0)

    def ask_end(self, holding: Holding, log: str, then: Callable[[int], None]) -> None:
        """See `hal9.log.keeper.Keeper`."""
        self._ends.ask(log, holding, then)

    def _unreadable(self, cursor: Cursor, damaged: Damaged) -> None:
        self.damaged += 1
        _log.error("record_unreadable", topic=cursor.topic, partition=cursor.partition, offset=damaged.offset)
        log, error = self._topics.log(cursor.topic), Poison("unreadable", damaged.detail)
        self.append(quarantine(self._service, log, cursor.partition, damaged, error, self.clock.now_ms()))

    # ------------------------------------------------------------------ appending
    async def _append(self) -> None:
        while True:
            try:
                await self._appender.run()
            except Transient as error:
                _log.warning("producer_replaced", group=self._group, reason=str(error))
            self.producers += 1
            self.partitions.drop_all()
            await self._replace_producer()
            self.partitions.take_over_again()

    async def _replace_producer(self) -> None:
        while True:
            try:
                await self._appender.restart(DEADLINE_S)
                return
            except Transient as error:
                _log.warning("no_producer", group=self._group, error=str(error))
            await asyncio.sleep(_PAUSE_S)

    # ------------------------------------------------------------------ once a second
    async def _keep(self) -> None:
        seconds = 0
        while True:
            await asyncio.sleep(COMMIT_S)
            seconds += 1
            self._hooks.each_second(self.cores)
            await self.commits.commit(self.partitions)
            await self._ends.look(self.partitions, claimed=seconds % LOOK_EVERY == 0)
            self.partitions.watch(reachable=not self._fetching.trouble())
