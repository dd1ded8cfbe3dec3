"""CPU per answered request of one router process, over CPU per message of a bare aiokafka batch pass-through.

Saturation: a loader writes as fast as it can; no shadow, one read-only operation, 271-byte values. The system behind
the router is an echo in a process of its own.
"""

import asyncio
import subprocess
import sys
import time
import uuid

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from rich.console import Console
from rich.table import Table

from bench.ground import Ground, cpu_s, ground, median, wait_for, write
from hal9.keys import partition_of
from hal9.settings import load
from hal9.topics import Topics, create

PARTITIONS = 6
KEYS = 1_000
VALUE = b"v" * 271
DEADLINE_MS = 60_000


async def preload(bootstrap: str, topic: str, count: int) -> None:
    """Write `count` requests, each with an id and a deadline."""
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, acks="all", linger_ms=5, max_batch_size=256 * 1024)
    await producer.start()
    try:
        keys = [f"neuron-{i}".encode() for i in range(KEYS)]
        homes = [partition_of(key, PARTITIONS) for key in keys]
        deadline = str(int(time.time() * 1000) + DEADLINE_MS - 5_000).encode()
        for start in range(0, count, 5_000):
            sends = []
            for i in range(start, min(start + 5_000, count)):
                headers = [("id", uuid.uuid4().hex.encode()), ("deadline-ms", deadline)]
                key, home = keys[i % KEYS], homes[i % KEYS]
                sends.append(await producer.send(topic, VALUE, key=key, partition=home, headers=headers))
            await asyncio.gather(*sends)
    finally:
        await producer.stop()


async def written(bootstrap: str, topic: str) -> int:
    """Records written to a topic so far."""
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap)
    await consumer.start()
    try:
        ends = await consumer.end_offsets([TopicPartition(topic, p) for p in range(PARTITIONS)])
        return sum(ends.values())
    finally:
        await consumer.stop()


def one_run(on: Ground, count: int, number: int) -> dict[str, float]:
    """One pass-through and one router, on topics of their own."""
    prefix = f"run{number}."
    environment = {**on.environment, "HAL9_TOPICS__PREFIX": prefix}
    settings = load(None, environment)
    topics = Topics.of(settings.topics)
    asyncio.run(create(settings.kafka, topics))
    bootstrap = on.endpoints.bootstrap
    asyncio.run(preload(bootstrap, topics.name("divergences"), count))
    source, target = topics.name("divergences"), topics.name("neurons.replica")
    arguments = [bootstrap, source, target, str(PARTITIONS), str(count)]
    moved = subprocess.run(
        [sys.executable, "-m", "bench.passthrough", *arguments], check=True, capture_output=True, text=True
    )
    bare_us = float(moved.stdout)
    system = on.start("system", "--name", "flat", "--handler", "bench.handlers:Echo", environment=environment)
    router = on.start("router", environment=environment)
    answers = topics.name("responses")
    asyncio.run(_warm(bootstrap, topics))
    wait_for(lambda: asyncio.run(written(bootstrap, answers)) >= PARTITIONS, "first answers")
    begun_cpu, begun = cpu_s(router.pid), time.monotonic()
    asyncio.run(preload(bootstrap, topics.name("requests"), count))
    total = count + PARTITIONS
    wait_for(lambda: asyncio.run(written(bootstrap, answers)) >= total, f"{count} answers", every_s=0.25)
    used, took = cpu_s(router.pid) - begun_cpu, time.monotonic() - begun
    router.stop()
    system.stop()
    router_us = used / count * 1e6
    return {
        "pass_through_us": round(bare_us, 2),
        "router_us": round(router_us, 2),
        "ratio": round(router_us / bare_us, 2),
        "answers_per_s": round(count / took),
    }


async def _warm(bootstrap: str, topics: Topics) -> None:
    """One request per partition, so that every partition is known to be served."""
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, acks="all")
    await producer.start()
    try:
        found: dict[int, bytes] = {}
        for i in range(KEYS):
            key = f"neuron-{i}".encode()
            found.setdefault(partition_of(key, PARTITIONS), key)
        for home, key in found.items():
            await producer.send_and_wait(topics.name("requests"), VALUE, key=key, partition=home)
    finally:
        await producer.stop()


def main(count: int = 60_000, runs: int = 3) -> int:
    """Print a table, write `bench/results/router.json`."""
    with ground(PARTITIONS) as on:
        found = [one_run(on, count, number) for number in range(runs)]
    result = {key: median([run[key] for run in found]) for key in found[0]}
    path = write("router", {"requests": count, "runs": found, "median": result, "bound": {"ratio": 5.0}})
    table = Table(title=f"router, {count} requests, median of {runs} runs")
    for key in result:
        table.add_column(key, justify="right")
    table.add_row(*(f"{value:g}" for value in result.values()))
    Console().print(table, f"written to {path.name}")
    return 0 if result["ratio"] <= 5.0 else 1
