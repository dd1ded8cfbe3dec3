"""docs/moving-producers.md, played: a service that reads its topic itself, then through HAL9, then by itself again.

All the while producers go on that know nothing of it: each request is answered, and none is done twice or left out.
"""

import asyncio
import json
import os
import sys
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import msgpack
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from redis.asyncio import Redis as RedisClient

from hal9 import wire
from hal9.backend.loading import Loader
from hal9.control.log import ControlWriter, following
from hal9.errors import Refused
from hal9.keys import partition_of
from hal9.local.services import Services
from hal9.log.positions import HandingOver, Position
from hal9.log.reading import Reader
from hal9.settings import Kafka, Settings
from hal9.settings import Topics as TopicSettings
from hal9.testing.echoing import until
from hal9.topics import Topics, check, create
from schemas.base import Tree, encode
from schemas.control import Route
from services.migrator.projection import unit_key
from services.migrator.transform import to_neuron
from stack.local import Endpoints
from systems.flat.handler import FlatHandler

PARTITIONS = 2
KEYS = [f"n{number}" for number in range(10)]
LESSON = encode({"inputs": [1.0], "delta": 0.001})
NAME = f"shop-{uuid4().hex[:8]}"
REQUESTS, ANSWERS, OLD, NEW = f"{NAME}.in", f"{NAME}.out", f"{NAME}-old", f"{NAME}-new"


@pytest.fixture
def environment(endpoints: Endpoints, empty_redis: Callable[[], str]) -> dict[str, str]:
    """The page's settings: the service's own topics are the requests and the answers."""
    return {
        "HAL9_KAFKA__BOOTSTRAP": endpoints.bootstrap,
        "HAL9_REDIS__URL": empty_redis(),
        "HAL9_TOPICS__PREFIX": f"{NAME}.",
        "HAL9_TOPICS__PARTITIONS": str(PARTITIONS),
        "HAL9_TOPICS__REQUESTS": REQUESTS,
        "HAL9_TOPICS__RESPONSES": ANSWERS,
        "HAL9_ROUTER__DEADLINE_MS": "60000",
        "HAL9_MIGRATION__ID": NAME,
    }


@pytest.fixture
def settings(environment: dict[str, str]) -> Settings:
    topics = TopicSettings(prefix=f"{NAME}.", partitions=PARTITIONS, requests=REQUESTS, responses=ANSWERS)
    return Settings(kafka=Kafka(bootstrap=environment["HAL9_KAFKA__BOOTSTRAP"]), topics=topics)


@pytest.fixture
def processes(tmp_path: Path, environment: dict[str, str]) -> Iterator[tuple[Services, Services]]:
    """The router, and the rest, so that the one can be stopped without the other."""
    both = Services(tmp_path / "router", environment), Services(tmp_path / "rest", environment)
    try:
        yield both
    finally:
        for one in both:
            one.stop()


