"""The verbs on a real broker and a real Valkey: what they print, and how they exit."""

import asyncio
import json
import os
import signal
import sys
import uuid
from collections.abc import Callable
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer
from msgspec.structs import replace
from redis.asyncio import Redis as RedisClient

from hal9 import wire
from hal9.backend.store import envelope
from hal9.keys import partition_of
from hal9.settings import Kafka, Migration, Redis, Settings
from hal9.settings import Topics as TopicSettings
from hal9.topics import Topics, create
from schemas.base import FLAT, HIERARCHICAL, encode
from schemas.reports import Divergence, FieldDifference
from schemas.telemetry import Status
from services.migrator.projection import unit_key
from services.migrator.transform import to_unit

PARTITIONS = 2


@pytest.fixture(scope="module")
def shared(bootstrap: str, empty_redis: Callable[[], str]) -> Settings:
    prefix = f"cli-{uuid.uuid4().hex[:8]}."
    made = Settings(
        kafka=Kafka(bootstrap=bootstrap),
        redis=Redis(url=empty_redis()),
        topics=TopicSettings(prefix=prefix, partitions=PARTITIONS),
    )
    asyncio.run(create(made.kafka, Topics.of(made.topics)))
    return made


@pytest.fixture
def settings(shared: Settings) -> Settings:
    """Topics that all tests share, and a migration of the test's own on them."""
    return replace(shared, migration=Migration(id=uuid.uuid4().hex))


def environment(settings: Settings) -> dict[str, str]:
    return {
        **os.environ,
        "HAL9_KAFKA__BOOTSTRAP": settings.kafka.bootstrap,
        "HAL9_REDIS__URL": settings.redis.url,
        "HAL9_MIGRATION__ID": settings.migration.id,
        "HAL9_TOPICS__PREFIX": settings.topics.prefix,
        "HAL9_TOPICS__PARTITIONS": str(settings.topics.partitions),
    }


async def start(settings: Settings, *arguments: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        "from hal9.cli.main import main; main()",
        *arguments,
        env=environment(settings),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )


async def hal9(settings: Settings, *arguments: str) -> tuple[int | None, str, str]:
    process = await start(settings, *arguments)
    async with asyncio.timeout(60):
        out, err = await process.communicate()
    return process.returncode, out.decode(), err.decode()


async def as_json(settings: Settings, *arguments: str, code: int = 0) -> Any:
    """What a verb prints with `-o json`, which must be all that is on stdout."""
    found, out, err = await hal9(settings, *arguments, "-o", "json")
    assert found == code, err
    return json.loads(out)


async def append(settings: Settings, log: str, key: bytes, value: bytes | None, **headers: bytes) -> None:
    producer = AIOKafkaProducer(bootstrap_servers=settings.kafka.bootstrap)
    await producer.start()
    topics = Topics.of(settings.topics)
    partition = partition_of(key, PARTITIONS) if topics.partitions_of(log) > 1 else 0
    named = [(name.replace("_", "-"), content) for name, content in headers.items()]
    try:
        await producer.send_and_wait(topics.name(log), value, key=key, partition=partition, headers=named)
    finally:
        await producer.stop()


async def change(settings: Settings, log: str, key: str, version: int, state: dict[str, Any] | None) -> None:
    headers = wire.change_headers(wire.Change(version, None, 0, "flat", "ok", None), 0, 0)
    named = {name.replace("-", "_"): value for name, value in headers}
    await append(settings, log, key.encode(), envelope(state, None), **named)


def neuron(key: str) -> dict[str, Any]:
    return {
        "neuron_id": key,
        "neuron_type": "hidden",
        "activation": "relu",
        "weights": [0.5],
        "bias": 0.1,
        "learning_rate": 0.01,
        "momentum": [0.0],
        "connections": [],
        "memory": {},
        "context": {},
        "response_time_ms": 5.0,
        "is_async": False,
        "created_at": 1,
    }


async def test_topics_are_made_once_and_checked(bootstrap: str) -> None:
    settings = Settings(
        kafka=Kafka(bootstrap=bootstrap),
        topics=TopicSettings(prefix=f"cli-{uuid.uuid4().hex[:8]}.", partitions=PARTITIONS),
    )
    assert len(await as_json(settings, "topics", "check", code=1)) == 15
    would = await as_json(settings, "topics", "create", "--dry-run")
    assert {row["done"] for row in would} == {"would be created"}
    made = await as_json(settings, "topics", "create")
    assert [row["topic"] for row in made] == [row["topic"] for row in would]
    assert await as_json(settings, "topics", "create") == []
    assert await as_json(settings, "topics", "check") == []
    other = replace(settings, topics=replace(settings.topics, partitions=3))
    problems = await as_json(other, "topics", "check", code=1)
    assert len(problems) == 10
    assert "2 partitions, not 3" in problems[0]["problem"]


