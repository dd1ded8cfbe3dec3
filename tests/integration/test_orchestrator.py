"""The orchestrator on a real broker, everybody else played: it walks to 25 %, whoever of it is killed on the way."""

import asyncio
import json
import sys
import urllib.request
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from aiokafka import AIOKafkaProducer

from hal9.control.log import ControlFollower, ControlWriter, following
from hal9.log.clock import Clock
from hal9.settings.sections import Kafka
from hal9.topics import Topics, create
from schemas.base import SYSTEMS, encode
from schemas.control import AnyControl, Backfill, Rollback, Route, Settled, Start
from schemas.reports import Quarantined
from schemas.telemetry import Arm, Comparisons, Outcome, Status
from stack.process import Supervised

MIGRATION = "m1"
PARTITIONS = 2
PLAN = """
name: short
phases:
  - phase: shadow
    shadow: 100
    gates: {min_requests: 20, min_comparisons: 20, soak_s: 1}
  - phase: canary
    steps: [1, 5, 10, 25]
    gates: {min_requests: 20, min_comparisons: 20, soak_s: 1}
"""
SHADOW = [("shadow", 0, state) for state in ("entered", "routed", "waiting", "passed")]
CANARY = [("canary", step, state) for step in range(4) for state in ("entered", "routed", "waiting", "passed")]


@pytest.fixture
async def topics(kafka: Kafka) -> Topics:
    topics = Topics(prefix=f"{uuid4().hex[:8]}.", partitions=PARTITIONS)
    await create(kafka, topics)
    return topics


@pytest.fixture
async def control(kafka: Kafka, topics: Topics) -> AsyncIterator[ControlFollower]:
    async with following(kafka, topics, MIGRATION) as follower:
        yield follower


@pytest.fixture
def start(bootstrap: str, topics: Topics, tmp_path: Path) -> Iterator[Callable[..., Supervised]]:
    """Starts an orchestrator process; all of them end with the test."""
    started: list[Supervised] = []
    plan = tmp_path / "plan.yaml"
    plan.write_text(PLAN)

    def make(name: str, **settings: str) -> Supervised:
        env = {
            "HAL9_KAFKA__BOOTSTRAP": bootstrap,
            "HAL9_TOPICS__PREFIX": topics.prefix,
            "HAL9_TOPICS__PARTITIONS": str(PARTITIONS),
            "HAL9_MIGRATION__ID": MIGRATION,
            "HAL9_ORCHESTRATOR__PLAN": str(plan),
            "HAL9_ORCHESTRATOR__DECIDE_EVERY_S": "0.1",
            "HAL9_TELEMETRY__LOG_FORMAT": "json",
            **settings,
        }
        command = (sys.executable, "-m", "services.orchestrator")
        child = Supervised(name, command, log=tmp_path / f"{name}.log", env=env)
        started.append(child)
        child.start()
        return child

    yield make
    for child in started:
        child.kill()


