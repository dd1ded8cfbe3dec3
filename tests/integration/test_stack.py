"""The local stack with its real servers: found again, restarted with its data, and gone with its parent."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import UnknownTopicOrPartitionError
from redis import Redis

from stack.identity import ProcessId
from stack.local import LocalStack
from stack.state import StateFile

Eventually = Callable[[Callable[[], bool], str], None]
FOREGROUND = """
import sys
from pathlib import Path
from stack.local import LocalStack
with LocalStack(Path(sys.argv[1])) as local:
    print(local.up(lambda line: print(line, flush=True)), flush=True)
    sys.stdin.read()
"""
CLI = "from stack.cli import stack_app; stack_app()"


def foreground(directory: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", FOREGROUND, str(directory)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_for_line(parent: subprocess.Popen[str], start: str) -> None:
    assert parent.stdout is not None
    for line in parent.stdout:
        if line.startswith(start):
            return
    pytest.fail(f"{parent.args!r} ended without saying {start!r}: {parent.communicate()[1]}")


def processes(directory: Path) -> list[ProcessId]:
    return [server.process for server in StateFile(directory).read().values()]


def hal9_stack(directory: Path, *words: str) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "HAL9_STACK__DIR": str(directory)}
    return subprocess.run(
        [sys.executable, "-c", CLI, *words], env=env, capture_output=True, text=True, check=False, timeout=120
    )


def states(directory: Path) -> list[str]:
    return [row["state"] for row in json.loads(hal9_stack(directory, "status", "-o", "json").stdout)]


def test_a_second_up_finds_the_first_and_does_not_end_it(stack: LocalStack) -> None:
    with LocalStack(stack.directory) as second:
        assert second.up() == stack.endpoints()
    assert [server.state for server in stack.status()] == ["up", "up"]


async def test_the_broker_keeps_records_and_makes_no_topic_by_itself(bootstrap: str) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        await admin.create_topics([NewTopic("stack-test", 1, 1)])
        described = await admin.describe_topics(["stack-test-misspelt"])
        assert described[0]["error_code"] == UnknownTopicOrPartitionError.errno
    finally:
        await admin.close()
    async with (
        AIOKafkaProducer(bootstrap_servers=bootstrap, acks="all", enable_idempotence=True) as producer,
        AIOKafkaConsumer("stack-test", bootstrap_servers=bootstrap, auto_offset_reset="earliest") as consumer,
    ):
        sent = await producer.send_and_wait("stack-test", b"value", b"key")
        assert sent.offset == 0
        record = await consumer.getone()
        assert (record.key, record.value) == (b"key", b"value")


def test_the_redis_confirms_only_what_is_on_disk_and_evicts_nothing(redis_url: str) -> None:
    with Redis.from_url(redis_url) as client:
        found = client.config_get("append*", "maxmemory-policy")
    assert found["appendonly"] == "yes"
    assert found["appendfsync"] == "always"
    assert found["maxmemory-policy"] == "noeviction"


def test_a_killed_parent_leaves_no_server(tmp_path: Path, eventually: Eventually) -> None:
    with foreground(tmp_path) as parent:
        wait_for_line(parent, "Endpoints")
        servers = processes(tmp_path)
        assert [server.is_alive() for server in servers] == [True, True]
        parent.kill()
    eventually(lambda: not any(server.is_alive() for server in servers), "the servers end with the parent")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_in_the_middle_of_the_start_leaves_no_server(
    tmp_path: Path, eventually: Eventually, number: signal.Signals
) -> None:
    with foreground(tmp_path) as parent:
        wait_for_line(parent, "waiting for kafka")
        servers = processes(tmp_path)
        parent.send_signal(number)
    assert len(servers) == 2
    eventually(lambda: not any(server.is_alive() for server in servers), "the servers end with the parent")


def test_a_detached_stack_stays_comes_back_after_a_crash_and_goes_down(tmp_path: Path) -> None:
    directory = tmp_path / "stack"
    done = hal9_stack(directory, "up", "-o", "json")
    assert done.returncode == 0, done.stderr
    addresses = [row["address"] for row in json.loads(done.stdout)]
    redis, kafka = processes(directory)
    try:
        exports = hal9_stack(directory, "env").stdout
        assert exports == (
            f"export HAL9_KAFKA__BOOTSTRAP={addresses[1]}\nexport HAL9_REDIS__URL=redis://{addresses[0]}/0\n"
        )
        kafka.signal(signal.SIGKILL)
        assert kafka.ends_within(30)
        assert states(directory) == ["up", "dead"]
        assert hal9_stack(directory, "env").returncode == 1

        again = hal9_stack(directory, "up", "-o", "json")
        assert [row["address"] for row in json.loads(again.stdout)] == addresses
        assert processes(directory)[0] == redis
    finally:
        assert hal9_stack(directory, "down", "--purge").returncode == 0
    assert states(directory) == ["down", "down"]
    assert not redis.is_alive()
    assert sorted(entry.name for entry in directory.iterdir()) == [".lock"]
