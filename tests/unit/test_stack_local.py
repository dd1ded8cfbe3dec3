"""What a stack directory says of processes that are gone, or are others by now; and the exit codes."""

import json
import subprocess
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from hal9.errors import ConfigError
from stack.cli import stack_app
from stack.errors import NoRuntime, StartFailed
from stack.identity import ProcessId
from stack.java import java
from stack.kafka import KafkaServer
from stack.local import LocalStack
from stack.ports import free_ports, is_free
from stack.probe import kafka_is_ready, redis_is_ready
from stack.state import Server, StateFile
from stack.turns import turn


@pytest.fixture
def bystander() -> Iterator[ProcessId]:
    with subprocess.Popen(["/bin/sleep", "600"]) as process:
        found = ProcessId.of(process.pid)
        assert found is not None
        yield found
        process.kill()


def test_state_is_read_back_as_written(tmp_path: Path) -> None:
    state = StateFile(tmp_path / "new")
    assert state.read() == {}
    servers = {"kafka": Server(1, "boot/2", 3, (3, 4))}
    state.write(servers)
    assert state.read() == servers
    state.write({})
    assert state.read() == {}


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"servers": {"kafka": {"pid": 1}}}', '{"servers": 5}'])
def test_a_state_file_that_is_something_else_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "stack.json").write_text(text)
    with pytest.raises(ConfigError, match=r"stack\.json is not a stack's state file"):
        StateFile(tmp_path).read()


def test_a_server_whose_process_is_gone_is_dead_and_has_no_address(tmp_path: Path) -> None:
    with subprocess.Popen(["/bin/sh", "-c", "exit 0"]) as process:
        pass
    StateFile(tmp_path).write({"redis": Server(process.pid, "boot/1", 20_000, (20_000,))})
    local = LocalStack(tmp_path)
    assert [(server.name, server.state, server.pid) for server in local.status()] == [
        ("redis", "dead", None),
        ("kafka", "down", None),
    ]
    assert local.endpoints() is None


def test_a_process_that_took_over_the_number_is_not_ours_and_is_left_alone(
    tmp_path: Path, bystander: ProcessId
) -> None:
    StateFile(tmp_path).write({"redis": Server(bystander.pid, "an earlier start", 20_000, (20_000,))})
    local = LocalStack(tmp_path)
    assert local.status()[0].state == "dead"
    local.down()
    assert bystander.is_alive()
    assert StateFile(tmp_path).read() == {}


def test_a_process_that_does_not_answer_is_starting(tmp_path: Path, bystander: ProcessId) -> None:
    port = free_ports(1)[0]
    StateFile(tmp_path).write({"redis": Server(bystander.pid, bystander.start, port, (port,))})
    assert LocalStack(tmp_path, kafka=False).status()[0].state == "starting"


def test_nothing_listens_on_a_free_port() -> None:
    port, other = free_ports(2)
    assert port != other
    assert is_free(port)
    assert not kafka_is_ready("127.0.0.1", port)
    assert not redis_is_ready("127.0.0.1", port)


def test_the_broker_is_reachable_from_this_machine_alone(tmp_path: Path) -> None:
    KafkaServer(tmp_path, "java", []).configure(1111, 2222)
    lines = (tmp_path / "server.properties").read_text().splitlines()
    settings = dict(line.split("=", 1) for line in lines)
    assert settings["listeners"] == "PLAINTEXT://127.0.0.1:1111,CONTROLLER://127.0.0.1:2222"
    assert settings["auto.create.topics.enable"] == "false"


def program(path: Path, *lines: str) -> Path:
    path.mkdir()
    file = path / "java"
    file.write_text("\n".join(["#!/bin/sh", *lines, ""]))
    file.chmod(0o755)
    return file


def says(version: str) -> str:
    return f"echo 'openjdk version \"{version}\"' >&2"


def test_data_that_a_killed_start_left_half_made_is_made_anew_and_finished_data_is_kept(tmp_path: Path) -> None:
    home = tmp_path / "kafka"
    (home / "data" / "half").mkdir(parents=True)
    java = program(tmp_path / "java", f"echo once more >>{tmp_path}/runs", f"mkdir -p {home}/data/whole")
    server = KafkaServer(home, str(java), [])
    server.format()
    assert sorted(entry.name for entry in (home / "data").iterdir()) == ["whole"]
    server.format()
    assert (tmp_path / "runs").read_text() == "once more\n"


