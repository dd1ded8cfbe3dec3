"""Hostile records against the running topology: each is answered or quarantined, and nothing stops.

Half of the keys are at each system, all are shadowed: whatever gets through is executed, compared and copied.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import uuid4

import pytest
from aiokafka.errors import MessageSizeTooLargeError
from msgspec import msgpack
from msgspec.structs import replace

from hal9 import wire
from hal9.control.log import ControlFollower, ControlWriter, following
from hal9.control.reducer import ROUTE_SALT, salt
from hal9.keys import bucket_of, partition_of
from hal9.local.services import Services
from hal9.log.reading import read_range
from hal9.settings import Kafka, Settings
from hal9.settings import Topics as TopicSettings
from hal9.testing import malice
from hal9.testing.echoing import until
from hal9.testing.hostile import Attacker, NotText, RawHeaders, attacking
from hal9.topics import Topics, create
from schemas.base import SYSTEMS, encode
from schemas.control import Rollback, Route
from schemas.state import RouteMark, Seal
from stack.local import Endpoints

SERVICES = ("router", "flat", "hierarchical", "migrator", "guardian", "orchestrator")
PARTITIONS = 2


@pytest.fixture(scope="module")
def settings(endpoints: Endpoints, empty_redis: Callable[[], str]) -> Settings:
    made = Settings(
        kafka=Kafka(bootstrap=endpoints.bootstrap),
        topics=TopicSettings(prefix=f"hostile-{uuid4().hex[:8]}.", partitions=PARTITIONS),
    )
    return replace(made, redis=replace(made.redis, url=empty_redis()))


@pytest.fixture(scope="module")
def topics(settings: Settings) -> Topics:
    return Topics.of(settings.topics)


@pytest.fixture(scope="module")
def services(settings: Settings, topics: Topics, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Services]:
    """The processes, at 50 %, with everything shadowed."""
    asyncio.run(create(settings.kafka, topics))
    environment = {
        "HAL9_KAFKA__BOOTSTRAP": settings.kafka.bootstrap,
        "HAL9_REDIS__URL": settings.redis.url,
        "HAL9_TOPICS__PREFIX": settings.topics.prefix,
        "HAL9_TOPICS__PARTITIONS": str(PARTITIONS),
        "HAL9_GUARDIAN__ERROR_RATE": "1",
    }
    running = Services(tmp_path_factory.mktemp("hostile"), environment)
    try:
        running.start(SERVICES)
        running.await_ready(lambda _: None, SERVICES)
        asyncio.run(half_way(settings, topics))
        yield running
    finally:
        running.stop()


def who() -> dict[str, Any]:
    return {"id": uuid4().hex, "migration": "hal9", "actor": "test", "at_ms": 1}


@asynccontextmanager
async def controlling(settings: Settings, topics: Topics) -> AsyncIterator[tuple[ControlFollower, ControlWriter]]:
    async with following(settings.kafka, topics, "hal9") as follower:
        writer = ControlWriter(settings.kafka, topics, follower)
        yield follower, writer
        await writer.close()


async def half_way(settings: Settings, topics: Topics) -> None:
    async with controlling(settings, topics) as (follower, writer):
        await writer.append(Route(**who(), expected_epoch=0, percentage=50, shadow=100))
        await follower.wait_until(lambda state: state.settled_everywhere(1, PARTITIONS), 30)


@pytest.fixture
async def attacker(settings: Settings, topics: Topics, services: Services) -> AsyncIterator[Attacker]:
    """Afterwards: every partition serves, and no process has ended."""
    pids = {name: services.pid(name) for name in SERVICES}
    async with attacking(settings.kafka, topics) as attacker:
        yield attacker
        services.refuse_ended()
        await attacker.every_partition_serves()
    assert {name: services.pid(name) for name in SERVICES} == pids


def fresh() -> bytes:
    return uuid4().hex.encode()


def neuron(key: bytes) -> bytes:
    return encode({"neuron_id": key.decode(), "weights": [1.0, 2.0]})


# ---------------------------------------------------------------------- requests
async def test_keys_that_are_no_neuron_ids(attacker: Attacker) -> None:
    wanted = {await attacker.produce("requests", key, b"x"): ["rejected bad-key"] for key in malice.BAD_KEYS.values()}
    await attacker.answered(wanted)


async def test_odd_keys_that_are_neuron_ids(attacker: Attacker) -> None:
    keys = [b" ", b"\n", b"a\0b", b"}{", b"*", "ünï/\U0001f600".encode(), (uuid4().hex * 8).encode(), b"\x7f\x1b[2J"]
    wanted = {await attacker.request(key, "create", neuron(key)): ["ok"] for key in keys}
    await attacker.answered(wanted)
    await attacker.answered({await attacker.request(key, "read"): ["ok"] for key in keys})


async def test_headers_that_are_refused(attacker: Attacker) -> None:
    wanted = {await attacker.produce("requests", fresh(), b"", h): [said] for h, said in malice.BAD_HEADERS.values()}
    await attacker.answered(wanted)


async def test_headers_that_do_no_harm(attacker: Attacker) -> None:
    harmless = malice.HARMLESS_HEADERS.values()
    wanted = {await attacker.produce("requests", fresh(), b"", h): ["error unknown-neuron"] for h in harmless}
    await attacker.answered(wanted)


async def test_headers_that_are_ours_are_dropped(attacker: Attacker, settings: Settings, topics: Topics) -> None:
    key = fresh()
    name = await attacker.produce("requests", key, neuron(key), [("operation", b"create"), *malice.RESERVED])
    await attacker.answered({name: ["ok"]})
    found = await read_range(settings.kafka, topics.name("dispatched"), partition_of(key, PARTITIONS))
    (headers,) = [record.headers for record in found if record.key == key]
    position = b"%d:%s" % (partition_of(key, PARTITIONS), name.rpartition("-")[2].encode())
    assert [value for name, value in headers if name == "position"] == [position]
    assert not {b"99", b"nobody", b"9999999999999999", b"by-me"} & {value for _, value in headers}


async def test_a_header_name_that_is_not_text_is_quarantined(attacker: Attacker, topics: Topics) -> None:
    await attacker.produce("requests", fresh(), b"x", [(NotText("x"), b"1")])
    await attacker.quarantined("requests", ["unreadable"])


async def test_one_id_is_one_request(attacker: Attacker) -> None:
    key, name = fresh(), uuid4().hex
    await attacker.answered({await attacker.request(key, "create", neuron(key)): ["ok"]})
    again: RawHeaders = [("id", name.encode()), ("operation", b"learn")]
    lesson = encode({"inputs": [1.0, 1.0], "delta": 0.1})
    for value in (lesson, lesson, b"something else", None):
        await attacker.produce("requests", key, value, again)
    for other in (fresh(), None, None):
        await attacker.produce("requests", other, lesson, again)
    # Those that came while the first was under way share its answer.
    wanted = {"ok", "error unknown-neuron", "rejected bad-key"}
    await until(lambda: set(attacker.answers.said(name)) == wanted)
    before = attacker.answers.said(name).count("ok")
    await attacker.produce("requests", key, lesson, again)
    await until(lambda: attacker.answers.said(name).count("ok") == before + 1)
    read = await attacker.request(key, "read")
    await attacker.answered({read: ["ok"]})
    assert msgpack.decode(attacker.answers.by_id[read][0].value or b"")["memory"]["learned"] == 1


async def test_requests_on_the_wrong_partition_are_served_on_the_right_one(attacker: Attacker) -> None:
    wanted = {}
    for headers in ([], malice.RESERVED, [("h", b"")] * 32, [("h", b"x" * 8191)], [("deadline-ms", b"-")]):
        key = fresh()
        there = (partition_of(key, PARTITIONS) + 1) % PARTITIONS
        said = "rejected bad-deadline" if headers[:1] == [("deadline-ms", b"-")] else "error unknown-neuron"
        wanted[await attacker.produce("requests", key, b"", headers, there)] = [said]
    await attacker.answered(wanted)


@pytest.mark.parametrize("operation", ["process", "activate", "learn", "create"])
async def test_values_that_no_operation_takes(attacker: Attacker, operation: str) -> None:
    wanted = {}
    for name, value in malice.VALUES.items():
        key = fresh()
        if operation != "create":
            await attacker.request(key, "create", neuron(key))
        said = "ok" if (operation, name) == ("learn", "a huge integer") else "error bad-value"
        wanted[await attacker.request(key, operation, value)] = [said]
    await attacker.answered(wanted)


async def test_odd_states_are_kept_copied_and_compared(attacker: Attacker) -> None:
    keys = [fresh() for _ in malice.MEMORIES for _ in range(4)]
    values = [malice.memory(held) for held in malice.MEMORIES.values() for _ in range(4)]
    lesson = encode({"inputs": [1.0], "delta": 1.0})
    for operation, value in (("create", None), ("learn", lesson), ("read", b""), ("delete", b"")):
        wanted = {}
        for key, first in zip(keys, values, strict=True):
            wanted[await attacker.request(key, operation, first if value is None else value)] = ["ok"]
        await attacker.answered(wanted)


async def test_a_neuron_of_many_connections_is_larger_as_a_unit(attacker: Attacker) -> None:
    edges = [{"target": "t", "weight": 0, "kind": "x"} for _ in range(10_000)]
    value = encode({"neuron_id": "n", "weights": [], "connections": edges})
    wanted = {}
    for key in [fresh() for _ in range(8)]:
        at_flat = bucket_of(salt("hal9", ROUTE_SALT), key) >= 5000
        wanted[await attacker.request(key, "create", value)] = ["ok" if at_flat else "error state-too-large"]
    await attacker.answered(wanted)


async def test_values_over_the_limit(attacker: Attacker) -> None:
    sizes = (256 * 1024 + 1, 900_000)
    wanted = {await attacker.produce("requests", fresh(), b"x" * n): ["rejected too-large"] for n in sizes}
    await attacker.answered(wanted)
    with pytest.raises(MessageSizeTooLargeError):
        await attacker.produce("requests", fresh(), b"x" * 2_000_000)


@pytest.mark.parametrize("operation", ["nothing", "__class__", "drop.table", "-", "o" * 64])
async def test_unknown_operations(attacker: Attacker, operation: str) -> None:
    await attacker.answered({await attacker.request(fresh(), operation, b"x"): ["error unknown-operation"]})


@pytest.mark.parametrize("codec", [1, 2, 3, 4], ids=["gzip", "snappy", "lz4", "zstd"])
async def test_compressed_requests_are_read_and_unpacked_giants_refused(attacker: Attacker, codec: int) -> None:
    key = fresh()
    made = await attacker.produce("requests", key, neuron(key), [("operation", b"create")], codec=codec)
    giant = b"k" * 4_000_000
    wanted = {made: ["ok"]}
    wanted[await attacker.produce("requests", giant, b"", codec=codec, partition=0)] = ["rejected bad-key"]
    wanted[await attacker.produce("requests", fresh(), giant, codec=codec)] = ["rejected too-large"]
    wanted[await attacker.produce("requests", fresh(), b"", [("h", giant)], codec=codec)] = ["rejected bad-headers"]
    wanted[await attacker.produce("requests", fresh(), b"", [("id", giant)], codec=codec)] = ["rejected bad-headers"]
    await attacker.answered(wanted)
    await attacker.produce("requests", giant, giant, [(NotText("x"), giant)], codec=codec, partition=0)
    await attacker.quarantined("requests", ["unreadable"])


# ---------------------------------------------------------------------- other topics
LOGS = ("dispatched", "neurons.changes", "units.changes", "neurons.replica", "units.replica")
OTHERS = ("responses.flat", "responses.hierarchical", "responses", "outcomes", "status", "validations", "divergences")


@pytest.mark.parametrize("log", [*LOGS, *OTHERS])
async def test_junk_on_topics_of_ours(attacker: Attacker, topics: Topics, log: str) -> None:
    for key, value, headers in malice.JUNK:
        if key is not None or topics.config(log)["cleanup.policy"] != "compact":
            await attacker.produce(log, key, value, headers, partition=0)


@pytest.mark.parametrize("log", LOGS)
async def test_records_in_a_term_to_come_are_quarantined(attacker: Attacker, log: str) -> None:
    for key, value, headers in malice.POISON:
        await attacker.produce(log, key, value, headers, partition=0)
    code = "bad-dispatched" if log == "dispatched" else "bad-change"
    await attacker.quarantined(log, [code] * len(malice.POISON))


@pytest.mark.parametrize("log", LOGS)
async def test_a_forged_claim_is_answered_by_a_new_one(attacker: Attacker, log: str) -> None:
    for _ in range(3):
        await attacker.produce(log, wire.CLAIM + b"forged", b"\xc1", partition=0)
    await attacker.every_partition_serves()


@pytest.mark.parametrize("log", LOGS)
async def test_a_seal_of_an_epoch_that_nobody_knows_is_copied_and_forgotten(attacker: Attacker, log: str) -> None:
    """It takes nothing away from its system: a seal that does is believed, whoever wrote it."""
    seal = encode(Seal(route=RouteMark(epoch=999, bound=10_000 if log.startswith("units") else 0)))
    await attacker.produce(log, wire.seal_key(999, "x"), seal, malice.FUTURE, partition=0)


@pytest.mark.parametrize("system", SYSTEMS)
async def test_answers_that_nobody_gave(attacker: Attacker, system: str) -> None:
    for position, epoch in ((b"0:0", b"1"), (b"0:9999", b"1"), (b"0:1", b"99"), (b"x", b"1"), (b"0:1", b"9" * 20)):
        forged: RawHeaders = [("position", position), ("epoch", epoch), ("status", b"ok"), ("state-diff", b"[")]
        for role in (b"primary", b"shadow", b"x"):
            await attacker.produce(f"responses.{system}", fresh(), b"\xc1", [*forged, ("role", role)], partition=0)
    await attacker.quarantined(f"responses.{system}", ["bad-response"] * 6)


# ---------------------------------------------------------------------- control, last: it freezes
async def test_control_that_is_not_understood_freezes_and_stops_nobody(
    attacker: Attacker, settings: Settings, topics: Topics
) -> None:
    async with controlling(settings, topics) as (follower, writer):
        epoch, before = follower.state.epoch, len(follower.state.unknown)
        assert (follower.state.frozen, before) == (None, 0)
        for record in malice.NOT_UNDERSTOOD:
            await attacker.produce("control", b"hal9", record)
        await attacker.produce("control", b"hal9", b"x", [(NotText("x"), b"1")])
        promoted = await writer.append(Route(**who(), expected_epoch=epoch, percentage=60))
        assert (promoted.verdict, promoted.reason[:6]) == ("refused", "frozen")
        assert len(follower.state.unknown) == len(malice.NOT_UNDERSTOOD) + 1
        await attacker.every_partition_serves()
        back = await writer.append(Rollback(**who(), expected_epoch=epoch, trigger="manual"))
        assert (back.verdict, follower.state.epoch) == ("accepted", epoch + 1)
        await follower.wait_until(lambda state: state.settled_everywhere(epoch + 1, PARTITIONS), 30)
