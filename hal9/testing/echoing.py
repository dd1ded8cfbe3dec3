"""Echo cores on a real broker: instances to start, stop and kill, and an audit of what they left in the logs.

`python -m hal9.testing.echoing BOOTSTRAP PREFIX PARTITIONS SESSION_MS` is one instance as a process of its own.
"""

import asyncio
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from uuid import uuid4

from aiokafka import AIOKafkaProducer

from hal9 import wire
from hal9.keys import partition_of
from hal9.log.effects import PartitionCore, Record
from hal9.log.reading import read_range
from hal9.log.runtime import Runtime
from hal9.log.validity import Validity
from hal9.settings.sections import Kafka
from hal9.testing.echo import EchoCore
from hal9.topics import Topics

GROUP = "echo"
_PAUSE_S = 0.02


def runtime(kafka: Kafka, topics: Topics, cores: list[EchoCore] | None = None, *, limit: int = 10_000) -> Runtime:
    """An instance; every core it makes goes to `cores` too."""

    def make(partition: int) -> PartitionCore:
        core = EchoCore(partition, lambda: uuid4().hex, limit=limit)
        if cores is not None:
            cores.append(core)
        return core

    return Runtime(kafka, topics, topics.prefix + GROUP, EchoCore, make)


@asynccontextmanager
async def running(kafka: Kafka, topics: Topics, cores: list[EchoCore] | None = None) -> AsyncIterator[Runtime]:
    """An instance that runs while the context lasts, and stops cleanly; what it died of is raised."""
    instance = runtime(kafka, topics, cores)
    async with served_by(instance):
        yield instance


@asynccontextmanager
async def served_by(instance: Runtime) -> AsyncIterator[None]:
    """Run an instance while the context lasts."""
    task = asyncio.create_task(instance.run())
    try:
        yield
    finally:
        if not task.done():
            await instance.stop()
        await task


async def until(what: Callable[[], object], deadline_s: float = 30.0) -> None:
    """Return when `what()` is true; TimeoutError names what was not."""
    try:
        async with asyncio.timeout(deadline_s):
            while not what():  # noqa: ASYNC110  a condition over several objects has no event
                await asyncio.sleep(_PAUSE_S)
    except TimeoutError as error:
        raise TimeoutError(f"not within {deadline_s:g} s: {getattr(what, '__doc__', None) or what}") from error


def values(name: str, count: int) -> list[bytes]:
    """So many different ones."""
    return [f"{name}-{number}".encode() for number in range(count)]


def faults(cores: Sequence[EchoCore]) -> list[str]:
    """Promises that were broken to any of them."""
    return [fault for core in cores for fault in core.faults]


async def produce(kafka: Kafka, topics: Topics, values: Sequence[bytes]) -> None:
    """Requests whose key is their value."""
    async with AIOKafkaProducer(bootstrap_servers=kafka.bootstrap, acks="all", linger_ms=5) as producer:
        sent = [
            await producer.send(topics.name("requests"), value, value, partition_of(value, topics.partitions))
            for value in values
        ]
        await asyncio.gather(*sent)


async def read_all(kafka: Kafka, topics: Topics, log: str) -> list[list[Record]]:
    """Every record of a log, per partition."""
    count = topics.partitions_of(log)
    return await asyncio.gather(*(read_range(kafka, topics.name(log), number) for number in range(count)))


async def answered(kafka: Kafka, topics: Topics) -> set[bytes]:
    """The values of all answers."""
    return {record.value or b"" for records in await read_all(kafka, topics, "responses") for record in records}


async def settled(ask: Callable[[], Awaitable[object]], wanted: object, deadline_s: float = 60.0) -> None:
    """Return when `ask()` gives what is wanted; AssertionError shows what it gave last."""
    found: object = None
    until_s = asyncio.get_running_loop().time() + deadline_s
    while asyncio.get_running_loop().time() < until_s:
        found = await ask()
        if found == wanted:
            return
        await asyncio.sleep(_PAUSE_S)
    raise AssertionError(f"within {deadline_s:g} s it did not become so: {_short(found)} is not {_short(wanted)}")


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) < 500 else f"{text[:500]}... ({len(text)} characters)"  # noqa: PLR2004  a screen


async def audit(kafka: Kafka, topics: Topics) -> list[str]:
    """What is wrong with the logs: every request validly dispatched once, in order, with its own value."""
    wrong: list[str] = []
    requests, dispatched = await read_all(kafka, topics, "requests"), await read_all(kafka, topics, "dispatched")
    for number, records in enumerate(dispatched):
        validity, seen = Validity(), list[int]()
        by_offset = {record.offset: record for record in requests[number]}
        for record in records:
            if validity.feed(record) != "data":
                continue
            position = wire.parse_position(wire.header(record.headers, wire.POSITION))
            if position is None or position[1] not in by_offset or position[0] != number:
                wrong.append(f"dispatched-{number}[{record.offset}] has position {position}")
                continue
            if by_offset[position[1]].value != record.value:
                wrong.append(f"dispatched-{number}[{record.offset}] has the value of another request")
            seen.append(position[1])
        if sorted(set(seen)) != sorted(by_offset):
            wrong.append(f"partition {number}: {len(by_offset)} requests, {len(set(seen))} dispatched")
        if len(seen) != len(set(seen)):
            wrong.append(f"partition {number}: {len(seen) - len(set(seen))} dispatched twice")
        if seen != sorted(seen):
            wrong.append(f"partition {number}: not dispatched in order")
    return wrong


async def _serve(bootstrap: str, prefix: str, partitions: int, session_ms: int) -> None:
    instance = runtime(Kafka(bootstrap=bootstrap, session_ms=session_ms), Topics(prefix=prefix, partitions=partitions))
    stopping: set[asyncio.Task[None]] = set()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, lambda: stopping.add(asyncio.create_task(instance.stop())))
    await instance.run()


if __name__ == "__main__":
    asyncio.run(_serve(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])))
