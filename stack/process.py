"""One supervised child process: it writes to a log file and ends with its parent, however that ends.

Each child leads a session of its own, so Ctrl-C in a terminal reaches the parent alone, which stops its
children in the order that it wants.
"""

import os
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from stack.errors import StartFailed
from stack.guard import GUARD
from stack.identity import ProcessId

_LOOK_S = 0.3
"""Between looks at whether a log has grown."""

# Holds the child back until the watcher knows it: a parent killed in between leaves nothing. At the end of
# the input (the parent is gone) `read` fails and nothing is run. The process id stays the same over exec.
_GATE = ("/bin/sh", "-c", 'read -r go && exec "$@" </dev/null', "gate")


class Supervised:
    """A command that is run as a child of this process.

    Args:
        name: for messages.
        command: program and arguments.
        log: file that the output is appended to; its directory is made.
        env: variables on top of this process's own.
        detached: it outlives this process, until somebody ends it.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        *,
        log: Path,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        detached: bool = False,
    ) -> None:
        self.name = name
        self.command = tuple(command)
        self.log = log
        self.detached = detached
        self._env = {**os.environ, **(env or {})}
        self._cwd = cwd
        self._popen: subprocess.Popen[bytes] | None = None
        self._id: ProcessId | None = None

    def __repr__(self) -> str:
        """Live state, for logs and tests."""
        if self._id is None:
            return f"<Supervised {self.name}: not started>"
        code = self.poll()
        state = "running" if code is None else f"exit {code}"
        return f"<Supervised {self.name}: pid {self._id.pid}, {state}>"

    @property
    def id(self) -> ProcessId:
        """Which process it is.

        Raises:
            StartFailed: it was never started.
        """
        if self._id is None:
            raise StartFailed(f"{self.name} was not started")
        return self._id

    @property
    def pid(self) -> int:
        """Its process id, also after it ended."""
        return self.id.pid

    def start(self) -> ProcessId:
        """Starts it, or starts it again after it ended.

        Raises:
            StartFailed: it runs already.
        """
        if self._popen is not None and self.poll() is None:
            raise StartFailed(f"{self.name} runs already, pid {self.pid}")
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as output:
            self._popen = subprocess.Popen(
                [*_GATE, *self.command],
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=self._env,
                cwd=self._cwd,
                start_new_session=True,
            )
        self._id = ProcessId.of(self._popen.pid)
        if self._id is None:
            raise StartFailed(f"{self.name} ended at once, exit {self._popen.wait()}\n{self.tail()}")
        if not self.detached:
            GUARD.watch(self._id)
        assert self._popen.stdin is not None
        with suppress(BrokenPipeError), self._popen.stdin as gate:  # ended already: `poll` says so
            gate.write(b"go\n")
        return self._id

    def poll(self) -> int | None:
        """The exit code (negative: the signal that ended it), or None while it runs."""
        if self._popen is None:
            return None
        code = self._popen.poll()
        if code is not None:
            GUARD.forget(self.id)
        return code

    def wait(self, seconds: float) -> int | None:
        """Waits for its end at most that long; returns as `poll`."""
        if self._popen is not None:
            try:
                self._popen.wait(seconds)
            except subprocess.TimeoutExpired:
                return None
        return self.poll()

    def send(self, number: signal.Signals) -> None:
        """Sends a signal; after its end, nothing."""
        if self._popen is not None:
            self._popen.send_signal(number)

    def kill(self) -> int | None:
        """SIGKILL; returns as `poll` when it has ended."""
        self.send(signal.SIGKILL)
        return self.wait(10.0)

    def stop(self, grace_s: float = 10.0) -> int | None:
        """SIGTERM, then SIGKILL if it still runs after the grace; repeats are harmless.

        Returns the exit code, None if it was never started.
        """
        self.send(signal.SIGTERM)
        code = self.wait(grace_s)
        return self.kill() if code is None else code

    def tail(self, lines: int = 20) -> str:
        """The end of its log."""
        return tail(self.log, lines)


def followed(log: Path, lines: int, for_s: float) -> Iterator[str]:
    """The last lines of a text file, then what is added to it during `for_s` seconds."""
    position, until = log.stat().st_size, time.monotonic() + for_s
    yield tail(log, lines)
    while time.monotonic() < until:
        with log.open("rb") as handle:
            handle.seek(position)
            yield handle.read().decode("utf-8", "replace").removesuffix("\n")
            position = handle.tell()
        time.sleep(_LOOK_S)


def tail(log: Path, lines: int) -> str:
    """The last lines of a text file, empty if there is none."""
    if not log.is_file():
        return ""
    with log.open("rb") as handle:
        handle.seek(max(0, log.stat().st_size - 400 * lines))
        return "\n".join(handle.read().decode("utf-8", "replace").splitlines()[-lines:])
