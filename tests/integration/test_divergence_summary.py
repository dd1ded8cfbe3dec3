"""On the real stack: a field that is noise and a field with a real fault, told apart by flat's twins.

Hierarchical owns every key, flat runs the shadows (so it stays warm, and how fast it is stays known) and the twins.
"""

import asyncio
import json
import os
import sys
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.request import urlopen

from hal9.client import Client
from hal9.compare.loading import parse
from hal9.control.log import ControlWriter, following
from hal9.settings import Kafka, Settings
from hal9.settings import Topics as TopicSettings
from hal9.testing.echoing import settled
from hal9.topics import Topics, create
from schemas.control import Flags, SetFlags
from stack.ports import free_ports

PARTITIONS = 2
REQUESTS = 400
HERE = Path(__file__).parent
PROGRAM = "from hal9.cli.main import main; main()"


@asynccontextmanager
async def running(environ: dict[str, str], *arguments: str) -> AsyncIterator[None]:
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", PROGRAM, *arguments, env=environ, cwd=HERE)
    try:
        yield
    finally:
        process.terminate()
        async with asyncio.timeout(60):
            await process.wait()


async def summary(environ: dict[str, str], *arguments: str) -> Any:
    command = [sys.executable, "-c", PROGRAM, "divergences", "summary", "-o", "json", *arguments]
    process = await asyncio.create_subprocess_exec(*command, env=environ, stdout=asyncio.subprocess.PIPE)
    async with asyncio.timeout(90):
        out, _ = await process.communicate()
    assert process.returncode == 0
    return json.loads(out)


def metrics(port: int) -> dict[str, float]:
    with urlopen(f"http://127.0.0.1:{port}/metrics", timeout=30) as answer:
        lines = answer.read().decode().splitlines()
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines if line[:1] != "#")}


async def owned_by_hierarchical(settings: Settings) -> None:
    topics = Topics.of(settings.topics)
    async with following(settings.kafka, topics, settings.migration.id) as control:
        writer = ControlWriter(settings.kafka, topics, control)
        try:
            who = {"id": uuid.uuid4().hex, "migration": settings.migration.id, "actor": "test", "at_ms": 1}
            await writer.append(SetFlags(expected_epoch=0, flags=Flags(percentage=100, shadow=100, twin=100), **who))  # type: ignore[arg-type]
            await control.wait_until(lambda state: state.settled_everywhere(1, PARTITIONS), 60)
        finally:
            await writer.close()


async def test_noise_and_a_real_fault_are_told_apart(
    bootstrap: str, empty_redis: Callable[[], str], tmp_path: Path
) -> None:
    prefix, (port,) = f"noise-{uuid.uuid4().hex[:8]}.", free_ports(1)
    settings = Settings(kafka=Kafka(bootstrap=bootstrap), topics=TopicSettings(prefix=prefix, partitions=PARTITIONS))
    rules = tmp_path / "rules.yaml"
    rules.write_text("rules:\n- {path: sum, redact: true}\n")
    environ = {
        **os.environ,
        "HAL9_KAFKA__BOOTSTRAP": bootstrap,
        "HAL9_REDIS__URL": empty_redis(),
        "HAL9_TOPICS__PREFIX": prefix,
        "HAL9_TOPICS__PARTITIONS": str(PARTITIONS),
        "HAL9_COMPARISON__RULES": str(rules),
    }
    await create(settings.kafka, Topics.of(settings.topics))
    async with AsyncExitStack() as services:
        await services.enter_async_context(running({**environ, "HAL9_HTTP__PORT": str(port)}, "run", "router"))
        await services.enter_async_context(running(environ, "run", "migrator"))
        for name in ("flat", "hierarchical"):
            handler = f"noisy_handlers:{name.capitalize()}"
            await services.enter_async_context(running(environ, "run", "system", "--name", name, "--handler", handler))
        await owned_by_hierarchical(settings)
        async with Client(settings=settings) as client:
            asked = [
                client.request(f"key-{n}", str(n).encode(), operation="score", deadline_s=50) for n in range(REQUESTS)
            ]
            answers = await asyncio.gather(*asked)
        assert {(answer.status, answer.served_by) for answer in answers} == {("ok", "hierarchical")}

        async def twins() -> int:
            found = await asyncio.to_thread(metrics, port)
            return int(found.get('hal9_requests_total{role="twin",status="ok",system="flat"}', 0))

        await settled(twins, REQUESTS)
        measured = await asyncio.to_thread(metrics, port)
        assert measured['hal9_requests_total{role="shadow",status="ok",system="flat"}'] == REQUESTS
        assert measured['hal9_request_duration_seconds_count{role="shadow",system="flat"}'] == REQUESTS
        found = await summary(environ, "--since", "1h")
    assert (found["pairs"], found["comparisons"]) == ({"score": REQUESTS}, REQUESTS)
    classes = {one["path"]: one for one in found["classes"]}
    assert {path: one["verdict"] for path, one in classes.items()} == {"sum": "divergence", "drawn": "noise"}
    assert classes["sum"]["count"] == REQUESTS // 10
    assert classes["sum"]["pairs"] == {"both": 0, "shadow": REQUESTS // 10, "twin": 0, "of": REQUESTS}
    lots = len(range(0, REQUESTS, 3))
    assert classes["drawn"]["pairs"] == {"both": lots, "shadow": 0, "twin": 0, "of": REQUESTS}
    assert len(classes["drawn"]["samples"]) == 10
    shown = [field for sample in classes["sum"]["samples"] for field in sample["fields"] if field["path"] == "sum"]
    assert shown
    assert all(field["flat"].startswith("sha256:") for field in shown), "redacted on the way"
    (rule,) = parse(found["proposed_rules"], "proposed").rules
    assert (rule.path, rule.action, rule.operations) == ("drawn", "ignore", frozenset({"score"}))
    (proposal,) = found["proposals"]
    assert proposal["hides"] == classes["drawn"]["count"]
