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

from rich.console import Console
from rich.table import Table

from bench.bulk import Bulk
from bench.ground import ground, median, write
from bench.passthrough import PARTITIONS
from bench.peers.running import Missing, Peer, measured, peers
from bench.turns import BARE, DROPPED_S, Row, make, router

SOURCE, TARGET = "bench.source", "bench.target"
COMPARED = 0.98
BOUNDS = {"ratio": 3.0, "shadow_ratio": 5.0, "over_quix": 1.0, "over_faust": 8.0}
BARE_THRICE, QUIX_THRICE = "bare loop, thrice", "Quix Streams, thrice"


async def prepare(bootstrap: str, count: int) -> None:
    """The topics of the peers, and what they move."""
    await make(bootstrap, [SOURCE, TARGET])
    async with Bulk(bootstrap, PARTITIONS) as bulk:
        await bulk.send(SOURCE, bulk.batches(count))


def three_passes(name: str, loop: list[str], bootstrap: str, count: int, prefix: str) -> Row:
    """Three loops (`loop SOURCE TARGET COUNT`), one behind the other: what an answered request crosses."""
    topics = [f"{prefix}{number}" for number in range(4)]
    asyncio.run(make(bootstrap, topics))
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


def main(count: int = 60_000, runs: int = 5) -> int:
    """Print a table, write `bench/results/router.json`; 1 if a bound is missed."""
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
                row = router(on, count, f"{'shadow' if shadow else 'plain'}{number}.", shadow=shadow)
                rows.setdefault(name, []).append(row)
            for peer in (BARE, *others):
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
        ratio = row.get("ratio") or row["us"] / result[BARE.name]["us"]
        table.add_row(name, f"{row['us']:g}", f"{row['per_s']:g}", f"{ratio:.2f}")
    for name, why in missing.items():
        table.add_row(name, "", "", why)
    Console().print(table, figures, BOUNDS)
    return 0 if _held(figures) and result["router, shadowed"]["compared"] >= COMPARED else 1


def _held(figures: dict[str, float | None]) -> bool:
    costs = all((figures[name] or 0) <= BOUNDS[name] for name in ("ratio", "shadow_ratio"))
    speeds = all((figures[name] or 1e9) > BOUNDS[name] for name in ("over_quix", "over_faust"))
    return costs and speeds