async def test_a_service_with_another_number_of_partitions_does_not_begin(settings: Settings) -> None:
    wrong = replace(settings, topics=replace(settings.topics, partitions=PARTITIONS + 1))
    code, _, err = await hal9(wrong, "run", "router")
    assert code == 2
    assert f"has {PARTITIONS} partitions, not {PARTITIONS + 1}" in err


async def test_a_migration_is_started_looked_at_rolled_back_and_remembered(settings: Settings) -> None:
    before = await as_json(settings, "migration", "status")
    assert (before["standing"], before["epoch"], before["services"]) == ("not started", 0, {})
    would = await as_json(settings, "migration", "start", "demo", "--dry-run")
    assert would["done"] == "nothing: a dry run"
    started = await as_json(settings, "migration", "start", "demo")
    assert started["done"] == "accepted"
    assert "@" in started["who"]
    code, out, err = await hal9(settings, "migration", "start", "demo")
    assert (code, out) == (4, "")
    assert "a migration is under way" in err
    plan = await as_json(settings, "migration", "rollback", "--plan", "--phase", "2")
    assert (plan["epoch"], plan["done"]) == (1, "nothing: a dry run")
    back = await as_json(settings, "migration", "rollback", "--reason", "looks wrong")
    assert (back["epoch"], back["percentage"], back["done"]) == (1, 0.0, "accepted")
    after = await as_json(settings, "migration", "status")
    assert (after["standing"], after["reason"], after["epoch"]) == ("rolled back", "looks wrong", 1)
    history = await as_json(settings, "migration", "history")
    assert [(row["type"], row["verdict"]) for row in history] == [
        ("start", "accepted"),
        ("start", "refused"),
        ("rollback", "accepted"),
    ]
    assert history[2]["record"]["trigger"] == "manual"
    assert history[2]["actor"] == started["who"]


async def test_flags_are_listed_set_together_and_refused_with_the_reason(settings: Settings) -> None:
    rows = {row["flag"]: row for row in await as_json(settings, "flags", "list")}
    assert (rows["percentage"]["value"], rows["percentage"]["epoch"], rows["percentage"]["by"]) == (0.0, 0, None)
    wanted = ("percentage=10", "layers.intelligence=off", "prefixes.team-a/=flat")
    would = await as_json(settings, "flags", "set", *wanted, "--dry-run")
    assert (would["epoch"], would["percentage"], would["done"]) == (1, 10.0, "nothing: a dry run")
    done = await as_json(settings, "flags", "set", *wanted, "--reason", "a try")
    assert (done["epoch"], done["done"]) == (1, "accepted")
    code, out, err = await hal9(settings, "flags", "set", "layers.protocol=off")
    assert (code, out) == (4, "")
    assert "layers.cognitive needs layers.protocol" in err
    code, out, err = await hal9(settings, "flags", "set", "percentag=5")
    assert code == 2
    assert "did you mean percentage?" in err
    found = await as_json(settings, "flags", "get", "layers.intelligence")
    assert (found["value"], found["epoch"], found["by"]) == (False, 1, done["who"])
    code, out, err = await hal9(settings, "flags", "get", "prefixes.team-a/")
    assert (code, out) == (0, "flat\n")
    history = await as_json(settings, "migration", "history")
    assert [(row["type"], row["verdict"]) for row in history] == [("flags", "accepted"), ("flags", "refused")]


async def test_watching_goes_on_until_it_is_interrupted(settings: Settings) -> None:
    process = await start(settings, "migration", "status", "--watch", "-o", "json")
    assert process.stdout is not None
    async with asyncio.timeout(60):
        first = json.loads(await process.stdout.readline())
        assert first["standing"] == "not started"
        await hal9(settings, "migration", "start", "demo")
        second = json.loads(await process.stdout.readline())
        assert second["standing"] == "running"
        process.send_signal(signal.SIGINT)
        _, err = await process.communicate()
    assert process.returncode == 130
    assert err == b""


async def test_living_services_are_seen(settings: Settings) -> None:
    async def beat() -> None:
        while True:
            status = Status(instance="router-1", service="router", at_ms=0, epochs={0: 0, 1: 0}, in_flight=4)
            await append(settings, "status", b"router-1", encode(status))
            await asyncio.sleep(0.1)

    beating = asyncio.create_task(beat())
    try:
        found = await as_json(settings, "migration", "status")
    finally:
        beating.cancel()
        await asyncio.wait([beating])
    assert (found["services"], found["in_flight"], found["effective"]) == ({"router": 1}, 4, 0.0)


