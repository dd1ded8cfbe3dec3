"""`hal9 up`, `logs` and `down`: everything without demo traffic, for one's own clients."""

import asyncio
import json
import os
import signal
import subprocess
from collections.abc import Callable
from typing import TYPE_CHECKING

import msgpack
from msgspec.structs import replace

from hal9.client import Answer, Client
from hal9.settings import Settings

if TYPE_CHECKING:
    from tests.e2e.conftest import Command

Until = Callable[["subprocess.Popen[str]", str], str]
SERVICES = ["flat", "hierarchical", "router", "migrator", "guardian", "orchestrator"]


async def created(bootstrap: str) -> Answer:
    """One neuron, as a user's client asks for it."""
    settings = Settings()
    async with Client(settings=replace(settings, kafka=replace(settings.kafka, bootstrap=bootstrap))) as client:
        return await client.request("one", msgpack.packb({"neuron_id": "one", "weights": [1.0]}), operation="create")


def test_up_detached_serves_is_found_again_and_ends_with_down(command: "Command") -> None:
    command.settings = {"HAL9_STACK__DIR": str(command.directory / "here")}
    first = command.run("up", "--detach", "-o", "json")
    assert first.returncode == 0, first.stderr
    said = json.loads(first.stdout)
    assert [service["name"] for service in said["services"]] == SERVICES
    assert all(service["waits_for"] is None for service in said["services"])
    assert asyncio.run(created(said["kafka"])).status == "ok"
    again = command.run("up", "--detach")
    assert again.returncode == 0, again.stderr
    for service in said["services"]:
        assert str(service["pid"]) in again.stdout
    assert f"HAL9_KAFKA__BOOTSTRAP={said['kafka']}" in again.stdout
    assert "would do nothing" in command.run("up", "--dry-run").stdout
    assert "assigned" in command.run("logs", "router", "--lines", "100").stdout
    assert command.run("logs", "ruter").returncode == 2
    assert "would stop flat, hierarchical" in command.run("down", "--dry-run").stdout
    # As in the terminal of somebody who typed what `up` said.
    command.settings = {**command.settings, "HAL9_KAFKA__BOOTSTRAP": said["kafka"], "HAL9_REDIS__URL": said["redis"]}
    down = command.run("down", "--purge", "-o", "json")
    assert down.returncode == 0, down.stderr
    assert json.loads(down.stdout)["stopped"] == [*SERVICES, "redis", "kafka"]
    command.assert_nothing_left()
    assert "nothing runs" in command.run("down").stdout
    assert command.run("logs", "router").returncode == 1


def test_up_in_the_foreground_ends_when_a_service_does_and_says_which(guest: "Command", until: Until) -> None:
    guest.settings = {
        **guest.settings,
        "HAL9_STACK__DIR": str(guest.directory / "here"),
        "HAL9_TOPICS__PREFIX": "e2e-up.",
    }
    process = guest.start("up")
    until(process, "guardian is ready")
    os.kill(guest.pid_of("run flat"), signal.SIGKILL)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "error: flat ended by signal 9; the end of" in err
    guest.assert_nothing_left()
