"""The services of one run as processes: several of each, killed, frozen and started again by name."""

import signal
import sys
from collections.abc import Mapping
from pathlib import Path

from hal9.settings import Settings
from stack.process import Supervised


class Fleet:
    """Slots `router-1`, `router-2`, ...; each start of a slot has a log of its own."""

    def __init__(self, directory: Path, settings: Settings, counts: Mapping[str, int]) -> None:
        self._directory, self._settings = directory, settings
        self.slots = [f"{service}-{number}" for service, count in counts.items() for number in range(1, count + 1)]
        self._running: dict[str, Supervised] = {}
        self._frozen: set[str] = set()
        self._killed: set[str] = set()
        self._starts = 0

    def start(self, slot: str) -> None:
        """Start a slot (again)."""
        self._starts += 1
        self._killed.discard(slot)
        shared = self._settings
        environment = {
            "HAL9_KAFKA__BOOTSTRAP": shared.kafka.bootstrap,
            "HAL9_REDIS__URL": shared.redis.url,
            "HAL9_TOPICS__PREFIX": shared.topics.prefix,
            "HAL9_TOPICS__PARTITIONS": str(shared.topics.partitions),
            "HAL9_TELEMETRY__LOG_FORMAT": "json",
        }
        command = [sys.executable, "-P", "-m", "hal9", "run", slot.rpartition("-")[0]]
        log = self._directory / f"{self._starts:03d}-{slot}.log"
        self._running[slot] = Supervised(slot, command, log=log, env=environment)
        self._running[slot].start()

    def start_all(self) -> None:
        """Start every slot."""
        for slot in self.slots:
            self.start(slot)

    def awake(self, service: str) -> list[str]:
        """The slots of a service that run and are not frozen."""
        slots = [slot for slot in self.slots if slot.rpartition("-")[0] == service]
        return [slot for slot in slots if slot not in self._frozen and slot not in self._killed]

    def kill(self, slot: str) -> None:
        """SIGKILL."""
        self._killed.add(slot)
        self._running[slot].kill()

    def freeze(self, slot: str) -> None:
        """SIGSTOP."""
        self._frozen.add(slot)
        self._running[slot].send(signal.SIGSTOP)

    def thaw(self, slot: str) -> None:
        """SIGCONT."""
        self._frozen.discard(slot)
        self._running[slot].send(signal.SIGCONT)

    def ended(self) -> list[str]:
        """Those that ended though nobody killed them, with the end of what they said."""
        return [
            f"{slot} ended by itself, exit {code}: {process.tail(5)}"
            for slot, process in self._running.items()
            if slot not in self._killed and (code := process.poll()) is not None
        ]

    def log_lines(self) -> dict[str, int]:
        """How many lines each service has logged, over all its processes."""
        found: dict[str, int] = {}
        for log in sorted(self._directory.glob("*.log")):
            service = log.stem.partition("-")[2].rpartition("-")[0]
            found[service] = found.get(service, 0) + len(log.read_bytes().splitlines())
        return found

    def stop(self) -> None:
        """Thaw and stop them all."""
        for slot, process in self._running.items():
            if slot in self._frozen:
                process.send(signal.SIGCONT)
        for process in self._running.values():
            process.send(signal.SIGTERM)
        for process in self._running.values():
            process.stop()