async def hal9(environment: dict[str, str], *arguments: str) -> Any:
    """A verb in a shell, which must succeed; what it prints as JSON."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "hal9", *arguments, "-o", "json"),
        env=os.environ | environment,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(120):
        out, err = await process.communicate()
    assert process.returncode == 0, (out, err)
    return json.loads(out)


@asynccontextmanager
async def direct_service(bootstrap: str, group: str, states: dict[str, Tree]) -> AsyncIterator[None]:
    """What the service is without HAL9: it reads, computes on `states`, answers, commits; stops with nothing begun."""
    handler, stopping = FlatHandler(), asyncio.Event()
    consumer = AIOKafkaConsumer(
        REQUESTS, bootstrap_servers=bootstrap, group_id=group, enable_auto_commit=False, auto_offset_reset="earliest"
    )
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, acks="all")

    async def serve() -> None:
        while not stopping.is_set():
            batches = await consumer.getmany(timeout_ms=50)
            for record in [record for batch in batches.values() for record in batch]:
                headers = dict(record.headers)
                key = record.key.decode()
                state, answer = handler(states[key], headers["operation"].decode(), record.value)
                states[key] = state or {}
                written = [("id", headers["id"]), ("status", b"ok")]
                await producer.send_and_wait(ANSWERS, answer, key=record.key, headers=written)
            if batches:
                await consumer.commit()

    await consumer.start()
    await producer.start()
    serving = asyncio.create_task(serve())
    try:
        yield
    finally:
        stopping.set()
        await serving
        await producer.stop()
        await consumer.stop()


async def topics_of_the_service(bootstrap: str) -> None:
    """Made long ago, by others."""
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    log_time = {"message.timestamp.type": "LogAppendTime"}
    wanted = [NewTopic(REQUESTS, PARTITIONS, 1, topic_configs=log_time), NewTopic(ANSWERS, PARTITIONS, 1)]
    await admin.create_topics(wanted)
    await admin.close()


@dataclass
class Clients:
    """Producers that go on and on, and what they are answered."""

    asked: dict[str, str] = field(default_factory=dict)
    answers: dict[str, list[tuple[str, str]]] = field(default_factory=dict)
    """By id: status and who served, in order."""

    def served(self, system: str) -> int:
        """How many requests were answered by a system; "" is the service without HAL9."""
        return sum(said[0] == ("ok", system) for said in self.answers.values())

    async def produce(self, bootstrap: str, stopping: asyncio.Event) -> None:
        """Some requests every few milliseconds, with no deadline, by the client's own partitioner."""
        async with AIOKafkaProducer(bootstrap_servers=bootstrap, acks="all") as producer:
            while not stopping.is_set():
                for key in KEYS:
                    name = uuid4().hex
                    self.asked[name] = key
                    headers = [("id", name.encode()), ("operation", b"learn")]
                    await producer.send(REQUESTS, LESSON, key=key.encode(), headers=headers)
                await asyncio.sleep(0.05)  # the load's own beat

    async def read(self, reader: Reader) -> None:
        """Read the answers until cancelled."""
        starts = {TopicPartition(ANSWERS, number): 0 for number in range(PARTITIONS)}
        async for chunk in reader.follow(starts):
            for record in chunk.records:
                name = wire.text(record.headers, wire.ID) or ""
                said = wire.text(record.headers, wire.STATUS) or "", wire.text(record.headers, wire.SERVED_BY) or ""
                self.answers.setdefault(name, []).append(said)


@asynccontextmanager
async def clients(kafka: Kafka) -> AsyncIterator[tuple[Clients, asyncio.Event]]:
    """Clients at work, until the event is set."""
    found, stopping = Clients(), asyncio.Event()
    async with Reader(kafka) as reader, asyncio.TaskGroup() as group:
        reading = group.create_task(found.read(reader))
        group.create_task(found.produce(kafka.bootstrap, stopping))
        try:
            yield found, stopping
        finally:
            stopping.set()
            reading.cancel()


def neuron(key: str) -> Tree:
    """A state of the service, as HAL9 keeps it."""
    who = {"neuron_id": key, "neuron_type": "n", "activation": "relu", "is_async": False, "created_at": 1}
    knows = {"weights": [0.5], "bias": 0.0, "learning_rate": 0.01, "momentum": [0.0], "connections": []}
    return {**who, **knows, "memory": {"learned": 0}, "context": {}, "response_time_ms": 5.0}


async def everything_to_hierarchical(settings: Settings) -> None:
    """The migration itself, in one step: other tests walk it."""
    topics = Topics.of(settings.topics)
    async with following(settings.kafka, topics, NAME) as follower:
        writer = ControlWriter(settings.kafka, topics, follower)
        who = {"id": uuid4().hex, "migration": NAME, "actor": "test", "at_ms": 1}
        await writer.append(Route(**who, expected_epoch=0, percentage=100))  # type: ignore[arg-type]
        await follower.wait_until(lambda state: state.settled_everywhere(1, PARTITIONS), 60)
        await writer.close()


async def states_in_redis(url: str) -> dict[str, Tree]:
    """What the new service starts from: the units."""
    redis = RedisClient.from_url(url)
    try:
        found = {}
        for key in KEYS:
            unit = await redis.hget(unit_key(partition_of(key.encode(), PARTITIONS), key), "unit")  # type: ignore[misc]
            found[key] = to_neuron(msgpack.unpackb(unit))
        return found
    finally:
        await redis.aclose()


