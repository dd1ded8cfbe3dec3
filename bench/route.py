"""How fast a change of the route is followed under load: the marker in every partition, and everything handed over.

Three routers; 10 % to 0 % and back, many times. Then hierarchical is killed with -9 and the route goes back: safe by
forced seals once its heartbeat is missed.
"""

import asyncio
import os
import signal
import sys
import time
import uuid
from contextlib import AsyncExitStack

from aiokafka import AIOKafkaConsumer, TopicPartition
from rich.console import Console
from rich.table import Table

from bench.ground import Ground, ground, wait_for, write
from bench.load import Load, percentile
from bench.rest import ready
from hal9 import wire
from hal9.control.log import ControlFollower, ControlWriter, following
from hal9.settings import Settings, load
from hal9.topics import Topics, create
from schemas.control import Route

PARTITIONS = 12
RATE = 300
ROUNDS = 40
DEATHS = 3
BETWEEN_S = 0.3
DEADLINE_S = 30.0
SLOW_S = 1.0
"""A change that takes longer is told partition by partition."""


class Markers:
    """When each partition's marker of each epoch was seen on `dispatched`."""

    def __init__(self) -> None:
        self.seen: dict[tuple[int, int], float] = {}

    async def watch(self, consumer: AIOKafkaConsumer) -> None:
        """Until cancelled."""
        async for record in consumer:
            if record.key is not None and record.key.startswith(wire.MARKER):
                at = int(record.key[len(wire.MARKER) :]), record.partition
                self.seen.setdefault(at, time.monotonic())


class Steering:
    """Changes the route, and says when each partition followed."""

    def __init__(self, control: ControlFollower, writer: ControlWriter, markers: Markers) -> None:
        self.control, self.writer, self.markers = control, writer, markers
        self._settled: dict[tuple[int, int], float] = {}
        control.listen(self._heard)

    def _heard(self, _offset: int, outcome: object) -> None:
        record = getattr(outcome, "record", None)
        if getattr(outcome, "verdict", "") == "accepted" and hasattr(record, "seals"):
            self._settled.setdefault((record.epoch, record.partition), time.monotonic())  # type: ignore[union-attr]

    async def change(self, percentage: float) -> tuple[list[float], list[float]]:
        """Seconds from the decision to marker and settled, per partition."""
        record = Route(
            id=uuid.uuid4().hex,
            migration=self.control.state.migration,
            actor="bench",
            at_ms=time.time_ns() // 10**6,
            expected_epoch=self.control.state.epoch,
            percentage=percentage,
        )
        begun = time.monotonic()
        outcome = await self.writer.append(record)
        if outcome.verdict != "accepted":
            raise RuntimeError(outcome.reason)
        places = [(outcome.epoch, p) for p in range(PARTITIONS)]
        while not all(at in self._settled and at in self.markers.seen for at in places):
            if time.monotonic() > begun + DEADLINE_S:
                raise TimeoutError(f"epoch {outcome.epoch} has not settled")
            await asyncio.sleep(0.005)
        return [self.markers.seen[at] - begun for at in places], [self._settled[at] - begun for at in places]


def main() -> int:
    """Print a table, write `bench/results/route.json`; 1 if a bound is missed."""
    with ground(PARTITIONS) as on:
        on.environment["HAL9_ROUTER__BREAKER"] = "false"  # the route is this bench's alone
        settings = load(None, on.environment)
        topics = Topics.of(settings.topics)
        asyncio.run(create(settings.kafka, topics))
        echo = ("--handler", "bench.handlers:Echo")
        services = [on.start("system", "--name", name, *echo) for name in ("flat", "hierarchical")]
        services += [on.start("migrator"), *(on.start("router") for _ in range(3))]
        for service in services:
            wait_for(lambda s=service: ready(s), f"{service.name} ready")  # type: ignore[misc]
        found = asyncio.run(_measure(on, settings, topics))
    bounds = {"marker_p99_s": 0.5, "settled_p99_s": 1.0, "safe_dead_s": settings.migrator.dead_after_ms / 1000 + 1.0}
    write("route", {"rounds": ROUNDS, "deaths": DEATHS, "result": found, "bound": bounds})
    table = Table("figure", "s", "bound", title=f"{ROUNDS} changes of the route, {PARTITIONS} partitions, 3 routers")
    for name, value in found.items():
        table.add_row(name, f"{value:g}", f"{bounds[name]:g}" if name in bounds else "")
    Console().print(table)
    return 0 if all(found[name] <= bound for name, bound in bounds.items()) else 1


async def _measure(on: Ground, settings: Settings, topics: Topics) -> dict[str, float]:
    markers: list[float] = []
    settled: list[float] = []
    dead: list[float] = []
    async with AsyncExitStack() as closing:
        control = await closing.enter_async_context(following(settings.kafka, topics, settings.migration.id))
        writer = ControlWriter(settings.kafka, topics, control)
        closing.push_async_callback(writer.close)
        consumer = AIOKafkaConsumer(bootstrap_servers=on.endpoints.bootstrap, auto_offset_reset="latest")
        await consumer.start()
        closing.push_async_callback(consumer.stop)
        places = [TopicPartition(topics.name("dispatched"), p) for p in range(PARTITIONS)]
        consumer.assign(places)
        await consumer.seek_to_end(*places)
        seen = Markers()
        watching = asyncio.create_task(seen.watch(consumer))
        steering = Steering(control, writer, seen)
        requests, answers = topics.name("requests"), topics.name("responses")
        async with Load(on.endpoints.bootstrap, requests, answers, PARTITIONS, RATE, "store"):
            await asyncio.sleep(2.0)
            for number in range(ROUNDS):
                marked, handed = await steering.change(10.0 if number % 2 == 0 else 0.0)
                markers += marked
                settled += handed
                if max(handed) > SLOW_S:
                    slow = {p: [round(m, 2), round(h, 2)] for p, (m, h) in enumerate(zip(marked, handed, strict=True))}
                    print(f"change {number + 1} was slow, marker and settled by partition: {slow}", file=sys.stderr)
                await asyncio.sleep(BETWEEN_S)
            print(f"{ROUNDS} changes done", file=sys.stderr)
            for number in range(DEATHS):
                await steering.change(10.0)
                await asyncio.sleep(1.0)
                dead.append(await _death(on, steering))
                print(f"death {number + 1}: safe after {dead[-1]:.2f} s", file=sys.stderr)
        watching.cancel()
    markers.sort()
    settled.sort()
    return {
        "marker_p50_s": round(percentile(markers, 0.5), 3),
        "marker_p99_s": round(percentile(markers, 0.99), 3),
        "settled_p50_s": round(percentile(settled, 0.5), 3),
        "settled_p99_s": round(percentile(settled, 0.99), 3),
        "safe_dead_s": round(max(dead), 3),
    }


async def _death(on: Ground, steering: Steering) -> float:
    """Hierarchical dies, the route goes back at once; seconds from there until all is settled. It comes back then."""
    victim = next(s for s in reversed(on.services) if "hierarchical" in s.command)
    os.kill(victim.pid, signal.SIGKILL)
    _, settled = await steering.change(0.0)
    born = on.start("system", "--name", "hierarchical", "--handler", "bench.handlers:Echo")
    await asyncio.to_thread(wait_for, lambda: ready(born), "hierarchical ready again")
    return max(settled)
