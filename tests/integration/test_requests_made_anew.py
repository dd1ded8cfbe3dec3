"""The topic `requests` is deleted and made again under a router that runs, and under one that is stopped meanwhile."""

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import uuid4

import msgspec
import pytest
from aiokafka.admin import AIOKafkaAdminClient

from hal9 import wire
from hal9.keys import partition_of
from hal9.local.services import Services
from hal9.settings import Kafka
from hal9.testing.echoing import until
from hal9.testing.hostile import Attacker, attacking
from hal9.topics import Topics, create, topic_id
from schemas.base import encode
from stack.local import Endpoints

KEY = b"n1"
PARTITIONS = 2
NEURON = encode({"neuron_id": "n1", "weights": [1.0]})
LESSON = encode({"inputs": [1.0], "delta": 0.001})


@pytest.fixture
def topics() -> Topics:
    return Topics(prefix=f"anew-{uuid4().hex[:8]}.", partitions=PARTITIONS)


@pytest.fixture
def services(
    endpoints: Endpoints, empty_redis: Callable[[], str], topics: Topics, tmp_path: Path
) -> Iterator[tuple[Services, Services]]:
    """The router, and the system that owns everything."""
    environment = {
        "HAL9_KAFKA__BOOTSTRAP": endpoints.bootstrap,
        "HAL9_REDIS__URL": empty_redis(),
        "HAL9_TOPICS__PREFIX": topics.prefix,
        "HAL9_TOPICS__PARTITIONS": str(PARTITIONS),
    }
    asyncio.run(create(Kafka(bootstrap=endpoints.bootstrap), topics))
    both = Services(tmp_path / "router", environment), Services(tmp_path / "flat", environment)
    try:
        yield both
    finally:
        for one in both:
            one.stop()


async def begin(services: Services, name: str) -> None:
    services.start([name])
    await asyncio.to_thread(services.await_ready, lambda _: None, [name])


async def make_anew(kafka: Kafka, topics: Topics) -> None:
    """As an operator does it; returns when it is another topic."""
    name = topics.name("requests")
    before = await topic_id(kafka, name)
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka.bootstrap)
    await admin.start()
    await admin.delete_topics([name])
    while name in await admin.list_topics():  # noqa: ASYNC110  a broker tells nobody
        await asyncio.sleep(0.1)
    await admin.close()
    await create(kafka, topics)
    assert await topic_id(kafka, name) != before


async def learn(attacker: Attacker, names: list[str]) -> list[str]:
    """One lesson after the other; an empty name is no id. The ids that they are answered by."""
    found = []
    for name in names:
        headers = [(wire.OPERATION, b"learn"), *([(wire.ID, name.encode())] if name else [])]
        found.append(name or await attacker.produce("requests", KEY, LESSON, headers))
        if name:
            await attacker.produce("requests", KEY, LESSON, headers)
    return found


async def learned(attacker: Attacker) -> int:
    name = await attacker.request(KEY, "read")
    await attacker.answered({name: ["ok"]})
    shown = msgspec.msgpack.decode(attacker.answers.by_id[name][0].value or b"")
    return int(shown["memory"]["learned"])


@pytest.mark.parametrize("running", [True, False], ids=["under a running router", "under a stopped one"])
async def test_requests_of_the_new_topic_are_executed_and_those_of_the_old_one_stay_done(
    bootstrap: str, topics: Topics, services: tuple[Services, Services], running: bool
) -> None:
    kafka, (router, flat) = Kafka(bootstrap=bootstrap), services
    await begin(flat, "flat")
    await begin(router, "router")
    async with attacking(kafka, topics) as before:
        first = await before.produce("requests", KEY, NEURON, [(wire.OPERATION, b"create")])
        assert first == wire.default_id(topics.name("requests"), partition_of(KEY, PARTITIONS), 0)
        ids = await learn(before, ["a", "b", "c", "", "", "", "", ""])
        await before.answered({first: ["ok"], **{name: ["ok"] for name in ids}})
        assert await learned(before) == 8
    if not running:
        await asyncio.to_thread(router.stop)
    pid = router.pid("router")
    await make_anew(kafka, topics)
    if not running:
        await begin(router, "router")
    async with attacking(kafka, topics) as after:
        # The first one has the id that `create` had, and `c` was executed already.
        again = await learn(after, ["", "c", "d", "", ""])
        assert again[0] == first
        await after.answered({name: ["ok"] for name in again}, 30)
        assert after.answers.by_id["c"][0].value == before.answers.by_id["c"][0].value
        assert await learned(after) == 12
        assert not running or router.pid("router") == pid
        # A router that takes over finds what was answered in both.
        await asyncio.to_thread(router.stop)
        await begin(router, "router")
        await learn(after, ["a", "d", ""])
        await until(lambda: all(len(after.answers.by_id.get(name, ())) > 1 for name in ("d",)))
        assert await learned(after) == 13
    router.refuse_ended()
