"""Runs the peers: Python ones in a venv below the user's cache, Kafka Streams on the JDK that is on PATH."""

import json
import shutil
import subprocess
import sys
import tempfile
import tomllib
import venv
from dataclasses import dataclass
from pathlib import Path

from hal9.errors import Hal9Error
from stack.artefacts import Artefact, Lock, ensure
from stack.settings import cache_dir, from_environment

ROOT = Path(__file__).parents[2]
TIMEOUT_S = 240.0
STREAMS = Artefact(
    "org/apache/kafka/kafka-streams/4.4.0/kafka-streams-4.4.0.jar",
    2446342,
    "6e06548a119adf213121ad2e4fefff6ab4263875b4f761425ace8ea4f5ba04a6",
)
"""Beside the jars of the stack; the state stores it could have (rocksdbjni, 70 MB) are not used here."""


class Missing(Exception):
    """Why a peer cannot run here."""


@dataclass(frozen=True)
class Peer:
    """One of them; `share` of the messages is enough for a slow one."""

    name: str
    command: list[str]
    share: float = 1.0

    def run(self, bootstrap: str, source: str, target: str, count: int) -> dict[str, float]:
        """Microseconds of CPU per message, and messages per second. Raises Missing."""
        with tempfile.TemporaryDirectory(prefix="hal9-bench-peer-") as scratch:
            task = [bootstrap, source, target, str(int(count * self.share)), scratch]
            try:
                done = subprocess.run(
                    [*self.command, *task], cwd=ROOT, capture_output=True, text=True, timeout=TIMEOUT_S, check=False
                )
            except subprocess.TimeoutExpired as error:
                raise Missing(f"not done within {TIMEOUT_S:g} s") from error
        try:
            return measured(done.stdout)
        except ValueError:
            raise Missing(f"exit {done.returncode}: {(done.stderr or done.stdout).strip()[-300:]}") from None


def measured(out: str) -> dict[str, float]:
    """What a loop says of itself at its end: `us` of CPU per message, and messages `per_s`. ValueError if nothing."""
    for line in reversed(out.splitlines()):
        if line.startswith("{"):
            found: dict[str, float] = json.loads(line)
            return {"us": round(found["us"], 2), "per_s": round(found["per_s"])}
    raise ValueError("it says nothing")


def peers() -> tuple[list[Peer], dict[str, str]]:
    """Those that can run here; the others, with the reason."""
    found: list[Peer] = []
    missing: dict[str, str] = {}
    try:
        python = str(_environment())
        found += [
            Peer("confluent-kafka", [python, "-m", "bench.peers.confluent"]),
            Peer("Quix Streams", [python, "-m", "bench.peers.quix"]),
            Peer("FastStream", [python, "-m", "bench.peers.faststream_app"]),
            Peer("Faust", [python, "-m", "bench.peers.faust_app"], 0.1),
        ]
    except Missing as error:
        missing["Python peers"] = str(error)
    try:
        found.append(_streams())
    except Missing as error:
        missing["Kafka Streams"] = str(error)
    return found, missing


def _environment() -> Path:
    """The interpreter of a venv with the extra `bench`, made on first use."""
    wanted = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]["bench"]
    home = cache_dir(from_environment()) / "bench" / "peers"
    python, stamp = home / "bin" / "python", home / "bench.txt"
    if stamp.is_file() and stamp.read_text() == "\n".join(wanted):
        return python
    print(f"installing {', '.join(wanted)} into {home}", file=sys.stderr)
    venv.create(home, with_pip=True)
    command = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *wanted]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise Missing(f"`{' '.join(command)}`: {done.stderr.strip()[-300:]}")
    stamp.write_text("\n".join(wanted))
    return python


def _streams() -> Peer:
    java = shutil.which("java")
    if java is None or shutil.which("javac") is None:
        raise Missing("no JDK (java and javac) on PATH")
    settings, lock = from_environment(), Lock.packaged()
    cache = cache_dir(settings) / "kafka" / lock.kafka
    try:
        jars = ensure(lock, cache, settings.maven_base, lambda _line: None)
        own = Lock(lock.kafka, (STREAMS,))
        jars += ensure(own, cache.parent.parent / "bench" / "jars", settings.maven_base, lambda _line: None)
    except Hal9Error as error:
        raise Missing(str(error)) from error
    path = ":".join(map(str, jars))
    return Peer("Kafka Streams", [java, "-cp", path, str(ROOT / "bench" / "peers" / "Streams.java")])
