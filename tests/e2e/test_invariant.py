"""The invariant of the hand-over, on the real stack.

The percentage goes up and down five times under load, and a router, the migrator and a system are each killed with -9
once. Per neuron, `ok <= effects <= ok + timeout`; answers `error` and `rejected` have no effect; every request is
answered; at rest both stores and Redis are equal.
"""

import asyncio
import sys
import uuid
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgpack
import pytest

from hal9.client import Answer, Client
from hal9.control.log import ControlFollower, ControlWriter, following
from hal9.settings import Client as ClientSettings
from hal9.settings import Kafka, Redis, Settings
from hal9.settings import Topics as TopicSettings
from hal9.topics import Topics, create
from schemas.control import Route
from services.migrator.verify import verify
from stack.process import Supervised

PARTITIONS = 3
NEURONS = [f"counter-{i}" for i in range(40)]
PERCENTAGES = (60.0, 10.0, 90.0, 0.0, 75.0, 25.0, 100.0, 50.0, 80.0, 0.0)
"""Five times up, five times down."""
KILLED = {2: "router", 4: "migrator", 6: "hierarchical"}
"""Which service is killed right after which change of the route."""
SERVICES = ("router", "migrator", "flat", "hierarchical")
DEADLINE_S = 60.0
LESSON = msgpack.packb({"inputs": [1.0, 0.5], "delta": 0.001})


@dataclass
class Processes:
    """The services of this test, each a process of its own."""

    directory: Path
    settings: Settings
    running: dict[str, Supervised] = field(default_factory=dict)
    started: int = 0

    def start(self, name: str) -> None:
        """Start a service (again)."""
        self.started += 1
        shared = self.settings
        environment = {
            "HAL9_KAFKA__BOOTSTRAP": shared.kafka.bootstrap,
            "HAL9_REDIS__URL": shared.redis.url,
            "HAL9_TOPICS__PREFIX": shared.topics.prefix,
            "HAL9_TOPICS__PARTITIONS": str(PARTITIONS),
            "HAL9_ROUTER__BREAKER": "false",  # the route is this test's alone
        }
        log = self.directory / f"{name}-{self.started}.log"
        service = Supervised(name, [sys.executable, "-P", "-m", "hal9", "run", name], log=log, env=environment)
        service.start()
        self.running[name] = service

    def stop(self) -> None:
        """Stop them all."""
        for service in self.running.values():
            service.stop()


@pytest.fixture
def processes(tmp_path: Path, bootstrap: str, redis_url: str) -> Iterator[Processes]:
    settings = Settings(
        kafka=Kafka(bootstrap=bootstrap),
        redis=Redis(url=f"{redis_url.rpartition('/')[0]}/14"),
        topics=TopicSettings(prefix=f"invariant-{uuid.uuid4().hex[:8]}.", partitions=PARTITIONS),
        client=ClientSettings(deadline_ms=8_000),
    )
    asyncio.run(create(settings.kafka, Topics.of(settings.topics)))
    found = Processes(tmp_path, settings)
    try:
        for name in SERVICES:
            found.start(name)
        yield found
    finally:
        found.stop()


class Load:
    """Learns at every neuron in turn until told to stop; counts what was answered."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self.stopping, self.moved = asyncio.Event(), asyncio.Event()
        self.sent: Counter[str] = Counter()
        self.answered: dict[str, Counter[str]] = {key: Counter() for key in NEURONS}

    async def run(self) -> None:
        """A few requests of each neuron under way at a time."""
        async with asyncio.TaskGroup() as group:
            for key in NEURONS:
                group.create_task(self._neuron(key))

    async def _neuron(self, key: str) -> None:
        while not self.stopping.is_set():
            for answer in await asyncio.gather(*(self._learn(key) for _ in range(3))):
                self.answered[key][answer.status] += 1
            self.moved.set()

    async def _learn(self, key: str) -> Answer:
        self.sent[key] += 1
        return await self._client.request(key, LESSON, operation="learn")


async def routed(control: ControlFollower, writer: ControlWriter, percentage: float) -> int:
    """Change the route; the new epoch."""
    record = Route(
        id=uuid.uuid4().hex,
        migration=control.state.migration,
        actor="test",
        at_ms=0,
        expected_epoch=control.state.epoch,
        percentage=percentage,
        shadow=50.0,
    )
    outcome = await writer.append(record)
    assert outcome.verdict == "accepted", outcome
    return outcome.epoch


async def driven(processes: Processes, load: Load) -> None:
    """The route up and down, with a service killed now and then; ends when the last epoch has settled."""
    settings = processes.settings
    async with following(settings.kafka, Topics.of(settings.topics), settings.migration.id) as control:
        writer = ControlWriter(settings.kafka, Topics.of(settings.topics), control)
        try:
            for number, percentage in enumerate(PERCENTAGES):
                before = load.sent.total()
                epoch = await routed(control, writer, percentage)
                if number in KILLED:
                    processes.running[KILLED[number]].kill()
                    processes.start(KILLED[number])
                await control.wait_until(lambda state, e=epoch: state.settled_everywhere(e, PARTITIONS), DEADLINE_S)
                async with asyncio.timeout(DEADLINE_S):
                    while load.sent.total() < before + len(NEURONS):
                        load.moved.clear()
                        await load.moved.wait()
        finally:
            load.stopping.set()
            await writer.close()


async def created(client: Client) -> None:
    """Every neuron, with two weights."""
    for key in NEURONS:
        neuron: dict[str, Any] = {"neuron_id": key, "weights": [0.5, 0.25]}
        answer = await client.request(key, msgpack.packb(neuron), operation="create", deadline_s=DEADLINE_S)
        assert answer.status == "ok", answer


async def learned(client: Client, key: str) -> int:
    """Effects that the owner's state holds."""
    answer = await client.request(key, b"", operation="read", deadline_s=DEADLINE_S)
    assert answer.status == "ok", answer
    assert answer.value is not None
    return int(msgpack.unpackb(answer.value)["memory"].get("learned", 0))


async def test_nothing_is_lost_and_nothing_is_done_twice(processes: Processes) -> None:
    async with Client(settings=processes.settings) as client:
        await created(client)
        load = Load(client)
        async with asyncio.TaskGroup() as group:
            group.create_task(load.run())
            group.create_task(driven(processes, load))
        found = {key: await learned(client, key) for key in NEURONS}
    for key, counts in load.answered.items():
        assert counts.total() == load.sent[key], f"{key}: {counts} of {load.sent[key]} answered"
        ok, timeouts = counts["ok"], counts["timeout"]
        assert ok <= found[key] <= ok + timeouts, f"{key}: {found[key]} effects, {counts}"
    assert sum(counts["ok"] for counts in load.answered.values()) > 10 * len(NEURONS)
    report = await verify(processes.settings, patience_s=DEADLINE_S)
    assert report.stores_equal, report
    assert report.keys == len(NEURONS)
