"""CPU per answered request of one router process, over that per message of a bare aiokafka loop; and peers beside.

Saturation, 271-byte values, one read-only operation. Two modes: no shadow, and all of it shadowed, with answers of 58
floats that differ in their last bits. The systems behind the router are processes of their own.

An answered request is three passes: into `dispatched`, through a system, into the answers. So beside the peers, which
make one pass, stand three loops one behind the other, bare ones and those of Quix Streams: the answers/s that this
machine has for anybody who decides nothing, keeps nothing and looks at nothing.
"""

import asyncio
import itertools
import subprocess
import sys
import time
import uuid

from aiokafka import AIOKafkaConsumer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from rich.console import Console
from rich.table import Table

from bench.bulk import Bulk
from bench.ground import Ground, cpu_s, ground, median, write
from bench.passthrough import PARTITIONS
from bench.peers.running import Missing, Peer, measured, peers
from hal9.control.log import ControlWriter, following
from hal9.settings import Settings, load
from hal9.topics import Topics, create
from schemas.base import decode
from schemas.control import Route
from schemas.telemetry import outcome_decoder

SOURCE, TARGET = "bench.source", "bench.target"
WINDOW = 3_000
"""Requests on their way in the mode with shadows, before the next ones are sent: under pressure shadows are dropped."""
COMPARED = 0.98
DROPPED_S = 20.0
"""Without another shadow for so long the rest was dropped, and the run does not count."""
BOUNDS = {"ratio": 3.0, "shadow_ratio": 5.0, "over_quix": 1.0, "over_faust": 8.0}
BARE = Peer("pass-through", [sys.executable, "-m", "bench.passthrough"])
BARE_THRICE, QUIX_THRICE = "bare loop, thrice", "Quix Streams, thrice"
Row = dict[str, float]


async def prepare(bootstrap: str, count: int) -> None:
    """The topics of the pass-throughs, and what they move."""
    await _create(bootstrap, [SOURCE, TARGET])
    async with Bulk(bootstrap, PARTITIONS) as bulk:
        await bulk.send(SOURCE, bulk.batches(count))


async def _create(bootstrap: str, topics: list[str]) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    await admin.create_topics([NewTopic(name, PARTITIONS, 1) for name in topics])
    await admin.close()


def pass_through(bootstrap: str, count: int) -> Row:
    """The yardstick."""
    row = BARE.run(bootstrap, SOURCE, TARGET, count)
    print(f"  {BARE.name}: {row}", file=sys.stderr)
    return row


def three_passes(name: str, loop: list[str], bootstrap: str, count: int, prefix: str) -> Row:
    """Three loops (`loop SOURCE TARGET COUNT`), one behind the other: what an answered request crosses."""
    topics = [f"{prefix}{number}" for number in range(4)]
    asyncio.run(_create(bootstrap, topics))
    loops = [
        subprocess.Popen([*loop, *pair, str(count + PARTITIONS)], stdout=subprocess.PIPE, text=True)
        for pair in itertools.pairwise(topics)
    ]
    try:
        took = asyncio.run(_through(bootstrap, topics[0], topics[-1], count))
        used = [measured(one.communicate(timeout=DROPPED_S)[0])["us"] for one in loops]
    finally:
        for one in loops:
            one.kill()
            one.wait()
    row = {"us": round(sum(used), 2), "per_s": round(count / took)}
    print(f"  {name}: {row}", file=sys.stderr)
    return row


async def _through(bootstrap: str, source: str, target: str, count: int) -> float:
    async with Bulk(bootstrap, PARTITIONS) as bulk:
        await bulk.touch(source)
        await bulk.until(target, PARTITIONS)
        batches = bulk.batches(count)
        begun = time.monotonic()
        await bulk.send(source, batches)
        await bulk.until(target, PARTITIONS + count)
        return time.monotonic() - begun


def chains(others: list[Peer], bootstrap: str) -> dict[str, list[str]]:
    """The loops that run thrice, as commands without source, target and count."""
    found = {BARE_THRICE: [*BARE.command, bootstrap]}
    for peer in others:
        if peer.name == "Quix Streams":
            found[QUIX_THRICE] = [*peer.command, bootstrap]
    return found


def router(on: Ground, count: int, prefix: str, *, shadow: bool) -> Row:
    """One router on topics of its own."""
    environment = {**on.environment, "HAL9_TOPICS__PREFIX": prefix, "HAL9_ROUTER__BREAKER": "false"}
    settings = load(None, environment)
    topics = Topics.of(settings.topics)
    asyncio.run(create(settings.kafka, topics))
    handlers = {"flat": "Fields", "hierarchical": "LastBits"} if shadow else {"flat": "Echo"}
    systems = [
        on.start("system", "--name", name, "--handler", f"bench.handlers:{handler}", environment=environment)
        for name, handler in handlers.items()
    ]
    process = on.start("router", environment=environment)
    try:
        used, took, compared = asyncio.run(_measure(settings, topics, process.pid, count, shadow=shadow))
    finally:
        for service in (process, *systems):
            service.stop()
    row = {"us": round(used / count * 1e6, 2), "per_s": round(count / took)}
    print(f"  router{' with shadows' if shadow else ''}: {row}", file=sys.stderr)
    return {**row, "compared": round(compared / count, 3)} if shadow else row


