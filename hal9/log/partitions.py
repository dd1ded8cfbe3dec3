"""The partitions one instance holds: taken over when assigned, given up when another has them, begun again when fenced.

Whenever a member joins or leaves, the group takes all partitions from everybody and gives most of them back. So while
it changes they rest: nothing new is taken in. What comes back goes on as it was, unless somebody else claimed it;
claims make that as safe as any other moment. A take-over during which assignment or producer change is begun again.
"""

import asyncio
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from aiokafka import TopicPartition

from hal9.errors import Stalled, Transient
from hal9.log.administration import committed
from hal9.log.appender import Appender
from hal9.log.clock import Clock
from hal9.log.effects import LATEST, Commit, PartitionCore
from hal9.log.fetching import Fetching
from hal9.log.holding import Holding
from hal9.log.identified import Identified
from hal9.log.keeper import Keeper
from hal9.log.watchdog import Watchdog
from hal9.settings.sections import Kafka
from hal9.telemetry.logs import logger
from hal9.topics import Topics

if TYPE_CHECKING:
    from hal9.control.reducer import ControlState

DEADLINE_S = 5.0
"""Of a question to the brokers."""
PAUSE_S = 0.2
"""Before a partition is taken over again that was taken over within `CALM_S`: two owners must not race."""
CALM_S = 5.0
UNANSWERED_S = 2.0
"""An append that waits longer than this is the broker's fault, not ours."""
TURN_S = 0.02
"""With much to do for many partitions, heartbeats and acknowledgements must not wait for all of it."""
_POLL_S = 0.01
_TIMER_SLACK_S = 0.001
"""A timer may ring a little before its time."""

_log = logger("log.partitions")


@dataclass(frozen=True)
class Service:
    """What makes one service's cores, and what they run on."""

    kafka: Kafka
    topics: Topics
    group: str
    core_type: type[PartitionCore]
    make_core: Callable[[int], PartitionCore]
    control: "Callable[[], ControlState | None]"

    @property
    def intake(self) -> tuple[str, ...]:
        """Logs that are not read while partitions drain: the core's `intake`, or the first one it reads."""
        found: tuple[str, ...] = getattr(self.core_type, "intake", self.core_type.reads[:1])
        return found

    @property
    def identified(self) -> tuple[str, ...]:
        """Logs of whose topics the cores want to know the ids."""
        found: tuple[str, ...] = getattr(self.core_type, "identified", ())
        return found

    def places(self, partition: int) -> dict[str, TopicPartition]:
        """Where a core of `partition` reads, by log."""
        return {log: TopicPartition(self.topics.name(log), partition) for log in self.core_type.reads}


