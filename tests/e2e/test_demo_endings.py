"""The demo beside a Kafka and a Redis that are not its own; and runs that do not end as they should."""

import asyncio
import os
import signal
import subprocess
from collections.abc import Callable
from typing import TYPE_CHECKING

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


def test_terminated_in_the_middle_it_cleans_up(command: "Command", until: Until) -> None:
    process = command.start("demo", "--headless")
    until(process, "migration started")
    assert len(command.alive()) > 8
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "Traceback" not in err
    assert "never retrieved" not in err
    command.assert_nothing_left()
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
