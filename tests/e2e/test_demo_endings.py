"""The demo beside a Kafka and a Redis that are not its own; and runs that do not end as they should."""

import asyncio
import os
import signal
import subprocess
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest
from aiokafka.admin import AIOKafkaAdminClient
from redis import Redis

if TYPE_CHECKING:
    from tests.e2e.conftest import Command

Until = Callable[["subprocess.Popen[str]", str], str]


async def topics_of(bootstrap: str) -> list[str]:
    """Every topic there is."""
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        return list(await admin.list_topics())
    finally:
        await admin.close()


def test_a_service_that_dies_is_reported_at_once_and_a_foreign_kafka_and_redis_are_left_as_they_were(
    guest: "Command", bootstrap: str, until: Until
) -> None:
    process = guest.start("demo", "--headless", "--report", "report.json")
    until(process, "migration started")
    os.kill(guest.pid_of("run migrator"), signal.SIGKILL)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 1, err
    assert "migrator ended by signal 9; the end of" in out
    assert '"outcome": "failed"' in (guest.directory / "report.json").read_text("utf-8")
    assert "the logs are in" in err
    guest.assert_nothing_left()
    with Redis.from_url(guest.settings["HAL9_REDIS__URL"]) as redis:
        assert redis.dbsize() == 0
    assert [name for name in asyncio.run(topics_of(bootstrap)) if name.startswith("hal9-demo-")] == []


@pytest.mark.parametrize(
    ("number", "moment", "code"),
    [
        (signal.SIGINT, "creating the neurons", 130),
        (signal.SIGTERM, "starting flat", 130),
        (signal.SIGKILL, "creating the topics", -signal.SIGKILL),
    ],
)
def test_however_it_is_ended_nothing_is_left(
    command: "Command", until: Until, number: signal.Signals, moment: str, code: int
) -> None:
    process = command.start("demo", "--headless")
    until(process, moment)
    assert len(command.alive()) > 2
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == code, err
    assert "Traceback" not in err
    assert "never retrieved" not in err
    command.assert_nothing_left()
    if number != signal.SIGKILL:
        assert list(command.directory.iterdir()) == []


def test_a_redis_that_holds_units_is_not_touched(guest: "Command") -> None:
    with Redis.from_url(guest.settings["HAL9_REDIS__URL"]) as redis:
        redis.hset("hal9:{3}:applied", "topic", "id:1")
        try:
            done = guest.run("demo", "--headless", timeout_s=60)
            assert redis.dbsize() == 1
        finally:
            redis.flushdb()
    assert done.returncode == 2
    assert "holds units already" in done.stderr


def test_a_kafka_that_is_not_there_is_named_with_exit_3(command: "Command") -> None:
    command.settings = {"HAL9_KAFKA__BOOTSTRAP": "127.0.0.1:9", "HAL9_KAFKA__WAIT_S": "1"}
    done = command.run("demo", "--headless", timeout_s=60)
    assert done.returncode == 3
    assert "127.0.0.1:9" in done.stderr
    command.assert_nothing_left()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--fault", "eror"), "did you mean errors?"),
        (("--report", "nowhere/report.json"), "there is no directory"),
    ],
)
def test_wrong_usage_is_told_before_anything_starts(command: "Command", arguments: tuple[str, str], said: str) -> None:
    done = command.run("demo", "--headless", *arguments, timeout_s=60)
    assert done.returncode == 2
    assert said in done.stderr
    assert "starting" not in done.stderr
