"""Latency through the router over that of a direct two-hop path (client, system, client), in one run, interleaved.

Open loop, 1,000 requests/s. A read is answered from memory; a mutating request when its change was acknowledged.
"""

import asyncio
import subprocess
import sys
import time

from rich.console import Console
from rich.table import Table

from bench.ground import Ground, ground, median, wait_for, write
from bench.load import Load, percentile
from bench.rest import ready
from hal9.settings import load
from hal9.topics import Topics, create

PARTITIONS = 6
RATE = 1_000
SECONDS = 12.0
WARM_S = 3.0
ROUNDS = 3
BOUNDS = {"read p50": 4.0, "read p99": 5.0, "mutating p50": 6.0}


def main() -> int:
    """Print a table, write `bench/results/latency.json`; 1 if a bound is missed."""
    with ground(PARTITIONS) as on:
        settings = load(None, on.environment)
        topics = Topics.of(settings.topics)
        asyncio.run(create(settings.kafka, topics))
        services = [on.start("system", "--name", "flat", "--handler", "bench.handlers:Echo"), on.start("router")]
        for service in services:
            wait_for(lambda s=service: ready(s), f"{service.name} ready")  # type: ignore[misc]
        source, target = topics.name("divergences"), topics.name("neurons.replica")
        command = [sys.executable, "-m", "bench.direct", on.endpoints.bootstrap, source, target, str(PARTITIONS)]
        direct = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        try:
            assert direct.stdout is not None
            direct.stdout.readline()
            runs = [asyncio.run(_round(on, topics, source, target, number)) for number in range(ROUNDS)]
        finally:
            direct.kill()
            direct.wait()
    return _report(runs)


async def _round(on: Ground, topics: Topics, source: str, target: str, number: int) -> dict[str, list[float]]:
    """p50 and p99 in ms of each path."""
    paths = {
        "direct": (source, target, "process"),
        "read": (topics.name("requests"), topics.name("responses"), "process"),
        "mutating": (topics.name("requests"), topics.name("responses"), "store"),
    }
    found = {}
    for path, (there, back, operation) in paths.items():
        async with Load(on.endpoints.bootstrap, there, back, PARTITIONS, RATE, operation) as asking:
            await asyncio.sleep(WARM_S + SECONDS)
            end = time.monotonic()
        taken = asking.latencies_ms(end - SECONDS)
        if asking.open:
            raise RuntimeError(f"{path}: {asking.open} requests without an answer")
        found[path] = [round(percentile(taken, 0.5), 2), round(percentile(taken, 0.99), 2)]
        print(f"round {number + 1}: {path} p50 {found[path][0]} ms, p99 {found[path][1]} ms", file=sys.stderr)
    return found


def _report(runs: list[dict[str, list[float]]]) -> int:
    middle = {path: [median([run[path][i] for run in runs]) for i in (0, 1)] for path in runs[0]}
    ratios = {
        f"{path} {name}": median([run[path][i] / run["direct"][i] for run in runs])
        for path in ("read", "mutating")
        for i, name in enumerate(("p50", "p99"))
    }
    write("latency", {"rate": RATE, "runs": runs, "median_ms": middle, "ratio": ratios, "bound": BOUNDS})
    table = Table("path", "p50 ms", "p99 ms", "p50 / direct", "p99 / direct", title=f"{RATE} requests/s")
    for path, (p50, p99) in middle.items():
        over = [f"{ratios[f'{path} {n}']:g}" if path != "direct" else "1" for n in ("p50", "p99")]
        table.add_row(path, f"{p50:g}", f"{p99:g}", *over)
    Console().print(table)
    return 0 if all(ratios[name] <= bound for name, bound in BOUNDS.items()) else 1
