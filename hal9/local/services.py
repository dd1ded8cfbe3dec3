"""The services as supervised processes below one directory: each its own, with a port and a log file.

A second start finds what runs. What this process started ends with it, unless it was started `detached`. A service
that ends without being told to is never started again silently: `ended` names it.
"""

import signal
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from hal9.errors import Hal9Error
from hal9.local.ready import not_ready
from stack.ports import free_ports
from stack.process import Supervised, tail
from stack.state import Server, StateFile
from stack.turns import turn

SERVICES = ("flat", "hierarchical", "router", "migrator", "guardian", "orchestrator")
READY_S = 90.0  # six interpreters start at once, perhaps beside a broker that still warms up
_POLL_S = 0.1
_TAIL_LINES = 15

Environment = Mapping[str, str]


class ServiceEnded(Hal9Error):
    """A service ended that should run, or never became ready; the message ends with the last lines of its log."""


@dataclass(frozen=True, slots=True)
class ServiceStatus:
    """What is known of one service; `pid` is None when it does not run, `waits_for` None when it is ready."""

    name: str
    pid: int | None
    port: int | None
    log: Path
    waits_for: str | None


class Services:
    """The services of one directory.

    Args:
        directory: logs and state.
        environment: variables for each of them, on top of this process's own.
        own: further variables, by service.
        detached: they outlive this process, until `stop_all`.
        stop_grace_s: how long one may take to stop before it is killed.
    """

    def __init__(
        self,
        directory: Path,
        environment: Environment,
        *,
        own: Mapping[str, Environment] | None = None,
        detached: bool = False,
        stop_grace_s: float = 10.0,
    ) -> None:
        self.directory, self._environment, self._own = directory, environment, own or {}
        self._detached, self._stop_grace_s = detached, stop_grace_s
        self._turns = directory / "services"
        self._state = StateFile(self._turns)
        self._children: dict[str, Supervised] = {}
        self._killed: set[str] = set()

    def start(self, names: Iterable[str] = SERVICES) -> list[str]:
        """Start those that do not run; returns their names."""
        with turn(self._turns, _silent):
            servers = self._state.read()
            missing = [name for name in names if not _runs(servers.get(name))]
            ports = free_ports(len(missing)) if missing else []
            for name, port in zip(missing, ports, strict=True):
                servers[name] = self._start(name, port)
                self._state.write(servers)
        return missing

    def _start(self, name: str, port: int) -> Server:
        before = self._children.get(name)
        if before is not None:
            before.stop()  # it has ended: this collects it
        environment = {**self._environment, **self._own.get(name, {}), "HAL9_HTTP__PORT": str(port)}
        # -P: what lies in the working directory is not imported in place of what is installed.
        command = (sys.executable, "-P", "-m", "hal9", "run", name)
        child = Supervised(name, command, log=self.log(name), env=environment, detached=self._detached)
        process = child.start()
        self._children[name] = child
        self._killed.discard(name)
        return Server(process.pid, process.start, port, (port,))

    def await_ready(
        self, progress: Callable[[str], None], names: Iterable[str] = SERVICES, deadline_s: float = READY_S
    ) -> None:
        """Return when all of them are ready.

        Raises:
            ServiceEnded: one ended, or is not ready in time.
        """
        until_s = time.monotonic() + deadline_s
        waiting = list(names)
        while waiting:
            self.refuse_ended()
            reasons = {name: self.status(name).waits_for for name in waiting}
            for name in [name for name, reason in reasons.items() if reason is None]:
                waiting.remove(name)
                progress(f"{name} is ready")
            if waiting and time.monotonic() >= until_s:
                name = waiting[0]
                raise ServiceEnded(f"{name} is not ready after {deadline_s:g} s: {reasons[name]}\n{self.tail(name)}")
            if waiting:
                time.sleep(_POLL_S)

    def ended(self) -> dict[str, str]:
        """The services that have ended without being told to, each with how and the end of its log."""
        found = {}
        for name, server in self._state.read().items():
            child = self._children.get(name)
            if name in self._killed or (child.poll() is None if child is not None else _runs(server)):
                continue
            code = child.poll() if child is not None else None
            how = (
                "ended" if code is None else f"ended by signal {-code}" if code < 0 else f"ended with exit code {code}"
            )
            found[name] = f"{name} {how}; the end of {self.log(name)}:\n{self.tail(name)}"
        return found

    def refuse_ended(self) -> None:
        """Raise ServiceEnded if any has ended without being told to."""
        found = self.ended()
        if found:
            raise ServiceEnded("\n".join(found.values()))

    def kill(self, name: str) -> None:
        """SIGKILL to one that this object started; it then counts as told to."""
        self._killed.add(name)
        self._children[name].kill()

    def pid(self, name: str) -> int | None:
        """Its process id while it runs."""
        server = self._state.read().get(name)
        return server.pid if server is not None and _runs(server) else None

    def status(self, name: str) -> ServiceStatus:
        """By looking at the process and asking its port."""
        server = self._state.read().get(name)
        if server is None or not _runs(server):
            return ServiceStatus(name, None, None, self.log(name), "not running")
        return ServiceStatus(name, server.pid, server.port, self.log(name), not_ready(server.port))

    def log(self, name: str) -> Path:
        """Its log file."""
        return self.directory / "logs" / f"{name}.log"

    def tail(self, name: str, lines: int = _TAIL_LINES) -> str:
        """The end of its log."""
        return tail(self.log(name), lines)

    def stop(self) -> None:
        """Stop what this object started, and nothing that it found; repeats are harmless."""
        self._stop(list(self._children))

    def stop_all(self) -> list[str]:
        """Stop the services of this directory, whoever started them; returns their names."""
        names = list(self._state.read())
        self._stop(names)
        return names

    def _stop(self, names: list[str]) -> None:
        if not names:
            return
        with turn(self._turns, _silent):
            servers = self._state.read()
            for name in names:  # all are told first: they stop side by side
                if name in servers:
                    servers[name].process.signal(signal.SIGTERM)
            for name in names:
                child, server = self._children.pop(name, None), servers.pop(name, None)
                if child is not None:
                    child.stop(self._stop_grace_s)
                if server is not None:
                    server.process.stop(self._stop_grace_s)
            self._state.write(servers)


def _silent(_line: str) -> None:
    """A turn is short: nobody wants to know that somebody waits for it."""


def _runs(server: Server | None) -> bool:
    return server is not None and server.process.is_alive()