async def _measure(
    settings: Settings, topics: Topics, pid: int, count: int, *, shadow: bool
) -> tuple[float, float, int]:
    requests, answers, shadows = (topics.name(log) for log in ("requests", "responses", "responses.hierarchical"))
    async with Bulk(settings.kafka.bootstrap, PARTITIONS) as bulk:
        if shadow:
            await _shadow(settings, topics)
        await bulk.touch(requests)
        await bulk.until(answers, PARTITIONS)
        if shadow:
            await bulk.until(shadows, PARTITIONS)
        await asyncio.sleep(1.0)
        batches = bulk.batches(count)
        begun_cpu, begun, sent = cpu_s(pid), time.monotonic(), 0
        step = PARTITIONS if shadow else len(batches)
        for start in range(0, len(batches), step):
            part = batches[start : start + step]
            await bulk.send(requests, part)
            sent += sum(size for _, _, size in part)
            for answered in (answers, shadows) if shadow else ():
                await bulk.until(answered, PARTITIONS + sent - WINDOW, DROPPED_S)
        await bulk.until(answers, PARTITIONS + count)
        took = time.monotonic() - begun
        if shadow:
            await bulk.until(shadows, PARTITIONS + count, DROPPED_S)
        used = cpu_s(pid) - begun_cpu
        if not shadow:
            return used, took, 0
        await asyncio.sleep(2.5)
        return used, took, await _compared(settings, topics)


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


def main(count: int = 60_000, runs: int = 5) -> int:
    """Print a table, write `bench/results/router.json`; 1 if a bound is missed. Ratios are to the pass just before."""
    rows: dict[str, list[Row]] = {}
    others, missing = peers()
    with ground(PARTITIONS) as on:
        bootstrap = on.endpoints.bootstrap
        asyncio.run(prepare(bootstrap, count))
        for number in range(runs):
            print(f"run {number + 1} of {runs}", file=sys.stderr)
            for chain, (name, loop) in enumerate(chains(others, bootstrap).items()):
                row = three_passes(name, loop, bootstrap, count, f"chain{number}.{chain}.")
                rows.setdefault(name, []).append(row)
            for name, shadow in (("router", False), ("router, shadowed", True)):
                base = pass_through(bootstrap, count)
                row = router(on, count, f"{'shadow' if shadow else 'plain'}{number}.", shadow=shadow)
                rows.setdefault(BARE.name, []).append(base)
                rows.setdefault(name, []).append({**row, "ratio": round(row["us"] / base["us"], 3)})
            for peer in others:
                try:
                    row = peer.run(bootstrap, SOURCE, TARGET, count)
                except Missing as error:
                    missing[peer.name] = str(error)
                    continue
                rows.setdefault(peer.name, []).append(row)
                print(f"  {peer.name}: {row}", file=sys.stderr)
    return _tell(rows, missing, count, runs)


def _tell(rows: dict[str, list[Row]], missing: dict[str, str], count: int, runs: int) -> int:
    result = {name: {key: median([run[key] for run in found]) for key in found[0]} for name, found in rows.items()}

    def over(name: str) -> float | None:
        return round(result["router"]["per_s"] / result[name]["per_s"], 2) if name in result else None

    figures = {
        "ratio": result["router"]["ratio"],
        "shadow_ratio": result["router, shadowed"]["ratio"],
        "over_quix": over("Quix Streams"),
        "over_faust": over("Faust"),
        "over_quix_thrice": over(QUIX_THRICE),
        "over_bare_thrice": over(BARE_THRICE),
    }
    write(
        "router",
        {"requests": count, "runs": rows, "median": result, "figures": figures, "bound": BOUNDS, "missing": missing},
    )
    table = Table("one pass each", "CPU us", "per s", "x", title=f"router and peers, {count} messages, {runs} runs")
    for name, row in result.items():
        table.add_row(name, f"{row['us']:g}", f"{row['per_s']:g}", f"{row['us'] / result[BARE.name]['us']:.2f}")
    for name, why in missing.items():
        table.add_row(name, "", "", why)
    Console().print(table, figures, BOUNDS)
    return 0 if _held(figures) and result["router, shadowed"]["compared"] >= COMPARED else 1


def _held(figures: dict[str, float | None]) -> bool:
    costs = all((figures[name] or 0) <= BOUNDS[name] for name in ("ratio", "shadow_ratio"))
    speeds = all((figures[name] or 1e9) > BOUNDS[name] for name in ("over_quix", "over_faust"))
    return costs and speeds
