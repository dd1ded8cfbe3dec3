"""What every bench stands on: a fresh local stack, services as processes, their CPU and memory, waiting, results."""

import json
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from stack.local import Endpoints, LocalStack
from stack.process import Supervised

RESULTS = Path(__file__).parent / "results"
DEADLINE_S = 120.0


@dataclass
class Ground:
    """A running stack and the services started on it."""

    directory: Path
    endpoints: Endpoints
    environment: dict[str, str]
    services: list[Supervised] = field(default_factory=list)

    def start(self, name: str, *arguments: str, environment: dict[str, str] | None = None) -> Supervised:
        """Start `hal9 run NAME`."""
        command = [str(Path(sys.executable).with_name("hal9")), "run", name, *arguments]
        log = self.directory / f"{name}-{len(self.services)}.log"
        service = Supervised(name, command, log=log, env={**self.environment, **(environment or {})})
        service.start()
        self.services.append(service)
        return service


@contextmanager
def ground(partitions: int) -> Iterator[Ground]:
    """A fresh stack; everything ends with the block."""
    with tempfile.TemporaryDirectory(prefix="hal9-bench-") as name:
        directory = Path(name)
        with LocalStack(directory) as stack:
            endpoints = stack.up(lambda line: print(line, file=sys.stderr))
            environment = {
                "HAL9_KAFKA__BOOTSTRAP": endpoints.bootstrap,
                "HAL9_REDIS__URL": endpoints.redis_url,
                "HAL9_TOPICS__PARTITIONS": str(partitions),
                "HAL9_TELEMETRY__LOG_FORMAT": "json",
            }
            found = Ground(directory, endpoints, environment)
            try:
                yield found
            finally:
                for service in reversed(found.services):
                    service.stop()


def cpu_s(pid: int) -> float:
    """User and system CPU time of a process so far, all threads."""
    return time.clock_gettime(~pid << 3 | 2)  # the clock id of clock_getcpuclockid(3): /proc counts by 10 ms


def resident_mb(pid: int) -> float:
    """Resident memory of a process."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    raise ValueError(f"process {pid} has no VmRSS")


def wait_for(condition: Callable[[], bool], what: str, deadline_s: float = DEADLINE_S, every_s: float = 0.1) -> None:
    """Return when `condition` holds; raises TimeoutError."""
    end = time.monotonic() + deadline_s
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError(f"{what}: not within {deadline_s:g} s")
        time.sleep(every_s)


def median(values: list[float]) -> float:
    """The median, rounded to what a noisy machine can say."""
    return round(statistics.median(values), 3)


def write(name: str, result: dict[str, object]) -> Path:
    """Write a result as JSON, with what it was measured on."""
    RESULTS.mkdir(exist_ok=True)
    machine = {"python": platform.python_version(), "cores": os.cpu_count(), "system": platform.platform()}
    path = RESULTS / f"{name}.json"
    path.write_text(json.dumps({"bench": name, "machine": machine, **result}, indent=2) + "\n")
    return path
