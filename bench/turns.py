"""A router and a bare loop that take turns at the same load: CPU per answered request over CPU per message.

A shared machine is fast and slow by turns, by a factor of 1.7 and from one half second to the next: two runs of some
seconds, one behind the other, were on two machines. Of many short turns both have their part of each.
"""

import asyncio
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from aiokafka import AIOKafkaConsumer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from bench.bulk import BATCH, Bulk
from bench.ground import Ground, cpu_s
from bench.passthrough import PARTITIONS
from bench.peers.running import Peer
from hal9.control.log import ControlWriter, following
from hal9.settings import Settings, load
from hal9.topics import Topics, create
from schemas.base import decode
from schemas.control import Route
from schemas.telemetry import outcome_decoder

BARE = Peer("pass-through", [sys.executable, "-m", "bench.passthrough"])
"""The yardstick."""
TURNS, TURN = 6, 12_000
"""Requests of one turn: half a second, and 2,000 for each partition, so that batches are as large as ever."""
WINDOW = 15_000
"""Requests under way at most in the mode with shadows: more than a turn, and half of the pairs that a router holds."""
ROOM = {
    "HAL9_ROUTER__BREAKER": "false",
    "HAL9_ROUTER__IN_FLIGHT_MAX": "10000",
    "HAL9_ROUTER__PROCESS_IN_FLIGHT_MAX": "60000",
}
"""Under pressure a router drops shadows, so it is given the room not to be pressed by a turn."""
DROPPED_S = 20.0
"""Without another record for so long (the rest of the shadows was dropped, then) the run does not count."""
TAIL_S = 0.2
"""After the last record of a turn: acknowledgements, and for a router comparisons, are work of that turn, too."""
_REST_S, _OUTCOMES_S = 1.0, 2.5

Row = dict[str, float]


