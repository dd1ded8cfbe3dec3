"""The whole demo: everything is started, a session is run on it, audited, reported and stopped again."""

import asyncio
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self

from redis.exceptions import RedisError

from hal9 import plans
from hal9.client import Client
from hal9.control.log import ControlWriter, following
from hal9.demo.guest import leave, refuse_used
from hal9.demo.inspection import inspect
from hal9.demo.options import FAULT_FILE, Options, environment, settings_of
from hal9.demo.report import Fault, Report
from hal9.demo.scenario import Scenario, Times, fitted
from hal9.demo.screen import Screen
from hal9.demo.session import Ports, Session, reason
from hal9.demo.verdict import Audited, report_of
from hal9.demo.versions import versions
from hal9.errors import Hal9Error
from hal9.local.signals import terminated
from hal9.local.topology import Topology
from hal9.log.clock import Clock
from hal9.settings import Settings
from hal9.topics import Topics
from schemas.base import HIERARCHICAL

PLAN = "demo"
"""The packaged plan that `--plan canary` walks here: the same phases and gates, in seconds."""
STOP_S = 3.0
"""How long a service may take to stop: what is in flight at the end of a run is of no use to anybody."""


def run(options: Options, screen: Screen) -> Report:
    """Run it; nothing is left running, whatever happens.

    Raises:
        ConfigError, Unreachable, StackError, ServiceEnded: it could not be started.
        KeyboardInterrupt: it was interrupted, by SIGINT or SIGTERM.
    """
    variables = environment(options.config)
    settings = settings_of(options.config, variables)
    with terminated(), _Workplace(screen) as place:
        fault_file = place.directory / FAULT_FILE
        topology = Topology(
            place.directory,
            settings,
            config=options.config,
            environment=variables,
            own={"hierarchical": {"HAL9_SYSTEM__FAULT_FILE": str(fault_file)}},
            ready_s=options.ready_s,
            stop_grace_s=STOP_S,
        )
        with topology, _guest(topology, screen):
            settings = topology.start(screen.say)
            report = asyncio.run(_whole(options, settings, topology, fault_file, screen))
            place.keep = bool(report.problems)
    return report


@contextmanager
def _guest(topology: Topology, screen: Screen) -> Iterator[None]:
    """Kafka and Redis are there; if one of them was there before, nothing of this run stays in it."""
    settings = topology.reach(screen.say)
    if all(topology.local):
        yield
        return
    asyncio.run(refuse_used(settings))
    try:
        yield
    finally:
        topology.services.stop()
        try:
            asyncio.run(leave(settings))
        except (Hal9Error, RedisError) as error:  # the run may have broken off because one of them is gone
            screen.say(f"topics {settings.topics.prefix}* and units may have stayed behind: {error}")


async def _whole(options: Options, settings: Settings, topology: Topology, fault_file: Path, screen: Screen) -> Report:
    topics, clock, broken = Topics.of(settings.topics), Clock(), list[str]()
    plan = fitted(plans.load(PLAN), options.seconds)
    scenario = Scenario(options.fault, topics.partitions, Times.of(options.seconds))
    async with AsyncExitStack() as closing:
        client = await closing.enter_async_context(Client(settings=settings))
        follower = await closing.enter_async_context(following(settings.kafka, topics, settings.migration.id))
        writer = ControlWriter(settings.kafka, topics, follower)
        closing.push_async_callback(writer.close)
        strike = partial(_strike, options.fault, topology, fault_file)
        ports = Ports(client, follower, writer, screen, strike, topology.refuse_ended, clock)
        session = Session(options, settings, plan, scenario, ports)
        try:
            await session.run()
        except (Hal9Error, ExceptionGroup) as error:
            broken.append(reason(error))
        found = Audited()
        if not broken:
            screen.say("the traffic has stopped: reading the logs for the audit")
            found = await inspect(settings, session.desk.taught, session.network.initial(), follower.state)
        course = session.course(broken)
        return report_of(course, session.board, found, await versions(settings.redis, local_kafka=topology.local[0]))


async def _strike(fault: Fault, topology: Topology, fault_file: Path) -> None:
    if fault == "crash":
        await asyncio.to_thread(topology.services.kill, HIERARCHICAL)
    else:
        await asyncio.to_thread(fault_file.touch)


class _Workplace:
    """A directory for one run. It stays if the run broke off, for its logs; else nothing is left."""

    def __init__(self, screen: Screen) -> None:
        self._screen = screen
        self.directory = Path(tempfile.mkdtemp(prefix="hal9-demo-"))
        self.keep = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.keep or isinstance(error, Hal9Error):
            self._screen.say(f"the logs are in {self.directory / 'logs'}")
        else:
            shutil.rmtree(self.directory, ignore_errors=True)
