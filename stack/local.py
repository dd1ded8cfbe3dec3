"""A local Kafka and Valkey below one directory: a second `up` finds the first, wherever it was started.

What a process starts ends with that process, unless it was started `detached`. Data stays until it is purged.
"""

import shutil
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from hal9.settings import Stack
from stack.artefacts import Lock, Progress, ensure
from stack.errors import StartFailed
from stack.java import java
from stack.kafka import KafkaServer
from stack.ports import free_ports, is_free
from stack.probe import kafka_is_ready, redis_is_ready
from stack.process import Supervised, tail
from stack.settings import cache_dir, from_environment
from stack.state import Server, StateFile
from stack.turns import turn
from stack.valkey import valkey_command, valkey_program

Command = tuple[str, ...]
Ports = tuple[int, ...]

KAFKA, REDIS = "kafka", "redis"
_READY: dict[str, Callable[[str, int], bool]] = {KAFKA: kafka_is_ready, REDIS: redis_is_ready}
_PORTS = {KAFKA: 2, REDIS: 1}
_START_DEADLINE_S = 90.0  # a broker that was killed reads its logs again; 5 s is usual
_STOP_GRACE_S = 15.0
_POLL_S = 0.05


def _silent(_line: str) -> None:
    """Nobody wants to know."""


@dataclass(frozen=True)
class Endpoints:
    """Where clients connect; empty for a server that this stack was told not to run."""

    bootstrap: str
    redis_url: str


@dataclass(frozen=True)
class ServerStatus:
    """What is known of one server.

    Attributes:
        state: `up`, `starting` (runs, does not answer), `dead` (ended without being told to), `down`.
        pid: process id, None when nothing runs.
        address: host and port, None when nothing runs.
        log: its log file.
    """

    name: str
    state: str
    pid: int | None
    address: str | None
    log: Path


