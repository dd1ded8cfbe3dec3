"""Clients in other languages are answered, with headers and without, by a system whose handler is behind HTTP.

One topology for all of them: a router, and `flat` with the counter of `examples/handlers` in a process of its own. What
is built lies in the user's cache; a client whose tools are not on this machine is skipped, and says which.
"""

import asyncio
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from uuid import uuid4

import pytest
from msgspec.structs import replace

from hal9.client import Client
from hal9.local.services import Services
from hal9.settings import Kafka, Settings
from hal9.settings import Topics as TopicSettings
from hal9.topics import Topics, create
from stack.artefacts import Artefact, Lock, ensure
from stack.errors import FetchFailed
from stack.java import java
from stack.local import Endpoints
from stack.ports import free_ports
from stack.settings import cache_dir, from_environment
from tests.building import go_program

ROOT = Path(__file__).parents[2]
CLIENTS, COUNTER = ROOT / "examples" / "clients", ROOT / "examples" / "handlers" / "counter.py"
TOOLS = Path(__file__).parents[1] / "data" / "kafka-tools.lock.json"
PROGRAM = Path("~/.cache/hal9/examples/ask").expanduser()
PARTITIONS = 6


@pytest.fixture(scope="module")
def settings(endpoints: Endpoints, empty_redis: Callable[[], str]) -> Settings:
    kafka = Kafka(bootstrap=endpoints.bootstrap)
    made = Settings(kafka=kafka, topics=TopicSettings(prefix=f"examples-{uuid4().hex[:8]}.", partitions=PARTITIONS))
    return replace(made, redis=replace(made.redis, url=empty_redis()))


