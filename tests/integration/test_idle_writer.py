"""A writer at rest on a real broker: what a zombie leaves behind it in a claimed log is found without any request."""

from uuid import uuid4

import msgpack
import pytest
from aiokafka import AIOKafkaProducer

from hal9 import wire
from hal9.backend.config import BackendConfig
from hal9.backend.core import BackendCore, FlatCore
from hal9.backend.handler import as_batch
from hal9.log.effects import Record
from hal9.log.runtime import Runtime
from hal9.settings.sections import Kafka
from hal9.testing.echoing import read_all, served_by, settled, until
from hal9.topics import Topics, create
from schemas.base import Tree

KEY = b"n1"


@pytest.fixture
async def topics(bootstrap: str) -> Topics:
    topics = Topics(prefix=f"{uuid4().hex[:8]}.", partitions=1)
    await create(Kafka(bootstrap=bootstrap), topics)
    return topics


def count(state: Tree | None, operation: str, value: bytes) -> tuple[Tree | None, bytes]:
    return {"count": ((state or {}).get("count") or 0) + 1}, b""


def flat(kafka: Kafka, topics: Topics) -> Runtime:
    config = BackendConfig("m", "flat-1", lambda: uuid4().hex)
    handler = as_batch(count, ())
    return Runtime(kafka, topics, f"{topics.prefix}flat", FlatCore, lambda p: FlatCore(p, config, handler))


def request(term: int) -> list[tuple[str, bytes]]:
    headers = {
        wire.ID: b"r1",
        wire.OPERATION: b"add",
        wire.DEADLINE: b"%d" % 2**50,
        wire.POSITION: b"0:0",
        wire.EPOCH: b"0",
        wire.PRIMARY: b"flat",
        wire.AFTER_SEAL: b"0",
        wire.TERM: b"%d" % term,
    }
    return list(headers.items())


def shown(record: Record) -> tuple[bytes | None, str | None, object]:
    state = msgpack.unpackb(record.value)["state"] if record.value else None
    return record.key, wire.text(record.headers, wire.VERSION), state


async def test_a_void_record_behind_an_idle_system_is_answered_with_the_state_again(
    bootstrap: str, topics: Topics, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hal9.log.runtime.LOOK_EVERY", 1)
    kafka, changes = Kafka(bootstrap=bootstrap), topics.name("neurons.changes")

    async def states() -> list[object]:
        (records,) = await read_all(kafka, topics, "neurons.changes")
        return [shown(record) for record in records if record.key == KEY]

    async with AIOKafkaProducer(bootstrap_servers=bootstrap, acks="all") as producer:
        zombie = (await producer.send_and_wait(changes, b"", wire.CLAIM + b"zombie", 0)).offset
        instance = flat(kafka, topics)
        async with served_by(instance):
            await until(lambda: any(isinstance(c, BackendCore) and c.term > zombie for c in instance.cores.values()))
            router = (await producer.send_and_wait(topics.name("dispatched"), b"", wire.CLAIM + b"r", 0)).offset
            await producer.send_and_wait(topics.name("dispatched"), b"", KEY, 0, headers=request(router))
            own = (KEY, "1", {"count": 1})
            await settled(states, [own])
            late = wire.change_headers(wire.Change(2, 7, 0, "flat", "ok", None), 0, zombie)
            await producer.send_and_wait(changes, msgpack.packb({"state": {"count": 99}}), KEY, 0, headers=late)
            await settled(states, [own, (KEY, "2", {"count": 99}), own])
            assert instance.partitions.restarts == 0
