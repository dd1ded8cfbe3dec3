"""Each service of docker-compose.yml, started with its own command, environment and health check on this machine.

Only the addresses differ: Kafka and Valkey are those of a local stack, and each service has a port of its own.
"""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from stack.local import LocalStack
from stack.ports import free_ports
from stack.process import Supervised

Eventually = Callable[[Callable[[], bool], str], None]
SERVICES: dict[str, dict[str, Any]] = yaml.safe_load((Path(__file__).parents[2] / "docker-compose.yml").read_text())[
    "services"
]
STAYING = sorted(name for name, service in SERVICES.items() if service.get("command", [])[:1] == ["run"])
HAL9 = str(Path(sys.executable).with_name("hal9"))
GRACE_S = 20.0  # `stop_grace_period`: after it Compose kills


@pytest.fixture(scope="module")
def outside() -> dict[str, str]:
    """What a container has from elsewhere; no setting of this machine."""
    return {name: value for name, value in os.environ.items() if not name.startswith("HAL9_")}


@pytest.fixture(scope="module")
def addresses(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """A stack of this module alone: the services have the default topics and groups."""
    with LocalStack(tmp_path_factory.mktemp("compose")) as local:
        endpoints = local.up()
        yield {"HAL9_KAFKA__BOOTSTRAP": endpoints.bootstrap, "HAL9_REDIS__URL": endpoints.redis_url}


def environment(name: str, outside: dict[str, str], addresses: dict[str, str], port: int) -> dict[str, str]:
    given: dict[str, str] = SERVICES[name]["environment"]
    assert set(addresses) <= set(given)
    return outside | given | addresses | {"HAL9_HTTP__HOST": "127.0.0.1", "HAL9_HTTP__PORT": str(port)}


@pytest.fixture(scope="module")
def topics(outside: dict[str, str], addresses: dict[str, str]) -> None:
    done = subprocess.run(
        [HAL9, *SERVICES["topics"]["command"]],
        env=environment("topics", outside, addresses, 0),
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.usefixtures("topics")
def test_the_one_shot_job_leaves_every_topic_as_declared(outside: dict[str, str], addresses: dict[str, str]) -> None:
    for words in (["topics", "check"], SERVICES["topics"]["command"]):
        env = environment("topics", outside, addresses, 0)
        done = subprocess.run([HAL9, *words], env=env, capture_output=True, text=True, check=False, timeout=120)
        assert done.returncode == 0, done.stderr


@pytest.mark.usefixtures("topics")
@pytest.mark.parametrize("name", STAYING)
def test_the_service_starts_becomes_healthy_and_stops_when_told(
    name: str, outside: dict[str, str], addresses: dict[str, str], tmp_path: Path, eventually: Eventually
) -> None:
    port = free_ports(1)[0]
    _cmd, _python, *words = SERVICES[name]["healthcheck"]["test"]
    probe = [sys.executable, *(word.replace(":8080/", f":{port}/") for word in words)]
    service = Supervised(
        name,
        [HAL9, *SERVICES[name]["command"]],
        log=tmp_path / "log",
        env=environment(name, outside, addresses, port),
        cwd=tmp_path,
    )

    def is_healthy() -> bool:
        assert service.poll() is None, service.tail(50)
        return subprocess.run(probe, capture_output=True, check=False).returncode == 0

    service.start()
    try:
        eventually(is_healthy, f"{name} answers its health check")
    finally:
        code = service.stop(GRACE_S)
    assert code == 0, service.tail(50)
