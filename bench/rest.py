"""Resident memory and CPU of each service at rest: started, assigned, caught up, nobody asks anything."""

import asyncio
import re
import time
import urllib.error
import urllib.request

from rich.console import Console
from rich.table import Table

from bench.ground import cpu_s, ground, resident_mb, wait_for, write
from hal9.settings import load
from hal9.topics import Topics, create
from stack.process import Supervised

SERVICES = ("router", "migrator", "guardian", "orchestrator", "flat", "hierarchical")
REST_S = 20.0
BOUNDS = {"resident_mb": 120.0, "cpu_percent": 2.0}


def ready(service: Supervised) -> bool:
    """Whether its /readyz says so."""
    found = re.search(r'"port": (\d+)', service.tail(200))
    if found is None:
        return False
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{found.group(1)}/readyz", timeout=2) as reply:
            return bool(reply.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def main() -> int:
    """Print a table, write `bench/results/rest.json`."""
    with ground(12) as on:
        settings = load(None, on.environment)
        asyncio.run(create(settings.kafka, Topics.of(settings.topics)))
        services = [on.start(name) for name in SERVICES]
        for service in services:
            wait_for(lambda s=service: ready(s), f"{service.name} ready")  # type: ignore[misc]
        time.sleep(5.0)
        before = [cpu_s(s.pid) for s in services]
        time.sleep(REST_S)
        found = {
            service.name: {
                "resident_mb": round(resident_mb(service.pid), 1),
                "cpu_percent": round((cpu_s(service.pid) - begun) / REST_S * 100, 2),
            }
            for service, begun in zip(services, before, strict=True)
        }
    write("rest", {"rest_s": REST_S, "services": found, "bound": BOUNDS})
    table = Table("service", "resident MB", "CPU % of a core", title="services at rest")
    for name, row in found.items():
        table.add_row(name, f"{row['resident_mb']:g}", f"{row['cpu_percent']:g}")
    Console().print(table)
    return 0 if all(row[name] < bound for row in found.values() for name, bound in BOUNDS.items()) else 1
