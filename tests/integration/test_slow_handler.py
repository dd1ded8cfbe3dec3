"""On the real stack: a handler that is slower than a session of its system's group hurts nobody but those who asked it.

Sessions of 1.5 s, a handler that may take 3.2 s, two partitions.
"""

import asyncio
import sys
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from urllib.request import urlopen

import msgpack
from aiohttp import web
from aiokafka.admin import AIOKafkaAdminClient

from hal9.client import Client
from hal9.keys import partition_of
from hal9.settings import Kafka, Settings
from hal9.settings import Topics as TopicSettings
from hal9.testing.echoing import until
from hal9.topics import Topics, create
from stack.ports import free_ports
from stack.process import Supervised
from tests.serving import serving

PARTITIONS = 2
SESSION_MS = 1_500
TIMEOUT_S = 3.2
DEADLINE_S = 60.0
MANY = 100_000
SLOW, BESIDE = (
    next(f"k{n}" for n in range(99) if partition_of(b"k%d" % n, PARTITIONS) == p) for p in range(PARTITIONS)
)
"""A key of either partition."""


class Handler:
    """Counts per key; what is to `hang` is never answered."""

    def __init__(self) -> None:
        self.hanging = 0
        self._over = asyncio.Event()

    async def get(self, _request: web.Request) -> web.Response:
        return web.Response(body=msgpack.packb({"read_only": []}), content_type="application/msgpack")

    async def post(self, request: web.Request) -> web.Response:
        items = msgpack.unpackb(await request.read())["items"]
        if any(item["operation"] == "hang" for item in items):
            self.hanging += 1
            await self._over.wait()
        states = [{"n": (item["state"] or {"n": 0})["n"] + 1} for item in items]
        results = [{"state": state, "answer": b"%d" % state["n"]} for state in states]
        return web.Response(body=msgpack.packb({"results": results}), content_type="application/msgpack")

    @asynccontextmanager
    async def served(self) -> AsyncIterator[str]:
        app = web.Application()
        app.add_routes([web.get("/", self.get), web.post("/", self.post)])
        async with serving(app) as port:
            try:
                yield f"http://127.0.0.1:{port}/"
            finally:
                self._over.set()


@contextmanager
def running(settings: Settings, directory: Path, url: str, port: int) -> Iterator[None]:
    """A router, and flat with its handler at `url`, metrics at `port`."""
    common = {
        "HAL9_KAFKA__BOOTSTRAP": settings.kafka.bootstrap,
        "HAL9_KAFKA__SESSION_MS": str(SESSION_MS),
        "HAL9_TOPICS__PREFIX": settings.topics.prefix,
        "HAL9_TOPICS__PARTITIONS": str(PARTITIONS),
    }
    own = {"HAL9_SYSTEM__HANDLER_TIMEOUT_S": str(TIMEOUT_S), "HAL9_HTTP__PORT": str(port)}
    hal9 = [sys.executable, "-P", "-m", "hal9", "run"]
    services = [
        Supervised("router", [*hal9, "router"], log=directory / "router.log", env=common),
        Supervised(
            "flat",
            [*hal9, "system", "--name", "flat", "--handler", url],
            log=directory / "flat.log",
            env={**common, **own},
        ),
    ]
    try:
        for service in services:
            service.start()
        yield
    finally:
        for service in services:
            service.stop()


async def members(settings: Settings) -> tuple[str, list[str]]:
    """State and members of the group of flat."""
    admin = AIOKafkaAdminClient(bootstrap_servers=settings.kafka.bootstrap)
    await admin.start()
    try:
        (response,) = await admin.describe_consumer_groups([f"{settings.topics.prefix}flat"])
        ((_error, _group, state, _type, _protocol, found),) = [group[:6] for group in response.groups]
        return state, sorted(member[0] for member in found)
    finally:
        await admin.close()


async def measured(port: int) -> dict[str, float]:
    def read() -> str:
        with urlopen(f"http://127.0.0.1:{port}/metrics", timeout=30) as answer:
            return str(answer.read().decode())

    lines = [line for line in (await asyncio.to_thread(read)).splitlines() if line.startswith("hal9_handler")]
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines)}


async def test_a_handler_slower_than_a_session_costs_its_member_nothing_and_other_partitions_go_on(
    bootstrap: str, tmp_path: Path
) -> None:
    topics = TopicSettings(prefix=f"slow-{uuid.uuid4().hex[:8]}.", partitions=PARTITIONS)
    settings, handler, (port,) = Settings(kafka=Kafka(bootstrap=bootstrap), topics=topics), Handler(), free_ports(1)
    await create(settings.kafka, Topics.of(settings.topics))
    async with handler.served() as url, Client(settings=settings) as client:
        with running(settings, tmp_path, url, port):
            for key in (SLOW, BESIDE):
                assert (await client.request(key, b"", operation="add", deadline_s=DEADLINE_S)).value == b"1"
            before = await members(settings)
            assert before[0] == "Stable"
            assert len(before[1]) == 1

            hung = asyncio.create_task(client.request(SLOW, b"", operation="hang", deadline_s=DEADLINE_S))
            await until(lambda: handler.hanging == 1)
            behind = asyncio.create_task(client.request(SLOW, b"", operation="add", deadline_s=DEADLINE_S))
            assert (await measured(port))["hal9_handler_calls_in_flight"] == 1
            beside = 0
            while not hung.done() and beside < MANY:
                answer = await client.request(BESIDE, b"", operation="add", deadline_s=DEADLINE_S)
                beside += 1
                assert (answer.status, answer.value) == ("ok", b"%d" % (beside + 1))
            assert beside > 10, "they did not wait for it"

            assert (hung.result().status, hung.result().error) == ("error", "handler-timeout")
            after = await behind
            assert (after.status, after.value) == ("ok", b"2"), "what hung left nothing behind"
            assert await members(settings) == before, "nobody was put out of the group, and nobody joined again"
            counted = await measured(port)
    assert counted['hal9_handler_calls_total{outcome="slow"}'] == 1
    assert counted['hal9_handler_calls_total{outcome="answered"}'] >= beside
    assert counted['hal9_handler_calls_total{outcome="unreached"}'] == 0
    assert counted['hal9_handler_call_duration_seconds_sum{outcome="slow"}'] >= 2 * SESSION_MS / 1000
    assert counted["hal9_handler_calls_in_flight"] == 0