class LocalStack:
    """Kafka and Valkey below `data_dir`. Synchronous; usable from any thread.

    As a context manager it stops, at the end, what this object started, and nothing that it found.

    Args:
        data_dir: data, logs and state.
        kafka: run a broker.
        redis: run a Valkey.
        detached: the servers outlive this process, until `down`.
        settings: where downloads come from and go to; by default, from the environment.
        timeout_s: how long `up` waits for a server to answer (default 90), and `down` for one to end before
            it is killed (default 15).
    """

    def __init__(
        self,
        data_dir: Path,
        *,
        kafka: bool = True,
        redis: bool = True,
        detached: bool = False,
        settings: Stack | None = None,
        timeout_s: float | None = None,
    ) -> None:
        self.directory = data_dir.absolute()
        self._start_deadline_s = timeout_s or _START_DEADLINE_S
        self._stop_grace_s = timeout_s or _STOP_GRACE_S
        self._names = [name for name, wanted in ((REDIS, redis), (KAFKA, kafka)) if wanted]
        self._detached = detached
        self._settings = settings or from_environment()
        self._state = StateFile(self.directory)
        self._children: dict[str, Supervised] = {}

    def __enter__(self) -> Self:
        """Starts nothing yet: that is `up`, which takes a progress callback."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stops what this object started."""
        self._stop(list(self._children))

    def up(self, progress: Progress = _silent) -> Endpoints:
        """Starts what does not run yet, and returns when all of it answers.

        Raises:
            FetchFailed, Corrupt: the first start could not fetch Kafka.
            NoRuntime: no Java or Valkey for this machine.
            StartFailed: a server ended or did not answer in time; what this call started is stopped.
        """
        with turn(self.directory, progress), ExitStack() as undo:
            servers = self._state.read()
            started = [name for name in self._names if not _runs(servers.get(name))]
            undo.callback(self._stop_held, started)
            for name in started:
                command = self._prepare(name, servers.get(name), progress)
                servers[name] = self._start(name, *command)
                self._state.write(servers)
            for name in self._names:
                progress(f"waiting for {name} on 127.0.0.1:{servers[name].port}")
                self._await_ready(name, servers[name])
            undo.pop_all()
        return self._endpoints(servers)

    def down(self, *, purge: bool = False) -> None:
        """Stops the servers of this directory, whoever started them; repeats are harmless.

        Args:
            purge: also removes data and logs.
        """
        self._stop(self._names)
        if purge:
            for name in (*self._names, "logs"):
                shutil.rmtree(self.directory / name, ignore_errors=True)

    def status(self) -> list[ServerStatus]:
        """One entry per server, by looking at the processes and asking the ports."""
        servers = self._state.read()
        return [self._status_of(name, servers.get(name)) for name in self._names]

    def endpoints(self) -> Endpoints | None:
        """Where clients connect, or None unless all servers run."""
        servers = self._state.read()
        if all(_runs(servers.get(name)) for name in self._names):
            return self._endpoints(servers)
        return None

    def log(self, name: str) -> Path:
        """The log file of `kafka` or `redis`."""
        return self.directory / "logs" / f"{name}.log"

    def _prepare(self, name: str, before: Server | None, progress: Progress) -> tuple[Command, Ports]:
        # The ports of before if they are still free, so that clients find a restarted server again.
        again = before is not None and all(map(is_free, before.ports))
        ports = before.ports if before is not None and again else tuple(free_ports(_PORTS[name]))
        home = self.directory / name
        home.mkdir(parents=True, exist_ok=True)
        if name == REDIS:
            return valkey_command(valkey_program(), home, ports[0]), ports
        lock = Lock.packaged()
        cache = cache_dir(self._settings) / "kafka" / lock.kafka
        jars = ensure(lock, cache, self._settings.maven_base, progress)
        server = KafkaServer(home, java(), jars)
        server.configure(*ports)
        progress(f"starting Kafka {lock.kafka}")
        server.format()
        return server.command, ports

    def _start(self, name: str, command: Command, ports: Ports) -> Server:
        before = self._children.get(name)
        if before is not None:
            before.stop()  # it is dead: this collects it
        home = self.directory / name
        child = Supervised(name, command, log=self.log(name), cwd=home, detached=self._detached)
        process = child.start()
        self._children[name] = child
        return Server(process.pid, process.start, ports[0], ports)

    def _await_ready(self, name: str, server: Server) -> None:
        deadline = time.monotonic() + self._start_deadline_s
        while not _READY[name]("127.0.0.1", server.port):
            if not server.process.is_alive():
                raise StartFailed(f"{name} ended while starting\n{tail(self.log(name), 20)}")
            if time.monotonic() >= deadline:
                raise StartFailed(
                    f"{name} did not answer on 127.0.0.1:{server.port} within {self._start_deadline_s:g} s\n"
                    f"{tail(self.log(name), 20)}"
                )
            time.sleep(_POLL_S)

    def _stop(self, names: list[str]) -> None:
        if names and self.directory.exists():
            with turn(self.directory, _silent):
                self._stop_held(names)

    def _stop_held(self, names: list[str]) -> None:
        servers = self._state.read()
        for name in names:
            child, server = self._children.pop(name, None), servers.pop(name, None)
            if child is not None:
                child.stop(self._stop_grace_s)
            if server is not None and (child is None or child.pid != server.pid):
                server.process.stop(self._stop_grace_s)
        self._state.write(servers)

    def _status_of(self, name: str, server: Server | None) -> ServerStatus:
        if server is None:
            return ServerStatus(name, "down", None, None, self.log(name))
        if not server.process.is_alive():
            return ServerStatus(name, "dead", None, None, self.log(name))
        state = "up" if _READY[name]("127.0.0.1", server.port) else "starting"
        return ServerStatus(name, state, server.pid, f"127.0.0.1:{server.port}", self.log(name))

    @staticmethod
    def _endpoints(servers: dict[str, Server]) -> Endpoints:
        kafka, redis = servers.get(KAFKA), servers.get(REDIS)
        return Endpoints(
            f"127.0.0.1:{kafka.port}" if kafka else "", f"redis://127.0.0.1:{redis.port}/0" if redis else ""
        )


def _runs(server: Server | None) -> bool:
    return server is not None and server.process.is_alive()