async def test_a_service_comes_under_hal9_and_leaves_it_again_while_its_clients_go_on(
    settings: Settings, environment: dict[str, str], processes: tuple[Services, Services], tmp_path: Path
) -> None:
    bootstrap = settings.kafka.bootstrap
    router, rest = processes
    topics = Topics.of(settings.topics)
    handing = HandingOver(settings.kafka, topics, deadline_s=30)
    await topics_of_the_service(bootstrap)
    states = {key: neuron(key) for key in KEYS}
    async with clients(settings.kafka) as (load, enough):
        # As it was, and what can be prepared meanwhile.
        async with direct_service(bootstrap, OLD, states):
            await hal9(environment, "topics", "create")
            assert await check(settings.kafka, topics) == []
            with pytest.raises(Refused, match="members"):
                await handing.adopt(OLD, 0)
            await until(lambda: load.served("") > 100)
        # In: state, positions, services.
        dump = tmp_path / "states.jsonl"
        dump.write_text("".join(json.dumps({"key": key, "state": state}) + "\n" for key, state in states.items()))
        before = sum(state["memory"]["learned"] for state in states.values())
        assert (await hal9(environment, "state", "load", str(dump)))["keys"] == len(KEYS)
        adopted = await hal9(environment, "topics", "adopt", "--from-group", OLD)
        assert sum(one["position"] for one in adopted) == before
        with pytest.raises(Refused, match="already"):
            await handing.adopt(OLD, 0)
        with pytest.raises(Refused, match="of the keys are held already"):
            await Loader(settings, "flat", deadline_s=30).load({key.encode(): neuron(key) for key in KEYS})
        names = ("flat", "hierarchical", "migrator")
        router.start(["router"])
        rest.start(names)
        await asyncio.to_thread(router.await_ready, lambda _: None, ["router"])
        await asyncio.to_thread(rest.await_ready, lambda _: None, names)
        await until(lambda: load.served("flat") > 100, 60)
        # The migration.
        await everything_to_hierarchical(settings)
        await until(lambda: load.served("hierarchical") > 100, 60)
        with pytest.raises(Refused, match="members"):
            await handing.release(NEW)
        # Out again.
        await asyncio.to_thread(router.stop)
        released = await hal9(environment, "topics", "release", "--to-group", NEW)
        assert (await hal9(environment, "state", "verify"))["stores_equal"]
        states = await states_in_redis(environment["HAL9_REDIS__URL"])
        assert sum(state["memory"]["learned"] for state in states.values()) == sum(one["position"] for one in released)
        through, alone = load.served("flat") + load.served("hierarchical"), load.served("")
        async with direct_service(bootstrap, NEW, states):
            await until(lambda: load.served("") > alone + 100, 60)
            enough.set()
            await until(lambda: len(load.answers) == len(load.asked), 60)
    assert through > 200
    assert {said[0][0] for said in load.answers.values()} == {"ok"}
    assert set(load.answers) == set(load.asked)
    done = Counter(load.asked.values())
    assert {key: state["memory"]["learned"] for key, state in states.items()} == dict(done)


async def test_nothing_is_given_back_while_a_request_that_was_dispatched_has_no_answer(bootstrap: str) -> None:
    kafka, topics = Kafka(bootstrap=bootstrap), Topics(prefix=f"back-{uuid4().hex[:8]}.", partitions=1)
    await create(kafka, topics)
    handing = HandingOver(kafka, topics, deadline_s=30)
    async with AIOKafkaProducer(bootstrap_servers=bootstrap, acks="all") as producer:
        for number in range(2):
            await producer.send_and_wait(topics.name("requests"), b"", key=b"n", partition=0)
            named = [("id", b"r%d" % number)]
            if number == 0:
                claim = await producer.send_and_wait(topics.name("dispatched"), b"", key=b"\0claim/a", partition=0)
            term = [("term", b"%d" % (claim.offset - number))]  # the second one is a zombie's, and void
            await producer.send_and_wait(topics.name("dispatched"), b"", key=b"n", headers=named + term)
        with pytest.raises(Refused, match="committed nothing"):
            await handing.release("new")
        consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap, group_id=handing.router, enable_auto_commit=False)
        await consumer.start()
        at = TopicPartition(topics.name("requests"), 0)
        consumer.assign([at])
        await consumer.commit({at: 2})
        await consumer.stop()
        with pytest.raises(Refused, match=r"1 requests are under way \(r0\)"):
            await handing.release("new")
        await producer.send_and_wait(topics.name("responses"), b"", key=b"n", headers=[("id", b"r0")])
        assert await handing.release("new") == [Position(0, 2, 0)]
        # The same default id, of a topic made anew: the answer was another request's.
        again = [("id", b"r0"), ("term", b"%d" % claim.offset), ("base", b"1000")]
        await producer.send_and_wait(topics.name("dispatched"), b"", key=b"n", headers=again)
        with pytest.raises(Refused, match=r"1 requests are under way \(r0\)"):
            await handing.release("new")
