"""CPU of the Python client: per request of its own, and per answer of somebody else that it reads on the way.

The answers come from a process of its own, in the router's place. Asked for a `flood`, it writes that many foreign
answers to the partition before the one that was asked for, so who has that one has read them all.
"""

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from aiokafka import TopicPartition
from msgspec.structs import replace

from bench.ground import ground, median, write
from hal9 import wire
from hal9.client import Client, SyncClient
from hal9.log.producer import start_producer
from hal9.log.reading import Reader
from hal9.settings import Client as ClientSettings
from hal9.settings import Kafka, Settings
from hal9.topics import Topics, create

PARTITIONS = 6
REQUESTS = 20_000
FOREIGN = 100_000
CONCURRENCY = 200
RUNS = 3
VALUE = b"v" * 271
THREADS = 8


def settings_of(bootstrap: str) -> Settings:
    """Those of the bench."""
    made = Settings(kafka=Kafka(bootstrap=bootstrap), client=ClientSettings(deadline_ms=60_000))
    return replace(made, topics=replace(made.topics, prefix="client.", partitions=PARTITIONS))


async def answer(settings: Settings) -> None:
    """Play the router until killed."""
    names = settings.topics.names()
    producer = await start_producer(settings.kafka, 30)
    foreign = [("id", b"f" * 32), ("status", b"ok"), ("epoch", b"3"), ("served-by", b"flat")]
    starts = {TopicPartition(names["requests"], number): 0 for number in range(PARTITIONS)}
    async with Reader(settings.kafka) as reader:
        print("ready", flush=True)
        async for chunk in reader.follow(starts):
            for record in chunk.records:
                headers = [("id", wire.header(record.headers, wire.ID) or b""), *foreign[1:]]
                if wire.header(record.headers, wire.OPERATION) == b"flood":
                    for _ in range(int(record.value or b"0")):
                        await producer.send(names["responses"], VALUE, b"n", chunk.at.partition, headers=foreign)
                await producer.send(names["responses"], VALUE, record.key, chunk.at.partition, headers=headers)


def cpu_us(work: Callable[[], object], count: int) -> float:
    """CPU of this process for one of `count`, in microseconds."""
    before_s = time.process_time()
    work()
    return (time.process_time() - before_s) / count * 1e6


async def cpu_us_of(work: Coroutine[Any, Any, object], count: int) -> float:
    """The same for a coroutine."""
    before_s = time.process_time()
    await work
    return (time.process_time() - before_s) / count * 1e6


async def in_a_loop(settings: Settings) -> tuple[float, float]:
    """CPU per own request, and per foreign answer."""
    async with Client(settings=settings) as client:
        asks = [(f"n{number % 1000}", "read", VALUE) for number in range(REQUESTS)]
        await client.request_many(asks[:2_000], concurrency=CONCURRENCY)
        own = await cpu_us_of(client.request_many(asks, concurrency=CONCURRENCY)._list(), REQUESTS)  # noqa: SLF001
        flood = client.request("n", b"%d" % FOREIGN, operation="flood")
        return own, await cpu_us_of(flood, FOREIGN)


def in_threads(settings: Settings) -> float:
    """CPU per request of the sync facade, from some threads."""
    with SyncClient(settings=settings) as client, ThreadPoolExecutor(THREADS) as threads:

        def some() -> None:
            for number in range(REQUESTS // 4 // THREADS):
                client.request(f"n{number % 1000}", VALUE, operation="read")

        def work() -> None:
            for done in [threads.submit(some) for _ in range(THREADS)]:
                done.result()

        return cpu_us(work, REQUESTS // 4 // THREADS * THREADS)


def main() -> int:
    """Measure, print and write; there is no bound to miss."""
    with ground(PARTITIONS) as on:
        settings = settings_of(on.endpoints.bootstrap)
        asyncio.run(create(settings.kafka, Topics.of(settings.topics)))
        command = [sys.executable, "-m", "bench.client", on.endpoints.bootstrap]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as answering:
            try:
                assert answering.stdout is not None
                answering.stdout.readline()
                runs = [(*asyncio.run(in_a_loop(settings)), in_threads(settings)) for _ in range(RUNS)]
            finally:
                answering.kill()
    names = ("own_request_us", "foreign_answer_us", "sync_request_us")
    found: dict[str, object] = {
        name: median(list(values)) for name, values in zip(names, zip(*runs, strict=True), strict=True)
    }
    print(json.dumps(found, indent=2))
    write("client", {"value_bytes": len(VALUE), "concurrency": CONCURRENCY, "cpu": found, "runs": runs})
    return 0


if __name__ == "__main__":
    asyncio.run(answer(settings_of(sys.argv[1])))