@dataclass
class Mover:
    """A process that makes a record on each of `targets` of each one on `source`; `paced`: at most `WINDOW` at once."""

    pid: int
    source: str
    targets: tuple[str, ...]
    paced: bool = False
    moved: int = 0

    async def begin(self, bulk: Bulk) -> None:
        """One record per partition, all the way, once it has started."""
        await bulk.touch(self.source)
        self.moved = PARTITIONS
        for target in self.targets:
            await bulk.until(target, self.moved)

    async def move(self, bulk: Bulk, count: int) -> tuple[float, float]:
        """CPU seconds of `count` more, and seconds until they lie on the first target."""
        batches = bulk.batches(count)
        begun_cpu, begun = cpu_s(self.pid), time.monotonic()
        window, lying = WINDOW if self.paced else count, self.moved
        while batches:
            room = max(1, (lying + window - self.moved) // BATCH)
            part, batches = batches[:room], batches[room:]
            self.moved += sum(size for _, _, size in part)
            if self.moved - window > lying:
                lying = await self._until(bulk, self.moved - window)
            await bulk.send(self.source, part)
        await bulk.until(self.targets[0], self.moved, DROPPED_S)
        took = time.monotonic() - begun
        await self._until(bulk, self.moved)
        await asyncio.sleep(TAIL_S)
        return cpu_s(self.pid) - begun_cpu, took

    async def _until(self, bulk: Bulk, count: int) -> int:
        return min([await bulk.until(target, count, DROPPED_S) for target in self.targets])


async def make(bootstrap: str, topics: list[str]) -> None:
    """Topics for bare loops and peers."""
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        await admin.create_topics([NewTopic(name, PARTITIONS, 1) for name in topics])
    finally:
        await admin.close()


def router(on: Ground, count: int, prefix: str, *, shadow: bool) -> Row:
    """One router and one bare loop, on topics of their own: answers/s of `count` at once, then the turns."""
    environment = {**on.environment, "HAL9_TOPICS__PREFIX": prefix, **ROOM}
    settings = load(None, environment)
    topics = Topics.of(settings.topics)
    source, target = f"{prefix}bare.source", f"{prefix}bare.target"
    asyncio.run(create(settings.kafka, topics))
    asyncio.run(make(settings.kafka.bootstrap, [source, target]))
    handlers = {"flat": "Fields", "hierarchical": "LastBits"} if shadow else {"flat": "Echo"}
    services = [
        on.start("system", "--name", name, "--handler", f"bench.handlers:{handler}", environment=environment)
        for name, handler in handlers.items()
    ]
    services.append(on.start("router", environment=environment))
    logs = ["responses", "responses.hierarchical"] if shadow else ["responses"]
    answers = tuple(topics.name(log) for log in logs)
    routing = Mover(services[-1].pid, topics.name("requests"), answers, paced=shadow)
    try:
        with _bare(settings.kafka.bootstrap, source, target) as pid:
            row = asyncio.run(_turns(settings, topics, routing, Mover(pid, source, (target,)), count))
    finally:
        for service in reversed(services):
            service.stop()
    print(f"  router{' with shadows' if shadow else ''}: {row}", file=sys.stderr)
    return row


@contextmanager
def _bare(bootstrap: str, source: str, target: str) -> Iterator[int]:
    """A bare loop for all turns; its pid. It waits for one message more than it gets: its end is no part of a turn."""
    command = [*BARE.command, bootstrap, source, target, str(PARTITIONS + TURNS * TURN + 1)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        try:
            yield process.pid
        finally:
            process.kill()


async def _turns(settings: Settings, topics: Topics, routing: Mover, bare: Mover, count: int) -> Row:
    async with Bulk(settings.kafka.bootstrap, PARTITIONS) as bulk:
        if routing.paced:
            await _shadow(settings, topics)
        await routing.begin(bulk)
        await bare.begin(bulk)
        await asyncio.sleep(_REST_S)
        _, took = await routing.move(bulk, count)
        used, bare_used = 0.0, 0.0
        for _ in range(TURNS):
            bare_used += (await bare.move(bulk, TURN))[0]
            used += (await routing.move(bulk, TURN))[0]
        each = 1e6 / (TURNS * TURN)
        row = {"us": round(used * each, 2), "bare_us": round(bare_used * each, 2), "per_s": round(count / took)}
        row["ratio"] = round(used / bare_used, 3)
    if routing.paced:
        await asyncio.sleep(_OUTCOMES_S)
        row["compared"] = round(await _compared(settings, topics) / routing.moved, 3)
    return row


async def _shadow(settings: Settings, topics: Topics) -> None:
    """Everything is shadowed from now on."""
    async with following(settings.kafka, topics, settings.migration.id) as control:
        writer = ControlWriter(settings.kafka, topics, control)
        record = Route(
            id=uuid.uuid4().hex,
            migration=settings.migration.id,
            actor="bench",
            at_ms=time.time_ns() // 10**6,
            expected_epoch=control.state.epoch,
            percentage=0.0,
            shadow=100.0,
        )
        try:
            outcome = await writer.append(record)
        finally:
            await writer.close()
        if outcome.verdict != "accepted":
            raise RuntimeError(outcome.reason)


async def _compared(settings: Settings, topics: Topics) -> int:
    """Pairs of answers that were compared and found equal."""
    name = topics.name("outcomes")
    consumer = AIOKafkaConsumer(name, bootstrap_servers=settings.kafka.bootstrap, auto_offset_reset="earliest")
    await consumer.start()
    try:
        places = list(consumer.assignment())
        ends, equal = await consumer.end_offsets(places), 0
        while any([await consumer.position(at) < end for at, end in ends.items()]):
            for records in (await consumer.getmany(timeout_ms=250)).values():
                for record in records:
                    found = decode(outcome_decoder, record.value)
                    equal += sum(results.equal for results in found.comparisons.values())
        return equal
    finally:
        await consumer.stop()
