"""The orchestrator as a service: settings in, connections made, parts put together; runs until it is told to stop."""

import asyncio
import json
from contextlib import AsyncExitStack

from hal9 import plans
from hal9.connection import reach_kafka
from hal9.control.log import ControlFollower, ControlWriter, Listener, following
from hal9.control.plan import Plan
from hal9.control.reducer import ControlState, Outcome
from hal9.errors import ConfigError
from hal9.heartbeat import Heartbeat, instance_name
from hal9.http import HttpServer, Reply, service_routes
from hal9.log.clock import Clock
from hal9.log.reading import Reader
from hal9.log.supervision import until_first
from hal9.service import run
from hal9.settings import Settings
from hal9.telemetry.families import INTERVENTIONS
from hal9.telemetry.logs import configure_logs, logger
from hal9.telemetry.metrics import Metrics
from hal9.topics import Topics
from schemas.telemetry import Status
from services.orchestrator.orchestrator import SERVICE, Orchestrator, Ports
from services.orchestrator.sight import Sight

_SAID_MOST, _SAID = 4, 512
"""Reasons for not going on that a heartbeat tells, and characters of each."""
_log = logger("orchestrator")


def first_plan(settings: Settings) -> Plan | None:
    """The plan to start if none was started ever; raises ConfigError."""
    if not settings.orchestrator.plan:
        return None
    plan = plans.load(settings.orchestrator.plan)
    plan.refuse_unsupported()
    return plan


def check_partitions(state: ControlState, partitions: int) -> None:
    """Raise ConfigError if the migration was started with another number of partitions."""
    if state.partitions not in (None, partitions):
        raise ConfigError(
            f"TOPICS.PARTITIONS = {partitions}: migration {state.migration} was started with {state.partitions}"
        )


def walk_ms(state: ControlState) -> int | None:
    """When the present walk began; None if none has."""
    entries = state.journal[state.started_entry :]
    return entries[0].at_ms if entries else None


def interventions(metrics: Metrics) -> Listener:
    """Counts what people decide while this process lives: they are user@machine, services are instances."""
    counter = metrics.counter(INTERVENTIONS)

    def heard(_offset: int, outcome: Outcome) -> None:
        if outcome.verdict == "accepted" and outcome.record is not None and "@" in outcome.record.actor:
            counter.inc()

    return heard


async def serve(settings: Settings, stop: asyncio.Event) -> None:
    """Run until `stop` is set. Raises Unreachable, ConfigError, or what ended it."""
    plan = first_plan(settings)
    instance, clock, metrics, topics = instance_name(SERVICE), Clock(), Metrics(), Topics.of(settings.topics)
    configure_logs(settings.telemetry, service=SERVICE, instance=instance)
    await reach_kafka(settings.kafka)
    async with AsyncExitStack() as closing:
        control = await closing.enter_async_context(following(settings.kafka, topics, settings.migration.id))
        check_partitions(control.state, topics.partitions)
        reader = await closing.enter_async_context(Reader(settings.kafka))
        sight = Sight(topics, settings.migration.id, reader, clock)
        await sight.begin(walk_ms(control.state))
        writer = ControlWriter(settings.kafka, topics, control)
        closing.push_async_callback(writer.close)

        def blind() -> list[str]:
            return [*control.trouble(), *reader.trouble(), *sight.behind()]

        ports = Ports(control.state, writer.append, lambda: sight.evidence, blind, metrics, clock)
        orchestrator = Orchestrator(instance, plan, topics.partitions, ports)
        control.listen(lambda _offset, _outcome: orchestrator.wake())
        control.listen(interventions(metrics))

        def status() -> Status:
            held = [why[:_SAID] for why in orchestrator.holding[:_SAID_MOST]]
            return Status(instance=instance, service=SERVICE, at_ms=clock.now_ms(), holding=held)

        routes = service_routes(metrics, blind) | {"/walk": lambda: _walk(control, orchestrator)}
        await closing.enter_async_context(HttpServer(settings.http, routes))
        await closing.enter_async_context(Heartbeat(settings.kafka, topics.name("status"), status))

        async def walk() -> None:
            await sight.caught_up()
            await orchestrator.run(settings.orchestrator.decide_every_s)

        await until_first(control.watch(), sight.follow(), walk(), _stopped(stop))
        _log.info("stopped")


def _walk(control: ControlFollower, orchestrator: Orchestrator) -> Reply:
    """Where the walk stands and what it waits for, for people and scripts."""
    state = control.state
    entries = state.journal[state.started_entry :]
    body = {
        "epoch": state.epoch,
        "percentage": state.route.percentage,
        "phase": state.phase,
        "step": entries[-1].step if entries else None,
        "state": entries[-1].state if entries else None,
        "frozen": state.frozen,
        "rolled_back": state.rolled_back,
        "holding": orchestrator.holding,
    }
    return Reply(json.dumps(body).encode() + b"\n", content_type="application/json")


async def _stopped(stop: asyncio.Event) -> None:
    await stop.wait()


def main(settings: Settings) -> None:
    """Run the service until SIGTERM or SIGINT."""
    run(serve, settings)
