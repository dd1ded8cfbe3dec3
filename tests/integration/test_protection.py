"""Protection on the real stack: reads while a system is stopped, a layer back alone, a breaker's rollback, overload.

One set of services for all tests, which build on each other in this order: a rollback latches the route.
"""

import asyncio
import json
import os
import signal
import sys
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgpack
import pytest
from aiokafka import AIOKafkaConsumer

from bench.learning import Load
from hal9.client import Answer, Client
from hal9.control.log import ControlFollower, ControlWriter, following
from hal9.control.reducer import ROUTE_SALT, salt
from hal9.keys import BUCKETS, bucket_of
from hal9.settings import Client as ClientSettings
from hal9.settings import Kafka, Redis, Settings
from hal9.settings import Topics as TopicSettings
from hal9.testing.echoing import until
from hal9.topics import Topics, create
from schemas.base import decode
from schemas.control import Rollback, Route
from schemas.telemetry import Status, status_decoder
from services.migrator.verify import verify
from stack.process import Supervised

PARTITIONS = 2
IN_FLIGHT_MAX = 20
FLOOD = 400
DEADLINE_S = 60.0
SERVICES = ("router", "migrator", "flat", "hierarchical")
NEURONS = [f"n{i}" for i in range(24)]
MOVED = [key for key in NEURONS if bucket_of(salt("hal9", ROUTE_SALT), key.encode()) < BUCKETS // 2]
"""Those that hierarchical owns at 50 %."""
LAYERED = {
    f"layered-{i}": "tactical" if i % 2 else "reflexive"
    for i in range(30)
    if bucket_of(salt("hal9", ROUTE_SALT), f"layered-{i}".encode()) < BUCKETS // 4
}
"""Some more of these, by the layer that their response time puts them into."""
RESPONSE_MS = {"reflexive": 5.0, "tactical": 900.0}
LESSON = msgpack.packb({"inputs": [1.0, 0.5], "delta": 0.001})


@dataclass
class Topology:
    """The services, each a process of its own."""

    settings: Settings
    fault: Path
    environment: dict[str, str]
    running: dict[str, Supervised] = field(default_factory=dict)

    def signal(self, service: str, number: signal.Signals) -> None:
        os.kill(self.running[service].pid, number)

    async def hal9(self, *arguments: str) -> dict[str, Any]:
        """What a verb prints as JSON."""
        command = [sys.executable, "-P", "-m", "hal9", *arguments, "-o", "json"]
        process = await asyncio.create_subprocess_exec(
            *command, env={**os.environ, **self.environment}, stdout=asyncio.subprocess.PIPE
        )
        async with asyncio.timeout(DEADLINE_S):
            out, _ = await process.communicate()
        assert process.returncode == 0
        found: dict[str, Any] = json.loads(out)
        return found


@pytest.fixture(scope="module")
def topology(
    tmp_path_factory: pytest.TempPathFactory, bootstrap: str, empty_redis: Callable[[], str]
) -> Iterator[Topology]:
    directory = tmp_path_factory.mktemp("protection")
    settings = Settings(
        kafka=Kafka(bootstrap=bootstrap),
        redis=Redis(url=empty_redis()),
        topics=TopicSettings(prefix=f"protection-{uuid.uuid4().hex[:8]}.", partitions=PARTITIONS),
        client=ClientSettings(deadline_ms=20_000),
    )
    asyncio.run(create(settings.kafka, Topics.of(settings.topics)))
    shared = {
        "HAL9_KAFKA__BOOTSTRAP": bootstrap,
        "HAL9_REDIS__URL": settings.redis.url,
        "HAL9_TOPICS__PREFIX": settings.topics.prefix,
        "HAL9_TOPICS__PARTITIONS": str(PARTITIONS),
    }
    found = Topology(settings, directory / "fault", shared)
    environment = {
        **shared,
        "HAL9_ROUTER__BREAKER_WINDOW_S": "3",
        "HAL9_ROUTER__BREAKER_MIN_REQUESTS": "10",
        "HAL9_ROUTER__IN_FLIGHT_MAX": str(IN_FLIGHT_MAX),
        "HAL9_SYSTEM__FAULT_FILE": str(found.fault),
    }
    try:
        for name in SERVICES:
            own = {k: v for k, v in environment.items() if "ROUTER" not in k or name == "router"}
            service = Supervised(
                name, [sys.executable, "-P", "-m", "hal9", "run", name], log=directory / f"{name}.log", env=own
            )
            service.start()
            found.running[name] = service
        yield found
    finally:
        for service in found.running.values():
            service.stop()


@pytest.fixture
async def client(topology: Topology) -> AsyncIterator[Client]:
    async with Client(settings=topology.settings) as made:
        yield made


@pytest.fixture
async def control(topology: Topology) -> AsyncIterator[ControlFollower]:
    settings = topology.settings
    async with following(settings.kafka, Topics.of(settings.topics), settings.migration.id) as found:
        yield found


async def routed(topology: Topology, control: ControlFollower, percentage: float) -> None:
    settings = topology.settings
    writer = ControlWriter(settings.kafka, Topics.of(settings.topics), control)
    try:
        record = Route(
            id=uuid.uuid4().hex,
            migration=settings.migration.id,
            actor="test",
            at_ms=0,
            expected_epoch=control.state.epoch,
            percentage=percentage,
        )
        outcome = await writer.append(record)
        assert outcome.verdict == "accepted", outcome
        await control.wait_until(lambda s: s.settled_everywhere(outcome.epoch, PARTITIONS), DEADLINE_S)
    finally:
        await writer.close()


async def learn(client: Client, key: str, deadline_s: float = DEADLINE_S) -> Answer:
    return await client.request(key, LESSON, operation="learn", deadline_s=deadline_s)


async def test_reads_go_on_while_a_system_is_stopped_and_say_how_stale_they_are(
    topology: Topology, client: Client, control: ControlFollower
) -> None:
    for key in NEURONS:
        neuron = msgpack.packb({"neuron_id": key, "weights": [0.5, 0.25]})
        answer = await client.request(key, neuron, operation="create", deadline_s=DEADLINE_S)
        assert answer.status == "ok", answer
    await routed(topology, control, 50.0)
    key = MOVED[0]
    first = await learn(client, key)
    assert (first.status, first.served_by) == ("ok", "hierarchical")
    topology.signal("hierarchical", signal.SIGSTOP)
    try:
        writing = asyncio.create_task(learn(client, key, 20.0))
        await until(lambda: client.counts.sent > len(NEURONS) + 1)
        answer = await client.request(key, b"", operation="read", deadline_s=4.0)
        assert (answer.status, answer.served_by, answer.fallback) == ("ok", "flat", True), answer
        assert answer.headers["stale-versions"] in ("0", "1")
        assert answer.headers["state-version"] == "2"
        assert msgpack.unpackb(answer.value)["memory"]["learned"] == 1
    finally:
        topology.signal("hierarchical", signal.SIGCONT)
    second = await writing
    assert (second.status, second.served_by) == ("ok", "hierarchical")


async def test_the_units_of_one_layer_go_back_alone_under_load_and_are_let_go_again(
    topology: Topology, client: Client, control: ControlFollower
) -> None:
    async def create(key: str, layer: str) -> Answer:
        neuron = {"neuron_id": key, "weights": [0.5, 0.25], "response_time_ms": RESPONSE_MS[layer]}
        return await client.request(key, msgpack.packb(neuron), operation="create", deadline_s=DEADLINE_S)

    answers = await asyncio.gather(*(create(key, layer) for key, layer in LAYERED.items()))
    assert {(answer.status, answer.served_by) for answer in answers} == {("ok", "hierarchical")}
    load = Load(client, list(LAYERED))

    async def served(*verb: str) -> dict[str, set[str | None]]:
        """The route is changed while requests go on; by layer, who answers from then on."""
        await load.go_on(len(LAYERED), DEADLINE_S)
        epoch = (await topology.hal9(*verb))["epoch"]
        await load.go_on(len(LAYERED), DEADLINE_S)
        await control.wait_until(lambda s: s.settled_everywhere(epoch, PARTITIONS), DEADLINE_S)
        answers = await asyncio.gather(*(load.learn(key) for key in LAYERED))
        assert {answer.status for answer in answers} == {"ok"}
        found: dict[str, set[str | None]] = {}
        for layer, answer in zip(LAYERED.values(), answers, strict=True):
            found.setdefault(layer, set()).add(answer.served_by)
        return found

    async with asyncio.TaskGroup() as group:
        group.create_task(load.run())
        back = await served("migration", "rollback", "--layer", "tactical")
        assert back == {"reflexive": {"hierarchical"}, "tactical": {"flat"}}
        again = await served("flags", "set", "held=")
        assert again == {"reflexive": {"hierarchical"}, "tactical": {"hierarchical"}}
        load.stopping.set()
    assert await load.violations() == []
    assert control.state.rolled_back is None
    report = await verify(topology.settings, patience_s=DEADLINE_S)
    assert report.stores_equal, report


async def test_a_failing_system_opens_its_breaker_and_is_rolled_back_once(
    topology: Topology, client: Client, control: ControlFollower
) -> None:
    topology.fault.touch()
    async with asyncio.timeout(DEADLINE_S):
        while control.state.rolled_back is None:
            answers = await asyncio.gather(*(learn(client, key) for key in MOVED))
            assert {a.status for a in answers} <= {"ok", "error"}
    epoch = control.state.epoch
    await control.wait_until(lambda s: s.settled_everywhere(epoch, PARTITIONS), DEADLINE_S)
    (rollback,) = [e.record for e in control.state.history if isinstance(e.record, Rollback) and not e.record.scope]
    assert (rollback.trigger, rollback.expected_epoch) == ("breaker", epoch - 1)
    assert rollback.id == f"breaker/hierarchical/{epoch - 1}/1"
    assert rollback.evidence["error_share"] >= 0.5
    answers = await asyncio.gather(*(learn(client, key) for key in MOVED))
    assert {(a.status, a.served_by) for a in answers} == {("ok", "flat")}
    topology.fault.unlink()


async def test_a_system_that_does_not_answer_fills_no_memory_and_each_request_ends_in_an_answer(
    topology: Topology, client: Client
) -> None:
    settings = topology.settings
    listening = AIOKafkaConsumer(
        Topics.of(settings.topics).name("status"), bootstrap_servers=settings.kafka.bootstrap, group_id=None
    )
    await listening.start()
    topology.signal("flat", signal.SIGSTOP)
    try:
        asked = [learn(client, NEURONS[i % len(NEURONS)], 3.0) for i in range(FLOOD)]
        answers = await asyncio.gather(*asked)
    finally:
        topology.signal("flat", signal.SIGCONT)
    found = Counter((a.status, a.error) for a in answers)
    assert found.total() == FLOOD
    assert set(found) <= {("timeout", "deadline"), ("rejected", "overload"), ("rejected", "expired")}, found
    assert not any(a.local for a in answers)
    most = 0
    async with asyncio.timeout(DEADLINE_S):
        while not most:
            for records in (await listening.getmany(timeout_ms=200)).values():
                beats: list[Status] = [decode(status_decoder, record.value) for record in records]
                most = max([most, *(b.in_flight + b.waiting for b in beats if b.service == "router")])
    assert most <= 2 * IN_FLIGHT_MAX * PARTITIONS
    await listening.stop()
    assert (await learn(client, MOVED[0])).status == "ok"
