"""The `hal9` command as a user runs it: a process of its own, outside the checkout, and no trace of it afterwards."""

import json
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

MARK = "E2E_MARK"
END_S = 30.0


@dataclass
class Command:
    """Runs `hal9`; everything it starts carries a mark in its environment, by which it is found."""

    directory: Path
    program: tuple[str, ...] = (sys.executable, "-P", "-m", "hal9")
    settings: Mapping[str, str] = field(default_factory=dict)
    mark: str = field(default_factory=lambda: uuid.uuid4().hex)

    def start(self, *arguments: str) -> "subprocess.Popen[str]":
        """A process whose output is read through pipes."""
        clean = {name: value for name, value in os.environ.items() if not name.startswith("HAL9_")}
        cache = {"HAL9_STACK__CACHE_DIR": cached} if (cached := os.environ.get("HAL9_STACK__CACHE_DIR")) else {}
        own = {MARK: self.mark, "TMPDIR": str(self.directory), "NO_COLOR": "1"}
        return subprocess.Popen(
            [*self.program, *arguments],
            cwd=self.directory,
            env={**clean, **cache, **self.settings, **own},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *arguments: str, timeout_s: float = 240.0) -> "subprocess.CompletedProcess[str]":
        """To its end."""
        process = self.start(*arguments)
        try:
            out, err = process.communicate(timeout=timeout_s)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGTERM)
            out, err = process.communicate(timeout=END_S)
            pytest.fail(f"hal9 {' '.join(arguments)} did not end within {timeout_s:g} s\n{out}\n{err}")
        return subprocess.CompletedProcess(arguments, process.returncode, out, err)

    def demo(self, *arguments: str) -> "tuple[subprocess.CompletedProcess[str], dict[str, Any]]":
        """`hal9 demo`, and its report."""
        path = self.directory / "report.json"
        done = self.run("demo", "--headless", "--report", str(path), *arguments)
        assert path.is_file(), done.stderr
        return done, json.loads(path.read_text("utf-8"))

    def alive(self) -> dict[int, str]:
        """Processes with the mark, by id."""
        found = {}
        for entry in Path("/proc").iterdir():
            if entry.name.isdecimal() and int(entry.name) != os.getpid():
                try:
                    if f"{MARK}={self.mark}".encode() in (entry / "environ").read_bytes().split(b"\0"):
                        found[int(entry.name)] = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
                except (FileNotFoundError, PermissionError, ProcessLookupError):
                    continue
        return found

    def pid_of(self, part: str) -> int:
        """The one process whose command line ends so."""
        (found,) = [pid for pid, line in self.alive().items() if line.strip().endswith(part)]
        return found

    def assert_nothing_left(self) -> None:
        """Everything has ended, or does so soon."""
        until_s = time.monotonic() + END_S
        while found := self.alive():
            assert time.monotonic() < until_s, found
            time.sleep(0.05)


def read_until(process: "subprocess.Popen[str]", text: str) -> str:
    """Read standard error up to a line with this text, and return what was read."""
    assert process.stderr is not None
    read = []
    for line in process.stderr:
        read.append(line)
        if text in line:
            return "".join(read)
    pytest.fail(f"{text!r} was never said:\n{''.join(read)}")


@pytest.fixture
def until() -> Callable[["subprocess.Popen[str]", str], str]:
    return read_until


@pytest.fixture
def command(tmp_path: Path) -> Iterator[Command]:
    """On a Kafka and a Valkey of its own."""
    made = Command(tmp_path)
    yield made
    for pid in made.alive():
        os.kill(pid, signal.SIGKILL)


@pytest.fixture
def guest(command: Command, bootstrap: str, empty_redis: Callable[[], str]) -> Command:
    """On the Kafka and the Valkey of the whole test run, in a database of its own."""
    command.settings = {"HAL9_KAFKA__BOOTSTRAP": bootstrap, "HAL9_REDIS__URL": empty_redis()}
    return command