@dataclass
class Others:
    """Router, migrator, systems: they mark, copy and settle what `control` asks for, and report that all is well."""

    producer: AIOKafkaProducer
    topics: Topics
    control: ControlFollower
    writer: ControlWriter
    clock: Clock = field(default_factory=Clock)
    seq: int = 0

    async def live(self) -> None:
        while True:
            await self.settle()
            for status in self.statuses():
                await self.producer.send(self.topics.name("status"), encode(status), key=status.instance.encode())
            await self.producer.send(self.topics.name("outcomes"), encode(self.outcome()), key=MIGRATION.encode())
            await asyncio.sleep(0.2)

    async def settle(self) -> None:
        epoch = self.control.state.epoch
        for partition in range(PARTITIONS):
            if epoch and epoch not in self.control.state.settled.get(partition, {}):
                name = f"settled/{partition}/{epoch}"
                common: dict[str, Any] = {"id": name, "migration": MIGRATION, "actor": "migrator", "at_ms": 0}
                settled: dict[str, Any] = {"partition": partition, "epoch": epoch, "seals": {"flat": 1}}
                await self.writer.append(Settled(**common, **settled))

    def statuses(self) -> list[Status]:
        state, at_ms, partitions = self.control.state, self.clock.now_ms(), range(PARTITIONS)
        epochs, backfilled = dict.fromkeys(partitions, state.epoch), dict.fromkeys(partitions, state.backfill)
        return [
            Status(instance="router-1", service="router", at_ms=at_ms, epochs=epochs),
            Status(instance="migrator-1", service="migrator", at_ms=at_ms, backfilled=backfilled),
            *(Status(instance=f"{system}-1", service=system, at_ms=at_ms) for system in SYSTEMS),
        ]

    def outcome(self) -> Outcome:
        self.seq += 1
        epoch = self.control.state.epoch
        arms = [Arm(system=system, epoch=epoch, ok=25, latency_us={400: 25}) for system in SYSTEMS]
        compared = {epoch: Comparisons(equal=25)}
        last_second_ms = (self.clock.now_ms() // 1000 - 1) * 1000
        return Outcome(router="router-1", seq=self.seq, at_ms=last_second_ms, arms=arms, comparisons=compared)


@pytest.fixture
async def others(kafka: Kafka, topics: Topics, control: ControlFollower) -> AsyncIterator[Others]:
    writer = ControlWriter(kafka, topics, control)
    async with AIOKafkaProducer(bootstrap_servers=kafka.bootstrap) as producer:
        others = Others(producer, topics, control, writer)
        living = asyncio.create_task(others.live())
        yield others
        living.cancel()
        await asyncio.wait([living])
        await writer.close()


def journal(control: ControlFollower) -> list[tuple[str, int, str]]:
    return [(entry.phase, entry.step, entry.state) for entry in control.state.journal]


def accepted(control: ControlFollower) -> list[AnyControl]:
    seen: list[AnyControl] = []
    control.listen(
        lambda _, outcome: seen.append(outcome.record) if outcome.verdict == "accepted" and outcome.record else None
    )
    return seen


async def reaches(control: ControlFollower, entry: tuple[str, int, str], *children: Supervised) -> None:
    """Wait for a journal entry; children that ended meanwhile say why it does not come."""
    try:
        await control.wait_until(lambda _: entry in journal(control), 60)
    except Exception as error:
        logs = "\n".join(child.tail() for child in children)
        raise AssertionError(f"{entry} is not in {journal(control)}\n{logs}") from error


async def logged(child: Supervised, event: str) -> dict[str, object]:
    """The first line of this event in a child's log."""
    async with asyncio.timeout(30):
        while True:
            for line in child.log.read_text().splitlines():
                if f'"event": "{event}"' in line:
                    found: dict[str, object] = json.loads(line)
                    return found
            await asyncio.sleep(0.05)


def get(child: Supervised, port: object, path: str) -> bytes:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as reply:
        body: bytes = reply.read()
        return body


def leader(control: ControlFollower) -> str:
    return control.state.journal[-1].actor


async def test_it_walks_to_a_quarter_whoever_is_killed_and_watches_a_rollback_home(
    control: ControlFollower, others: Others, start: Callable[..., Supervised]
) -> None:
    seen = accepted(control)
    children = {}
    for child in (start("one"), start("two")):
        children[str((await logged(child, "http_listening"))["instance"])] = child

    await reaches(control, ("canary", 0, "routed"), *children.values())
    first = leader(control)
    children[first].kill()
    await reaches(control, ("canary", 1, "waiting"), *children.values())
    assert leader(control) != first  # the one that stood by has taken over
    children[leader(control)].kill()

    last = start("three")
    await reaches(control, ("canary", 3, "finished"), *children.values(), last)
    assert journal(control) == [*SHADOW, *CANARY, ("canary", 3, "finished")]
    assert [r.percentage for r in seen if isinstance(r, Route)] == [0, 1, 5, 10, 25]
    backfills = [r.percentage for r in seen if isinstance(r, Backfill)]
    assert sorted(set(backfills)) == [1, 5, 10, 25]
    assert sum(isinstance(r, Start) for r in seen) == 1
    assert (control.state.route.percentage, control.state.epoch, control.state.frozen) == (25, 5, None)

    port = (await logged(last, "http_listening"))["port"]
    metrics = get(last, port, "/metrics").decode()
    assert 'hal9_traffic_percentage{kind="effective"} 25.0' in metrics
    assert "hal9_phase 2.0" in metrics
    assert json.loads(get(last, port, "/walk"))["holding"] == ["the plan is done"]

    await others.writer.append(rollback(control))
    for event in ("rollback_accepted", "rollback_acknowledged", "rollback_safe"):
        assert (await logged(last, event))["epoch"] == 6
    assert control.state.route.percentage == 0
    assert last.stop() == 0


async def test_a_gate_that_finds_quarantined_records_rolls_back_and_garbage_stops_nothing(
    control: ControlFollower, others: Others, topics: Topics, start: Callable[..., Supervised]
) -> None:
    child = start("one")
    for log in ("outcomes", "status"):
        for garbage in (b"\xc1", b"", None, b"\x91" * 5000):
            await others.producer.send(topics.name(log), garbage, key=MIGRATION.encode())
    await reaches(control, ("canary", 0, "waiting"), child)
    found = Quarantined(
        service="migrator", topic="neurons.changes", partition=0, offset=1, reason="schema", at_ms=Clock().now_ms()
    )
    await others.producer.send_and_wait(topics.name("quarantine"), encode(found))
    await reaches(control, ("canary", 0, "failed"), child)
    await control.wait_until(lambda state: state.rolled_back is not None, 30)
    record = control.state.history[-1].record
    assert isinstance(record, Rollback)
    assert (record.trigger, record.evidence["quarantined"]) == ("gate", 1)
    assert (await logged(child, "rollback_safe"))["epoch"] == control.state.epoch
    assert "evidence_unreadable" in child.log.read_text()
    assert child.poll() is None


def rollback(control: ControlFollower) -> Rollback:
    epoch = control.state.epoch
    return Rollback(
        id="back", migration=MIGRATION, actor="me", at_ms=Clock().now_ms(), expected_epoch=epoch, trigger="manual"
    )


@pytest.mark.parametrize(
    ("settings", "code", "said"),
    [
        ({"HAL9_ORCHESTRATOR__PLAN": "canery"}, 2, "canary, demo"),
        ({"HAL9_KAFKA__BOOTSTRAP": "127.0.0.1:1", "HAL9_KAFKA__WAIT_S": "0.5"}, 3, "127.0.0.1:1"),
        ({"HAL9_ORCHESTRATOR__PLANS": "demo"}, 2, "PLAN"),
    ],
)
async def test_it_says_why_it_does_not_start(
    start: Callable[..., Supervised], settings: dict[str, str], code: int, said: str
) -> None:
    child = start("wrong", **settings)
    assert await asyncio.to_thread(child.wait, 30) == code
    assert said in child.log.read_text()


async def test_it_does_not_start_with_another_number_of_partitions_than_the_migration(
    control: ControlFollower, kafka: Kafka, topics: Topics, start: Callable[..., Supervised]
) -> None:
    writer = ControlWriter(kafka, topics, control)
    await writer.append(
        Start(id="s", migration=MIGRATION, actor="me", at_ms=0, expected_epoch=0, partitions=PARTITIONS + 1, plan={})
    )
    await writer.close()
    child = start("one")
    assert await asyncio.to_thread(child.wait, 30) == 2
    assert "TOPICS.PARTITIONS = 2" in child.log.read_text()
