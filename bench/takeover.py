"""How long answers of a router's partitions stay away when it is killed with -9, and when it stops cleanly.

Two routers under load; per partition, the first answer to a request asked after the event.
"""

import asyncio
import os
import signal
import sys
import time

from rich.console import Console
from rich.table import Table

from bench.ground import Ground, ground, median, wait_for, write
from bench.load import Load
from bench.rest import ready
from hal9.log.membership import HEARTBEAT_MS
from hal9.settings import Kafka, load
from hal9.topics import Topics, create
from stack.process import Supervised

PARTITIONS = 6
RATE = 300
SESSION_MS = Kafka().session_ms
ROUNDS = 3
WATCH_S = 12.0
BOUNDS = {"kill -9": (SESSION_MS + HEARTBEAT_MS) / 1000 + 1.0, "clean stop": 1.5}


def main() -> int:
    """Print a table, write `bench/results/takeover.json`; 1 if a bound is missed."""
    found: dict[str, list[float]] = {"kill -9": [], "clean stop": []}
    with ground(PARTITIONS) as on:
        settings = load(None, on.environment)
        topics = Topics.of(settings.topics)
        asyncio.run(create(settings.kafka, topics))
        flat = on.start("system", "--name", "flat", "--handler", "bench.handlers:Echo")
        routers = [on.start("router"), on.start("router")]
        for service in (flat, *routers):
            wait_for(lambda s=service: ready(s), f"{service.name} ready")  # type: ignore[misc]
        for number in range(ROUNDS):
            for event, how in (("kill -9", signal.SIGKILL), ("clean stop", signal.SIGTERM)):
                away = asyncio.run(_away(on, topics, routers[0], how))
                found[event].append(round(away, 2))
                print(f"round {number + 1}: {event}: {away:.2f} s", file=sys.stderr)
                routers = [routers[1], on.start("router")]
                wait_for(lambda: all(ready(r) for r in routers), "both routers ready")  # noqa: B023
    middle = {event: median(values) for event, values in found.items()}
    write("takeover", {"runs": found, "median_s": middle, "bound_s": BOUNDS})
    table = Table("event", "median s", "bound s", title="time until every partition answers again")
    for event, value in middle.items():
        table.add_row(event, f"{value:g}", f"{BOUNDS[event]:g}")
    Console().print(table)
    return 0 if all(value <= BOUNDS[event] for event, value in middle.items()) else 1


async def _away(on: Ground, topics: Topics, router: Supervised, how: signal.Signals) -> float:
    requests, answers = topics.name("requests"), topics.name("responses")
    async with Load(on.endpoints.bootstrap, requests, answers, PARTITIONS, RATE) as asking:
        await asyncio.sleep(3.0)
        struck = time.monotonic()
        os.kill(router.pid, how)
        while asking.recovery_s(struck) == float("inf") and time.monotonic() < struck + WATCH_S:
            await asyncio.sleep(0.05)
        # A rebalance may come later than the first answers: what was asked meanwhile must be answered soon, too.
        await asyncio.sleep(SESSION_MS / 1000 + 2.0 if how is signal.SIGKILL else 2.0)
        asked = [a for a in asking.asked.values() if a.due_s >= struck]
    late = [(a.answered_s or float("inf")) - a.due_s for a in asked]
    return max(late)