class Counter:
    """The handler, which can be ended and started again at the same address."""

    def __init__(self) -> None:
        (self.port,) = free_ports(1)
        self._process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, str(COUNTER), str(self.port)], stdout=subprocess.PIPE, text=True
        )
        assert self._process.stdout is not None
        assert self._process.stdout.readline().strip() == f"http://127.0.0.1:{self.port}/"

    def end(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.communicate()


@pytest.fixture(scope="module")
def counter(settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Counter]:
    asyncio.run(create(settings.kafka, Topics.of(settings.topics)))
    counter = Counter()
    counter.start()
    environment = {
        "HAL9_KAFKA__BOOTSTRAP": settings.kafka.bootstrap,
        "HAL9_REDIS__URL": settings.redis.url,
        "HAL9_TOPICS__PREFIX": settings.topics.prefix,
        "HAL9_TOPICS__PARTITIONS": str(PARTITIONS),
    }
    own = {"system": {"HAL9_SYSTEM__NAME": "flat", "HAL9_SYSTEM__HANDLER": f"http://127.0.0.1:{counter.port}/"}}
    running = Services(tmp_path_factory.mktemp("examples"), environment, own=own)
    try:
        running.start(["router", "system"])
        running.await_ready(lambda _: None, ["router", "system"])
        yield counter
    finally:
        running.stop()
        counter.end()


def jars() -> str:
    """A class path with the client and Kafka's own tools; skips where they cannot be fetched."""
    stack = from_environment()
    raw = json.loads(TOOLS.read_text(encoding="utf-8"))
    tools = Lock(raw["kafka"], tuple(Artefact(**entry) for entry in raw["artefacts"]))
    try:
        found = ensure(tools, cache_dir(stack) / "kafka-tools" / tools.kafka, stack.maven_base, lambda _: None)
    except FetchFailed as error:
        pytest.skip(str(error))
    kafka = Lock.packaged()
    found += ensure(kafka, cache_dir(stack) / "kafka" / kafka.kafka, stack.maven_base, lambda _: None)
    return os.pathsep.join(map(str, found))


def confluent(_tmp: Path) -> tuple[list[str], dict[str, str]]:
    pytest.importorskip("confluent_kafka", reason="the package confluent-kafka is not installed")
    return [sys.executable, str(CLIENTS / "ask_confluent.py")], {}


def console(tmp: Path) -> tuple[list[str], dict[str, str]]:
    """Kafka's own command-line tools, as they lie in its bin directory."""
    if shutil.which("bash") is None:
        pytest.skip("no bash on PATH")
    path, tools = jars(), "org.apache.kafka.tools"
    for name, main in (("producer", f"{tools}.ConsoleProducer"), ("consumer", f"{tools}.consumer.ConsoleConsumer")):
        script = tmp / f"kafka-console-{name}.sh"
        script.write_text(
            f"#!/bin/sh\nexec '{java()}' -Xshare:auto -XX:TieredStopAtLevel=1 -cp '{path}' {main} \"$@\"\n"
        )
        script.chmod(0o755)
    return ["bash", str(CLIENTS / "ask_console.sh")], {"PATH": f"{tmp}{os.pathsep}{os.environ['PATH']}"}


def in_java(_tmp: Path) -> tuple[list[str], dict[str, str]]:
    found = shutil.which("java")
    if found is None or shutil.which("javac") is None:
        pytest.skip("no Java with a compiler on PATH")
    return [found, "-XX:TieredStopAtLevel=1", "-cp", jars(), str(CLIENTS / "Ask.java")], {}


def in_go(_tmp: Path) -> tuple[list[str], dict[str, str]]:
    return [go_program(CLIENTS / "ask-go", PROGRAM)], {}


LANGUAGES = {"confluent-kafka": confluent, "kafka-console": console, "java": in_java, "go": in_go}


def ask(command: Sequence[str], environment: dict[str, str], *given: str) -> str:
    """What a client prints."""
    done = subprocess.run(
        [*command, *given], env={**os.environ, **environment}, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def bare(language: str) -> str:
    """The key of the request without headers."""
    return f"{language}-bare"


def full(language: str) -> str:
    """The key of the request with headers."""
    return f"{language}-full"


Asked = dict[str, tuple["Future[str]", "Future[str]"]]


@pytest.fixture(scope="module")
def asked(settings: Settings, counter: Counter, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Asked]:
    """All of them at once; one that is skipped or fails says so when its answers are asked for."""
    with ThreadPoolExecutor(2 * len(LANGUAGES)) as pool, ThreadPoolExecutor(len(LANGUAGES)) as makers:
        made = {name: makers.submit(make, tmp_path_factory.mktemp(name)) for name, make in LANGUAGES.items()}

        def both(name: str, key: str, *rest: str) -> str:
            command, environment = made[name].result()
            return ask(command, environment, settings.kafka.bootstrap, key, *rest, settings.topics.prefix)

        yield {
            name: (pool.submit(both, name, bare(name), "7", ""), pool.submit(both, name, full(name), "5", "add"))
            for name in LANGUAGES
        }


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_client_is_answered_with_headers_and_without(language: str, asked: Asked, settings: Settings) -> None:
    without, with_headers = (answer.result() for answer in asked[language])
    if language == "kafka-console":
        headers, key, value = without.split("\t")
        assert (key, value) == (bare(language), "7")
        told = dict(pair.split(":", 1) for pair in headers.split(","))
        assert (told["status"], told["served-by"]) == ("ok", "flat")
        assert told["id"].startswith(f"{settings.topics.prefix}requests-")
        assert with_headers.endswith(f"\t{full(language)}\t5")
        assert "status:ok" in with_headers
    else:
        assert (without, with_headers) == ("ok 7", "ok 5")


async def test_while_the_handler_is_gone_requests_wait_and_are_answered_when_it_is_back(
    settings: Settings, counter: Counter
) -> None:
    async with Client(settings=settings) as client:
        assert (await client.request("waits", b"1", operation="add", deadline_s=30)).value == b"1"
        counter.end()
        asked = asyncio.create_task(client.request("waits", b"2", operation="add", deadline_s=50))
        other = asyncio.create_task(client.request("late", b"2", operation="add", deadline_s=1))
        assert (await other).status == "timeout"
        assert not asked.done()
        counter.start()
        answer = await asked
        assert (answer.status, answer.value) == ("ok", b"3")
        assert (await client.request("late", operation="get", deadline_s=30)).value == b"0", "given up, never applied"