class Partitions:
    """What is assigned, and the holdings."""

    def __init__(self, service: Service, fetching: Fetching, appender: Appender, clock: Clock, keeper: Keeper) -> None:
        self._service, self._keeper = service, keeper
        self._fetching, self._appender, self._clock = fetching, appender, clock
        self.topics = Identified(fetching, service.topics, service.identified)
        self.assigned: frozenset[int] = frozenset()
        self.held: dict[int, Holding] = {}
        self.assignments = self.takeovers = self.restarts = 0
        self._watchdog = Watchdog(service.kafka.watchdog_s)
        self._generation = 0
        self._closed = self._leaving = False
        self._vacant = asyncio.Event()
        self._not_before: dict[int, float] = {}
        self._taken: dict[int, float] = {}

    def __repr__(self) -> str:
        return f"<Partitions {sorted(self.held)} of {sorted(self.assigned)}>"

    def __iter__(self) -> Iterator[Holding]:
        return iter(list(self.held.values()))

    def trouble(self) -> list[str]:
        """Topics that are not there, and partitions that do not serve yet."""
        waiting = [p for p in sorted(self.assigned) if (held := self.held.get(p)) is None or not held.restored]
        return [*self.topics.trouble(), *(f"partition {partition} is being taken over" for partition in waiting)]

    def assign(self, partitions: frozenset[int]) -> None:
        """These are ours now: go on with what rested, drop what went elsewhere, take over what is not held."""
        self._generation += 1
        self.assignments += 1
        if self._leaving:
            return
        kept = partitions & self.held.keys()
        _log.info("assigned", group=self._service.group, partitions=sorted(partitions), kept=sorted(kept))
        for holding in self:
            if holding.partition in partitions:
                holding.resume()
            else:
                del self.held[holding.partition]
                holding.drop()
        self.assigned = partitions
        self._vacant.set()

    def lose(self) -> None:
        """Nothing is ours any more."""
        self.assigned = frozenset()
        self.drop_all()

    def drop_all(self) -> None:
        """End all incarnations."""
        self._generation += 1
        for holding in self:
            holding.drop()
        self.held = {}

    def take_over_again(self) -> None:
        """All incarnations are over; begin new ones."""
        self.drop_all()
        self._vacant.set()

    async def drain(self, limit_s: float, *, leaving: bool = False) -> None:
        """Take nothing new, and nothing over, and let what is in flight end, for so long at the most.

        Afterwards what is held rests until it is assigned again; never if `leaving`.
        """
        self._generation += 1
        self._leaving = self._leaving or leaving
        self.assigned = frozenset()
        for holding in self:
            holding.hold_back()
        until = asyncio.get_running_loop().time() + limit_s
        while asyncio.get_running_loop().time() < until:
            if self._appender.quiet and all(holding.core.idle() for holding in self):
                break
            await asyncio.sleep(_POLL_S)

    def watch(self, *, reachable: bool) -> None:
        """Raises Stalled when records wait and nothing moves, though Kafka answers (`reachable`: fetches succeed)."""
        ours = [h for h in self if h.partition in self.assigned and not h.draining]
        answered = reachable and self._appender.ready and self._appender.waited_s < UNANSWERED_S
        pulses = {holding.partition: holding.pulse() for holding in ours} if answered else {}
        reason = self._watchdog.look(pulses, asyncio.get_running_loop().time())
        if reason is not None:
            _log.error("stalled", group=self._service.group, reason=reason, held=repr(ours))
            raise Stalled(f"{self._service.group}: {reason}")

    def close(self) -> None:
        """Hold nothing any more."""
        self._closed = True
        self.drop_all()

    def restart(self, holding: Holding, reason: str) -> None:
        """End one incarnation and begin a new one."""
        if holding.dropped:
            return
        holding.drop()
        partition = holding.partition
        del self.held[partition]
        self.restarts += 1
        loop = asyncio.get_running_loop()
        calm = loop.time() - self._taken.get(partition, 0.0) > CALM_S
        pause = 0.0 if calm else PAUSE_S
        self._not_before[partition] = loop.time() + pause
        _log.warning("partition_restarted", group=self._service.group, partition=partition, reason=reason)
        loop.call_later(pause, self._vacant.set)

    def identify(self, ids: Mapping[str, str]) -> None:
        """The topics are these now: what was taken over with others begins anew."""
        for holding in self:
            if holding.ids == ids:
                holding.believe()
            else:
                self.restart(holding, "a topic was made anew")

    async def take_over(self) -> None:
        """Keep everything held that is assigned, until cancelled."""
        said = ""
        while True:
            await self._vacant.wait()
            self._vacant.clear()
            try:
                await self._occupy()
                said = ""
            except Transient as error:
                if str(error) != said:
                    _log.warning("takeover_failed", group=self._service.group, error=str(error))
                said = str(error)
                await asyncio.sleep(PAUSE_S)
                self._vacant.set()

    async def _occupy(self) -> None:
        now = asyncio.get_running_loop().time() + _TIMER_SLACK_S
        vacant = [p for p in sorted(self.assigned - self.held.keys()) if self._not_before.get(p, 0.0) <= now]
        if not vacant or self._closed or not self._appender.ready:
            return
        generation = self._generation
        places = {partition: self._service.places(partition) for partition in vacant}
        wanted = [at for logs in places.values() for at in logs.values()]
        found = await committed(self._service.kafka, self._service.group, wanted, DEADLINE_S)
        ids = await self.topics.now()
        if generation != self._generation:
            return
        begun: list[tuple[Holding, dict[str, int]]] = []
        for partition, logs in places.items():
            holding = self._hold(partition, {log: found[at] for log, at in logs.items() if at in found})
            holding.identify(ids, self.topics.doubt)
            begun.append((holding, dict(holding.start())))
        latest = [places[h.partition][log] for h, starts in begun for log in starts if starts[log] == LATEST]
        ends = await self._fetching.ends(latest) if latest else {}
        if generation != self._generation:
            return
        for holding, starts in begun:
            logs = places[holding.partition]
            resolved = {log: ends[logs[log]] if at == LATEST else at for log, at in starts.items()}
            self.held[holding.partition] = holding
            self._taken[holding.partition] = now
            self.takeovers += 1
            holding.begin(resolved, self._service.control())

    def _hold(self, partition: int, commits: Mapping[str, Commit]) -> Holding:
        return Holding(
            self._service.make_core(partition),
            topics=self._service.topics,
            clock=self._clock,
            fetching=self._fetching,
            appender=self._appender,
            keeper=self._keeper,
            intake=self._service.intake,
            committed=commits,
        )


async def pump(ready: Iterable[Holding]) -> list[Holding]:
    """Hand a chunk over in each of these; those that have more. Others get their turn in between."""
    more: list[Holding] = []
    turn_s = time.monotonic()
    for holding in ready:
        if not holding.dropped and holding.pump():
            more.append(holding)
        if time.monotonic() - turn_s > TURN_S:
            await asyncio.sleep(0)
            turn_s = time.monotonic()
    return more
