"""Resident memory of router, migrator and both systems: over a million requests, and over ten times the neurons.

First `REQUESTS` requests (an eighth change state) over a fixed set of neurons: once the windows are full (ids for 60 s,
answers for 75 s) nothing may grow. Then, at the same rate, neurons are created up to five and ten times as many: what
grows is the neurons' own, and grows with their number.
"""

import asyncio
import sys
import time
from collections.abc import Callable, Iterator

from rich.console import Console
from rich.table import Table

from bench.bulk import Bulk
from bench.ground import ground, resident_mb, wait_for, write
from bench.rest import ready
from hal9.settings import load
from hal9.topics import Topics, create
from schemas.base import encode
from stack.process import Supervised

PARTITIONS = 6
SERVICES = ("router", "migrator", "flat", "hierarchical")
REQUESTS = 1_000_000
RATE = 4_000
NEURONS = 5_000
WEIGHTS = 32
TICK_S = 0.25
SETTLE_S = 85.0
"""Longer than any window; within a run of at least twice as long."""
REST_S = 10.0
BOUNDS = {"grown": 1.05, "unevenness": 2.0}
"""Of the last eighth over what it was when the windows had filled; of a neuron's bytes in both steps, either way."""
FLOOR_MB = 4.0
"""Growth below this is the allocator's."""

Asking = tuple[bytes, str, bytes]


def fixed(neurons: int) -> Iterator[Asking]:
    """Reads and, one in eight, lessons, for ever."""
    asked = encode({"inputs": [[0.5] * WEIGHTS]})
    lesson = encode({"inputs": [0.5] * WEIGHTS, "delta": 0.001})
    number = 0
    while True:
        number += 1
        key = b"neuron-%d" % (number * 7919 % neurons)
        yield (key, "learn", lesson) if number % 8 == 0 else (key, "activate", asked)


def births(first: int, last: int) -> Iterator[Asking]:
    """Neurons are created, one in four requests; the others are reads."""
    reads = fixed(NEURONS)
    for number in range(first, last):
        key = f"neuron-{number}"
        yield key.encode(), "create", encode({"neuron_id": key, "weights": [0.01 * number] * WEIGHTS})
        for _ in range(3):
            yield next(reads)


async def ask(bulk: Bulk, topic: str, requests: Iterator[Asking], count: int, sample: Callable[[], None]) -> None:
    """Send `count` of them at `RATE`, and sample each second."""
    begun, sent, sampled = time.monotonic(), 0, 0.0
    while sent < count:
        now = time.monotonic() - begun
        due = min(count, int(now * RATE) + 1)
        part = [request for request, _ in zip(requests, range(due - sent), strict=False)]
        if not part:
            return
        await bulk.ask(topic, part)
        sent += len(part)
        if now - sampled >= 1.0:
            sampled = now
            sample()
        await asyncio.sleep(max(0.0, TICK_S - (time.monotonic() - begun - now)))


class Samples:
    """Resident megabytes of each service, sampled."""

    def __init__(self, services: list[Supervised]) -> None:
        self._services = services
        self.taken: list[tuple[float, list[float]]] = []

    def take(self) -> None:
        """One sample; tells every minute."""
        found = [round(resident_mb(service.pid), 1) for service in self._services]
        if len(self.taken) % 60 == 0:
            print(f"  {dict(zip(SERVICES, found, strict=True))}", file=sys.stderr)
        self.taken.append((time.monotonic(), found))

    def between(self, first: float, last: float) -> list[float]:
        """Per service, the middle of the samples of this share of the time so far."""
        begun, ended = self.taken[0][0], self.taken[-1][0]
        low, high = begun + first * (ended - begun), begun + last * (ended - begun)
        chosen = [found for at, found in self.taken if low <= at <= high]
        return [sorted(column)[len(column) // 2] for column in zip(*chosen, strict=True)]


async def _measure(bootstrap: str, topics: Topics, services: list[Supervised], requests: int) -> dict[str, list[float]]:
    asked, answers = topics.name("requests"), topics.name("responses")
    samples = Samples(services)
    async with Bulk(bootstrap, PARTITIONS) as bulk:

        async def phase(what: str, wanted: Iterator[Asking], count: int) -> None:
            print(what, file=sys.stderr)
            await ask(bulk, asked, wanted, count, samples.take)
            await bulk.until(answers, bulk.asked)

        await phase(f"{NEURONS} neurons", births(0, NEURONS), 4 * NEURONS)
        samples.taken.clear()
        await phase(f"{requests} requests", fixed(NEURONS), requests)
        settled = min(0.6, SETTLE_S / (samples.taken[-1][0] - samples.taken[0][0]))
        found = {"full": samples.between(settled, settled + 0.125), "end": samples.between(0.875, 1.0)}
        for times, before in ((5, 1), (10, 5)):
            samples.taken.clear()
            count = (times - before) * NEURONS
            await phase(f"{times * NEURONS} neurons", births(before * NEURONS, times * NEURONS), 4 * count)
            await phase("at rest", fixed(NEURONS), int(REST_S * RATE))
            found[f"x{times}"] = samples.between(1 - REST_S / 2 / (samples.taken[-1][0] - samples.taken[0][0]), 1.0)
        return found


def main(requests: int = REQUESTS) -> int:
    """Print a table, write `bench/results/memory.json`; 1 if a bound is missed."""
    with ground(PARTITIONS) as on:
        settings = load(None, on.environment)
        topics = Topics.of(settings.topics)
        asyncio.run(create(settings.kafka, topics))
        services = [on.start(name) for name in SERVICES]
        for service in services:
            wait_for(lambda s=service: ready(s), f"{service.name} ready")  # type: ignore[misc]
        found = asyncio.run(_measure(on.endpoints.bootstrap, topics, services, requests))
    rows: dict[str, dict[str, float]] = {}
    for index, name in enumerate(SERVICES):
        full, end, five, ten = (found[key][index] for key in ("full", "end", "x5", "x10"))
        steps = [(five - end) / (4 * NEURONS) * 2**20, (ten - five) / (5 * NEURONS) * 2**20]
        rows[name] = {
            "full_mb": full,
            "end_mb": end,
            "grown": round(end / full, 3),
            "x5_mb": five,
            "x10_mb": ten,
            "bytes_per_neuron": round((ten - end) / (9 * NEURONS) * 2**20),
            "unevenness": round(max(steps) / max(min(steps), 1.0), 2),
        }
    write("memory", {"requests": requests, "rate": RATE, "neurons": NEURONS, "services": rows, "bound": BOUNDS})
    table = Table(
        "service", *next(iter(rows.values())), title=f"{requests} requests, {NEURONS} to {10 * NEURONS} neurons"
    )
    for name, row in rows.items():
        table.add_row(name, *(f"{value:g}" for value in row.values()))
    Console().print(table)
    return 0 if all(map(_held, rows.values())) else 1


def _held(row: dict[str, float]) -> bool:
    flat = row["grown"] <= BOUNDS["grown"] or row["end_mb"] - row["full_mb"] <= FLOOR_MB
    grows = row["x10_mb"] - row["end_mb"] > 4 * FLOOR_MB
    return flat and (not grows or row["unevenness"] <= BOUNDS["unevenness"])
