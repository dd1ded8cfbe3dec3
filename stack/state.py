"""What runs in a stack directory: written by whoever starts it, read by everybody else."""

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

from hal9.errors import ConfigError
from stack.identity import ProcessId


@dataclass(frozen=True)
class Server:
    """One started server.

    Attributes:
        pid: its process id.
        start: when that process started, in the system's words: an id alone may be another process by now.
        port: where it listens on 127.0.0.1.
        ports: all ports that it holds.
    """

    pid: int
    start: str
    port: int
    ports: tuple[int, ...]

    @property
    def process(self) -> ProcessId:
        """The process, verified by its start before every use."""
        return ProcessId(self.pid, self.start)


class StateFile:
    """`stack.json` of a stack directory; none means that nothing was started there."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._path = directory / "stack.json"

    def read(self) -> dict[str, Server]:
        """Servers by name, dead ones included.

        Raises:
            ConfigError: the file is something else.
        """
        try:
            raw = json.loads(self._path.read_text("utf-8"))
            return {
                name: Server(int(entry["pid"]), str(entry["start"]), int(entry["port"]), tuple(entry["ports"]))
                for name, entry in raw["servers"].items()
            }
        except FileNotFoundError:
            return {}
        except (ValueError, KeyError, TypeError, AttributeError) as damage:
            # Written by rename, so this is no half-written file; whoever changed it must look.
            raise ConfigError(f"{self._path} is not a stack's state file, remove it: {damage}") from damage

    def write(self, servers: dict[str, Server]) -> None:
        """Replaces the file in one step; with no servers, removes it."""
        if not servers:
            self._path.unlink(missing_ok=True)
            return
        self._directory.mkdir(parents=True, exist_ok=True)
        scratch = self._path.with_suffix(f".{os.getpid()}.new")
        body = {"servers": {name: asdict(server) for name, server in servers.items()}}
        scratch.write_text(json.dumps(body, indent=1) + "\n", encoding="utf-8")
        scratch.replace(self._path)