async def test_equal_stores_are_found_equal_and_each_difference_is_named(settings: Settings) -> None:
    redis = RedisClient.from_url(settings.redis.url)
    await redis.flushdb()

    async def project(key: str, version: int) -> None:
        name = unit_key(partition_of(key.encode(), PARTITIONS), key)
        await redis.hset(name, mapping={"version": version, "unit": encode(to_unit(neuron(key)))})

    for key in ("a", "b", "c"):
        await change(settings, "neurons.changes", key, 1, neuron(key))
        await change(settings, "units.replica", key, 1, to_unit(neuron(key)))
        await project(key, 1)
    found = await as_json(settings, "state", "verify", "--patience", "0")
    assert (found["stores_equal"], found["keys"], found["equal"]) == (True, 3, 3)

    await change(settings, "neurons.changes", "a", 2, neuron("a"))
    await change(settings, "units.replica", "b", 1, to_unit({**neuron("b"), "bias": 0.2}))
    await project("c", 9)
    found = await as_json(settings, "state", "verify", "--patience", "0.6", code=1)
    assert not found["stores_equal"]
    assert {(d["key"], d["kind"]) for d in found["differences"]} == {
        ("a", "version"),
        ("b", "state"),
        ("b", "redis-unit"),
        ("c", "redis-version"),
    }
    without = await as_json(settings, "state", "verify", "--patience", "0", "--no-redis", code=1)
    assert {d["key"] for d in without["differences"]} == {"a", "b"}
    code, out, _ = await hal9(settings, "state", "verify", "--patience", "0")
    assert code == 1
    assert "redis-version" in out

    process = await start(settings, "state", "verify", "--no-redis", "--patience", "50", "-o", "json")
    await change(settings, "units.replica", "a", 2, to_unit(neuron("a")))
    await change(settings, "neurons.changes", "b", 2, neuron("b"))
    await change(settings, "units.replica", "b", 2, to_unit(neuron("b")))
    async with asyncio.timeout(60):
        printed, _ = await process.communicate()
    assert process.returncode == 0, "what is only in motion is no difference"
    assert json.loads(printed)["equal"] == 3

    held = await as_json(settings, "state", "get", "a")
    assert (held["owner"], held[FLAT]["version"], held[HIERARCHICAL]["version"], held["redis"]["version"]) == (
        FLAT,
        2,
        2,
        1,
    )
    assert held["redis"]["unit"] == to_unit(neuron("a"))
    nobody = await as_json(settings, "state", "get", "nobody", code=1)
    assert nobody[FLAT] is nobody[HIERARCHICAL] is nobody["redis"] is None
    await redis.flushdb()
    await redis.aclose()


async def test_divergences_are_listed_and_followed(settings: Settings) -> None:
    async def diverge(number: int) -> None:
        report = Divergence(
            id=f"id-{number}",
            position=f"0:{number}",
            operation="activate",
            epoch=1,
            primary="flat",
            kind="value",
            fields=[FieldDifference(path="outputs.0", flat=1.0, hierarchical=2.0)],
            at_ms=1_760_000_000_000 + number,
        )
        await append(settings, "divergences", f"n{number}".encode(), encode(report))

    for number in range(4):
        await diverge(number)
    await append(settings, "divergences", b"x", b"garbage")
    code, out, _ = await hal9(settings, "divergences", "tail", "-n", "3")
    lines = out.splitlines()
    assert (code, len(lines)) == (0, 3)
    assert "outputs.0: flat 1.0, hierarchical 2.0" in lines[1]
    assert "unreadable" in lines[2]
    filters = ("--operation", "activate", "--kind", "value", "--path", "outputs.*", "-o", "json")
    _, out, _ = await hal9(settings, "divergences", "tail", "-n", "20", *filters)
    assert [json.loads(line)["id"] for line in out.splitlines()] == [f"id-{number}" for number in range(4)]
    assert (await hal9(settings, "divergences", "tail", "--path", "inputs.**"))[:2] == (0, "")
    code, _, err = await hal9(settings, "divergences", "tail", "--kind", "values")
    assert (code, "nearest is 'value'" in err) == (2, True)
    code, out, _ = await hal9(settings, "divergences", "summary")
    assert (code, out.splitlines()[0]) == (0, "4 divergences in 0 comparisons; 0 with a twin")
    assert out.splitlines()[2].split()[:4] == ["insufficient", "activate", "value", "outputs.*"]
    process = await start(settings, "divergences", "tail", "-n", "1", "--follow", "-o", "json")
    assert process.stdout is not None
    async with asyncio.timeout(60):
        assert "unreadable" in json.loads(await process.stdout.readline())
        await diverge(9)
        followed = json.loads(await process.stdout.readline())
        assert (followed["id"], followed["key"]) == ("id-9", "n9")
        process.send_signal(signal.SIGINT)
        await process.communicate()
    assert process.returncode == 130


async def test_a_request_without_anybody_to_answer_times_out_with_1(settings: Settings) -> None:
    answer = await as_json(settings, "request", "send", "n", "x", "--timeout", "0.3", code=1)
    assert (answer["status"], answer["error"], answer["local"]) == ("timeout", "no-answer", True)
    would = await as_json(settings, "request", "send", "n", "x", "--dry-run")
    assert would["partition"] == partition_of(b"n", PARTITIONS)
