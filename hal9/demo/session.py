"""One run on a topology that is up: the network is made, measured, moved under load, struck, and measured again.

What the run saw can be asked for also when it broke off; the audit and the report come after it.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from hal9.client import Client
from hal9.control.log import ControlFollower, ControlWriter
from hal9.control.plan import Plan
from hal9.demo.board import Board
from hal9.demo.desk import Desk
from hal9.demo.network import Network
from hal9.demo.observer import observe
from hal9.demo.options import DEADLINE_S, Options
from hal9.demo.scenario import Act, Scenario, Stage
from hal9.demo.screen import Screen
from hal9.demo.verdict import Course
from hal9.errors import Hal9Error, Refused
from hal9.log.clock import Clock
from hal9.log.supervision import until_first
from hal9.settings import Settings
from services.orchestrator.core import begin

_LOOK_S = 0.1
_PAINT_S = 0.25
_LATE_S = 20.0
"""How long answers are awaited that come after their deadline, when the traffic is over."""
ACTOR = "demo"


@dataclass(frozen=True, slots=True)
class Ports:
    """What a run works with.

    Attributes:
        strike: makes the fault happen.
        check: raises if a process ended that should run.
    """

    client: Client
    follower: ControlFollower
    writer: ControlWriter
    screen: Screen
    strike: Callable[[], Awaitable[None]]
    check: Callable[[], None]
    clock: Clock


class Session:
    """See the module; `run` once."""

    def __init__(self, options: Options, settings: Settings, plan: Plan, scenario: Scenario, ports: Ports) -> None:
        self._settings, self._plan, self._scenario, self._ports = settings, plan, scenario, ports
        self.desk = Desk(ports.client, options.rate, DEADLINE_S)
        self.network = Network(self.desk, f"{settings.migration.id}/route")
        self.board = Board(ports.follower.state, settings.topics.partitions, fault=options.fault)
        self._fault_at_ms: int | None = None
        self._traffic_s = 0.0
        ports.follower.listen(lambda _offset, outcome: self.board.control(outcome, ports.clock.now_ms()))

    async def run(self) -> None:
        """Ends when the traffic has ended and everything is measured; raises what broke it off."""
        ports = self._ports
        ports.screen.begin()
        try:
            await until_first(
                self._course(),
                observe(self._settings, self.board, ports.clock),
                ports.follower.watch(),
                self._watch(),
                self._paint(),
            )
        finally:
            self._refresh()
            ports.screen.end()

    def course(self, broken: Sequence[str]) -> Course:
        """What it saw; `broken` says why it broke off, if it did."""
        scenario, board = self._scenario, self.board
        return Course(
            fault=scenario.fault,
            fault_at_ms=self._fault_at_ms,
            traffic=board.traffic,
            repeated=self._ports.client.repeated,
            before=board.before,
            during=board.during,
            after=board.after,
            neurons=board.neurons,
            seconds=self._traffic_s,
            broken=broken,
            late=scenario.late,
        )

    async def _course(self) -> None:
        self.board.stage = "creating the neurons"
        self.board.neurons = await self.network.create()
        self.board.stage = "measuring the network before"
        self.board.before = await self.network.accuracy()
        began_s = time.monotonic()
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self.network.work(lambda: self._scenario.stage is Stage.OVER))
                group.create_task(self._direct(began_s))
        finally:
            self._traffic_s = time.monotonic() - began_s
        self.board.stage = "measuring the network after"
        self.board.after = await self.network.accuracy()
        await self._late_answers()

    async def _direct(self, began_s: float) -> None:
        scenario = self._scenario
        while scenario.stage is not Stage.OVER:
            act = scenario.next(self._ports.follower.state, time.monotonic() - began_s)
            self.board.stage = scenario.stage.value
            if act is Act.START:
                await self._start()
            elif act is Act.STRIKE:
                await self._strike()
            await asyncio.sleep(_LOOK_S)

    async def _start(self) -> None:
        state, now_ms = self._ports.follower.state, self._ports.clock.now_ms()
        start = begin(state, self._plan, self._settings.topics.partitions, now_ms, ACTOR)
        outcome = await self._ports.writer.append(start)
        if outcome.verdict != "accepted":
            raise Refused(f"the migration was not started: {outcome.verdict}, {outcome.reason}")

    async def _strike(self) -> None:
        self._fault_at_ms = self._ports.clock.now_ms()
        await self._ports.strike()
        self.board.say(f"THE FAULT STRIKES: {self.board.fault}", self._fault_at_ms, grave=True)

    async def _late_answers(self) -> None:
        counts = self._ports.client.counts
        until_s = time.monotonic() + _LATE_S
        while counts.answered < counts.sent and time.monotonic() < until_s:  # noqa: ASYNC110  counted by the client
            await asyncio.sleep(_LOOK_S)

    async def _watch(self) -> None:
        while True:
            self._ports.check()
            await asyncio.sleep(_PAINT_S)

    async def _paint(self) -> None:
        while True:
            self._refresh()
            await asyncio.sleep(_PAINT_S)

    def _refresh(self) -> None:
        self.board.traffic, self.board.during = self.desk.traffic(), self.network.reading()
        self._ports.screen.show(self.board, self._ports.clock.now_ms())


def reason(error: BaseException) -> str:
    """Why a run broke off, for a person; errors of a group one after the other."""
    if isinstance(error, BaseExceptionGroup):
        return "; ".join(reason(one) for one in error.exceptions)
    return str(error) if isinstance(error, Hal9Error) else repr(error)
