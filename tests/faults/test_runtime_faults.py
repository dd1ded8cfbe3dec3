"""Processes killed, stopped and continued, brokers too: each request is validly dispatched once, in order, answered."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from uuid import uuid4

import pytest
from msgspec.structs import replace

from hal9.log.effects import Send
from hal9.log.runtime import Runtime
from hal9.settings.sections import Kafka
from hal9.testing.echo import EchoCore
from hal9.testing.echoing import answered, audit, produce, read_all, running, settled, until
from hal9.topics import Topics, create
from stack.local import LocalStack


@pytest.fixture(scope="module")
def own_stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalStack]:
    """A broker that these tests may stop and kill."""
    with LocalStack(tmp_path_factory.mktemp("faults"), redis=False) as local:
        local.up()
        yield local


@pytest.fixture
def kafka(own_stack: LocalStack) -> Kafka:
    found = own_stack.endpoints()
    assert found is not None
    return Kafka(bootstrap=found.bootstrap)


@pytest.fixture
def brief(kafka: Kafka) -> Kafka:
    """With sessions that end soon: a member that falls silent is missed within seconds."""
    return replace(kafka, session_ms=2_500)


@pytest.fixture
async def topics(kafka: Kafka) -> Topics:
    topics = Topics(prefix=f"{uuid4().hex[:8]}.", partitions=4)
    await create(kafka, topics)
    return topics


@asynccontextmanager
async def load(kafka: Kafka, topics: Topics, name: str, waves: int) -> AsyncIterator[set[bytes]]:
    """Requests are produced while the context lasts; its end waits until all of them are."""
    values = {f"{name}-{number}".encode() for number in range(waves * 25)}
    ordered = sorted(values)

    async def go() -> None:
        for wave in range(waves):
            await produce(kafka, topics, ordered[wave * 25 : (wave + 1) * 25])

    task = asyncio.create_task(go())
    try:
        yield values
    finally:
        await task


@asynccontextmanager
async def process(kafka: Kafka, topics: Topics, log: Path) -> AsyncIterator[subprocess.Popen[bytes]]:
    """One more instance, in a process of its own."""
    given = [kafka.bootstrap, topics.prefix, str(topics.partitions), str(kafka.session_ms)]
    command = [sys.executable, "-m", "hal9.testing.echoing", *given]
    out = log.open("wb")
    with out, subprocess.Popen(command, stdout=out, stderr=out) as child:  # noqa: ASYNC220  the signals want a pid
        try:
            yield child
        finally:
            child.kill()


async def check(kafka: Kafka, topics: Topics, expected: set[bytes], cores: list[EchoCore]) -> None:
    await settled(lambda: answered(kafka, topics), expected)
    assert await audit(kafka, topics) == []
    assert [fault for core in cores for fault in core.faults] == []


async def claims(kafka: Kafka, topics: Topics) -> int:
    dispatched = await read_all(kafka, topics, "dispatched")
    return sum((record.key or b"").startswith(b"\0claim/") for records in dispatched for record in records)


async def test_an_instance_killed_under_load_is_replaced_by_the_other(
    kafka: Kafka, brief: Kafka, topics: Topics, tmp_path: Path
) -> None:
    cores: list[EchoCore] = []
    async with running(brief, topics, cores) as survivor, process(brief, topics, tmp_path / "log") as victim:
        await until(lambda: len(survivor.cores) == 2)
        async with load(kafka, topics, "a", 40) as values:
            await until(lambda: sum(len(core.served) for core in cores) > 100)
            victim.kill()
        await until(lambda: len(survivor.cores) == 4)
        await check(kafka, topics, values, cores)


async def test_an_instance_that_comes_back_from_the_dead_counts_for_nothing(
    kafka: Kafka, brief: Kafka, topics: Topics, tmp_path: Path
) -> None:
    cores: list[EchoCore] = []
    async with running(brief, topics, cores) as survivor, process(brief, topics, tmp_path / "log") as zombie:
        await until(lambda: len(survivor.cores) == 2)
        async with load(kafka, topics, "a", 40) as values:
            await until(lambda: sum(len(core.served) for core in cores) > 100)
            zombie.send_signal(signal.SIGSTOP)
        # Longer than a session: its partitions go to the survivor while it still believes that it holds them.
        await until(lambda: len(survivor.cores) == 4, brief.session_ms / 1000 + 30)
        async with load(kafka, topics, "b", 20) as more:
            zombie.send_signal(signal.SIGCONT)
        await until(lambda: len(survivor.cores) == 2)
        await check(kafka, topics, values | more, cores)
        zombie.terminate()
        await until(lambda: zombie.poll() is not None)
        assert zombie.returncode == 0
        await until(lambda: len(survivor.cores) == 4)


def waited_s(instance: Runtime) -> float:
    """How long an append has been under way; sees to it that one is (the broker does not stop at once)."""
    instance.append(Send("status", b"me", b"are you there?", []))
    return instance._appender.waited_s


def broker(stack: LocalStack) -> int:
    pid = stack.status()[0].pid
    assert pid is not None
    return pid


@pytest.mark.parametrize("request_timeout_ms", [10_000, 1_000])
async def test_a_broker_that_pauses_costs_time_and_nothing_else(
    kafka: Kafka, topics: Topics, own_stack: LocalStack, request_timeout_ms: int
) -> None:
    """With the short timeout requests are sent again that the broker had taken."""
    cores: list[EchoCore] = []
    async with running(replace(kafka, request_timeout_ms=request_timeout_ms), topics, cores) as instance:
        await until(lambda: len(instance.cores) == 4)
        async with load(kafka, topics, "a", 60) as values:
            await until(lambda: sum(len(core.served) for core in cores) > 100)
            pid = broker(own_stack)
            os.kill(pid, signal.SIGSTOP)
            try:
                await until(lambda: waited_s(instance) > 2.0)
            finally:
                os.kill(pid, signal.SIGCONT)
        await check(kafka, topics, values, cores)
        assert instance.producers == 0


async def test_appends_without_an_answer_end_all_incarnations_and_new_ones_claim_anew(
    kafka: Kafka, topics: Topics, own_stack: LocalStack
) -> None:
    cores: list[EchoCore] = []
    async with running(kafka, topics, cores) as instance:
        instance._appender._deadline_s = 0.5
        await until(lambda: len(instance.cores) == 4)
        async with load(kafka, topics, "a", 60) as values:
            await until(lambda: sum(len(core.served) for core in cores) > 100)
            pid = broker(own_stack)
            os.kill(pid, signal.SIGSTOP)
            try:
                await until(lambda: waited_s(instance) >= 0.0 and not instance.cores)
                assert "no producer" in instance.healthy()
            finally:
                os.kill(pid, signal.SIGCONT)
        instance._appender._deadline_s = 15.0
        await until(lambda: instance.healthy() == [])
        await check(kafka, topics, values, cores)
        assert instance.producers > 0
        assert await claims(kafka, topics) > 4


async def test_a_broker_killed_and_started_again_is_found_again(
    kafka: Kafka, topics: Topics, own_stack: LocalStack
) -> None:
    cores: list[EchoCore] = []
    async with running(kafka, topics, cores) as instance:
        await until(lambda: len(instance.cores) == 4)
        async with load(kafka, topics, "a", 20) as values:
            await until(lambda: sum(len(core.served) for core in cores) > 100)
        os.kill(broker(own_stack), signal.SIGKILL)
        await until(lambda: instance.healthy() != [])
        found = await asyncio.to_thread(own_stack.up)
        if found.bootstrap != kafka.bootstrap:
            pytest.skip("somebody took the broker's port while it was down")
        async with load(kafka, topics, "b", 20) as more:
            pass
        await until(lambda: instance.healthy() == [], 60)
        await check(kafka, topics, values | more, cores)
