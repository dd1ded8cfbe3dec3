"""The guardian as a service: settings in, connections made, parts put together; runs until it is told to stop."""

import asyncio
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from math import ceil
from typing import Any, Protocol

from aiokafka import TopicPartition
from aiokafka.errors import KafkaError

from hal9.connection import reach_kafka
from hal9.control.log import ControlWriter, following
from hal9.errors import Hal9Error, Transient
from hal9.heartbeat import Heartbeat, instance_name
from hal9.http import HttpServer, service_routes
from hal9.log.clock import Clock
from hal9.log.effects import Send
from hal9.log.producer import start_producer, stop_producer
from hal9.log.reading import Reader
from hal9.log.supervision import until_first
from hal9.service import run
from hal9.settings import Settings
from hal9.settings.sections import Guardian as GuardianSettings
from hal9.stats.panes import Panes
from hal9.telemetry.logs import configure_logs, logger
from hal9.telemetry.metrics import Metrics
from hal9.topics import Topics
from schemas.telemetry import Status
from services.guardian.guardian import LOG, SERVICE, Guardian, Ports
from services.guardian.host import FaustHost
from services.guardian.verdict import Policy

REPORT_S = 10.0
HEALTHY_S = 60.0
"""A host that lived so long had a good start; one that ends sooner, several times in a row, will not get better."""
ATTEMPTS = 3
_MARGIN_S = 10
"""Panes kept beyond the longest window, for outcomes that come late."""

_log = logger("guardian")


def policy_of(settings: GuardianSettings) -> Policy:
    """The policy that the settings describe; windows are whole seconds."""
    return Policy(
        error_rate=settings.error_rate,
        window_s=max(1, ceil(settings.error_window_s)),
        min_requests=settings.min_requests,
        silence_s=settings.silence_s,
    )


def panes_of(settings: GuardianSettings) -> Panes:
    """Empty panes that hold what the policy needs."""
    return Panes(
        retain_s=policy_of(settings).window_s + ceil(settings.grace_s) + _MARGIN_S,
        grace_s=ceil(settings.grace_s),
        idle_timeout_ms=round(settings.idle_timeout_s * 1000),
    )


class _Reports:
    """Writes to `quarantine`, each record confirmed before it counts as reported."""

    def __init__(self, settings: Settings, topics: Topics) -> None:
        self._kafka, self._topics = settings.kafka, topics
        self._producer: Any = None

    async def write(self, send: Send) -> None:
        """Raises Transient."""
        try:
            async with asyncio.timeout(REPORT_S):
                if self._producer is None:
                    self._producer = await start_producer(self._kafka, REPORT_S)
                topic = self._topics.name(send.log)
                await self._producer.send_and_wait(topic, send.value, send.key, send.partition)
        except (KafkaError, OSError) as error:
            await self.close()
            raise Transient(f"{send!r} was not confirmed: {error!r}") from error

    async def close(self) -> None:
        """Disconnect."""
        producer, self._producer = self._producer, None
        if producer is not None:
            await stop_producer(producer)


async def serve(settings: Settings, stop: asyncio.Event) -> None:
    """Run until `stop` is set. Raises Unreachable, or what ended it."""
    instance, clock, metrics, topics = instance_name(SERVICE), Clock(), Metrics(), Topics.of(settings.topics)
    configure_logs(settings.telemetry, service=SERVICE, instance=instance)
    await reach_kafka(settings.kafka)
    async with AsyncExitStack() as closing:
        reader = await closing.enter_async_context(Reader(settings.kafka, damaged=True))
        control = await closing.enter_async_context(following(settings.kafka, topics, settings.migration.id))
        writer = ControlWriter(settings.kafka, topics, control)
        closing.push_async_callback(writer.close)
        reports = _Reports(settings, topics)
        closing.push_async_callback(reports.close)
        guardian = Guardian(
            instance,
            TopicPartition(topics.name(LOG), 0),
            policy_of(settings.guardian),
            lambda: panes_of(settings.guardian),
            Ports(reader, control.state, writer.append, reports.write, metrics, clock),
        )

        def status() -> Status:
            lag = {topics.name(LOG): guardian.lag}
            quarantined = guardian.quarantined
            return Status(instance=instance, service=SERVICE, at_ms=clock.now_ms(), lag=lag, quarantined=quarantined)

        def not_ready() -> list[str]:
            held = [] if guardian.watch is not None else ["outcomes are not held: another guardian may read them"]
            return [*held, *control.trouble(), *reader.trouble()]

        def make_host() -> FaustHost:
            group = f"{settings.topics.prefix}{SERVICE}"
            replicas = settings.topics.replication_factor
            return FaustHost(settings.kafka, group, topics.name(LOG), replicas, guardian)

        await closing.enter_async_context(HttpServer(settings.http, service_routes(metrics, not_ready)))
        await closing.enter_async_context(Heartbeat(settings.kafka, topics.name("status"), status))
        every_s = settings.guardian.decide_every_s
        await until_first(control.watch(), hosted(make_host, guardian, every_s), _stopped(stop))
        _log.info("stopped")


async def _stopped(stop: asyncio.Event) -> None:
    await stop.wait()


class Host(Protocol):
    """Delivers `outcomes` to the guardian; `FaustHost` is one."""

    async def start(self) -> None:
        """Begin; raises Transient."""
        ...

    def check(self) -> None:
        """Raises HostFailed if nothing is delivered any more."""
        ...

    async def stop(self) -> None:
        """End; raises Transient if that cannot be done, and then the process must end."""
        ...


async def hosted(make: Callable[[], Host], guardian: Guardian, every_s: float) -> None:
    """Look at what a host delivers; a host that ends is replaced. Never returns; raises when no host lives long."""
    failures = 0
    while True:
        began = time.monotonic()
        host = make()
        try:
            await host.start()
            while True:
                host.check()
                await guardian.look()
                await asyncio.sleep(every_s)
        except Hal9Error as error:
            failures = 1 if time.monotonic() - began > HEALTHY_S else failures + 1
            _log.exception("host_failed", failures=failures)
            if failures >= ATTEMPTS:
                raise Hal9Error(f"{failures} hosts in a row failed: {error!r}") from error
        finally:
            guardian.lost()
            await host.stop()


def main(settings: Settings) -> None:
    """Run the service until SIGTERM or SIGINT."""
    run(serve, settings)