def test_a_format_that_fails_says_why_and_is_tried_again_next_time(tmp_path: Path) -> None:
    java = program(tmp_path / "java", "echo disk on fire; exit 3")
    server = KafkaServer(tmp_path / "kafka", str(java), [])
    for _try in range(2):
        with pytest.raises(StartFailed, match="disk on fire"):
            server.format()


def test_one_at_a_time_and_the_other_is_told(tmp_path: Path) -> None:
    told, order = threading.Event(), []

    def second() -> None:
        with turn(tmp_path, lambda _line: told.set()):
            order.append("second")

    with turn(tmp_path, pytest.fail):
        thread = threading.Thread(target=second)
        thread.start()
        assert told.wait(30)
        order.append("first")
    thread.join(30)
    assert order == ["first", "second"]


def test_an_installed_java_serves_where_no_bundled_one_exists(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    with pytest.raises(NoRuntime, match="no Java"):
        java()
    monkeypatch.setenv("PATH", str(program(tmp_path / "old", says("11.0.2")).parent))
    with pytest.raises(NoRuntime, match="too old"):
        java()
    new = program(tmp_path / "new", says("17.0.15"))
    monkeypatch.setenv("PATH", str(new.parent))
    assert java() == str(new)


@pytest.fixture
def cli(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> CliRunner:
    monkeypatch.setenv("HAL9_STACK__DIR", str(tmp_path / "stack"))
    monkeypatch.setenv("HAL9_STACK__CACHE_DIR", str(tmp_path / "cache"))
    return CliRunner()


def test_status_of_nothing_exits_1_with_json_alone_on_stdout(cli: CliRunner) -> None:
    done = cli.invoke(stack_app, ["status", "-o", "json"])
    assert done.exit_code == 1
    assert [row["state"] for row in json.loads(done.stdout)] == ["down", "down"]


def test_env_and_logs_of_nothing_exit_1_and_say_what_to_do(cli: CliRunner) -> None:
    done = cli.invoke(stack_app, ["env"])
    assert (done.exit_code, done.stdout) == (1, "")
    assert "hal9 stack up" in done.stderr
    done = cli.invoke(stack_app, ["logs", "kafka"])
    assert done.exit_code == 1
    assert "never started" in done.stderr


def test_a_dry_run_changes_nothing(cli: CliRunner, tmp_path: Path) -> None:
    done = cli.invoke(stack_app, ["up", "--dry-run"])
    assert (done.exit_code, "would start redis, kafka" in done.stdout) == (0, True)
    done = cli.invoke(stack_app, ["down", "--dry-run", "--purge"])
    assert (done.exit_code, "nothing runs" in done.stdout) == (0, True)
    assert not (tmp_path / "stack").exists()


def test_a_misspelt_setting_exits_2_and_names_the_right_one(cli: CliRunner, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HAL9_STACK__MAVEN_BAS", "x")
    done = cli.invoke(stack_app, ["status"])
    assert done.exit_code == 2
    assert "STACK.MAVEN_BASE" in done.stderr


def test_without_network_up_exits_3_names_the_address_and_leaves_nothing(
    cli: CliRunner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = f"http://127.0.0.1:{free_ports(1)[0]}/maven2"
    monkeypatch.setenv("HAL9_STACK__MAVEN_BASE", address)
    done = cli.invoke(stack_app, ["up"])
    assert done.exit_code == 3
    assert address in done.stderr
    assert [server.state for server in LocalStack(tmp_path / "stack").status()] == ["down", "down"]


def test_a_cluster_id_that_begins_with_a_dash_is_no_option(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said, program = tmp_path / "said", tmp_path / "java"
    program.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" > {said}\n', encoding="utf-8")
    program.chmod(0o755)
    monkeypatch.setattr("uuid.uuid4", lambda: uuid.UUID(bytes=b"\xf8" + bytes(15)))
    server = KafkaServer(tmp_path / "home", str(program), [])
    server.configure(1, 2)
    server.format()
    assert "--cluster-id=-AAAAAAAAAAAAAAAAAAAAA" in said.read_text("utf-8").splitlines()
