"""The command line: help with an example for every verb, exit codes that say what went wrong, nothing slow for help."""

import asyncio
import json
import logging
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from hal9.cli import exits
from hal9.cli.main import app
from hal9.cli.options import Output
from hal9.cli.results import opened, plain, show_one, show_rows, when
from hal9.cli.run import MODULES
from hal9.errors import ConfigError, Hal9Error, Refused, Transient, Unreachable

Invoke = Callable[..., tuple[int, str, str]]


@pytest.fixture
def invoke(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Invoke]:
    """Runs a command line as the console script does; gives exit code, stdout, stderr."""
    monkeypatch.setenv("NO_COLOR", "1")
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level

    def run(*arguments: str, **environ: str) -> tuple[int, str, str]:
        for name, value in environ.items():
            monkeypatch.setenv(name, value)
        with pytest.raises(SystemExit) as ended:
            exits.guarded(lambda: app(list(arguments), prog_name="hal9"))
        captured = capsys.readouterr()
        return int(ended.value.code or 0), captured.out, captured.err

    yield run
    root.handlers[:] = handlers
    root.setLevel(level)


def verbs(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    children = getattr(command, "commands", None)
    if not children:
        yield path, command
        return
    for name, child in children.items():
        yield from verbs(child, (*path, name))


VERBS = dict(verbs(get_command(app)))
OURS = [path for path in VERBS if path[0] in ("topics", "migration", "state", "divergences", "request")]


@pytest.mark.parametrize("path", VERBS, ids=" ".join)
def test_every_verb_has_help_with_an_example_of_itself(path: tuple[str, ...], invoke: Invoke) -> None:
    code, out, _ = invoke(*path, "--help")
    assert code == 0
    assert f"hal9 {' '.join(path)}" in str(VERBS[path].epilog)
    assert "Example: " in out


@pytest.mark.parametrize("path", VERBS, ids=" ".join)
def test_every_verb_takes_a_format_and_a_timeout(path: tuple[str, ...]) -> None:
    options = {name for parameter in VERBS[path].params for name in parameter.opts}
    assert {"--output", "-o", "--timeout"} <= options


@pytest.mark.parametrize("path", OURS, ids=" ".join)
def test_every_verb_takes_settings_a_format_and_a_timeout(path: tuple[str, ...]) -> None:
    options = {name for parameter in VERBS[path].params for name in parameter.opts}
    assert {"--config", "--output", "-o", "--timeout"} <= options
    if path[-1] in ("create", "start", "rollback", "send"):
        assert "--dry-run" in options


def test_help_imports_nothing_slow() -> None:
    slow = "{'aiokafka', 'redis', 'numpy', 'opentelemetry', 'faust', 'yaml', 'prometheus_client'}"
    code = f"import hal9.cli.main, sys; print(sorted({slow} & set(sys.modules)))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ConfigError("x"), 2),
        (Unreachable("x"), 3),
        (Refused("x"), 4),
        (Transient("x"), 1),
        (Hal9Error("x"), 1),
        (ExceptionGroup("several", [ExceptionGroup("in it", [Refused("x")])]), 4),
        (KeyboardInterrupt(), 130),
    ],
    ids=repr,
)
def test_each_failure_has_its_exit_code(error: BaseException, code: int, capsys: pytest.CaptureFixture[str]) -> None:
    def command() -> None:
        raise error

    with pytest.raises(SystemExit) as ended:
        exits.guarded(command)
    assert ended.value.code == code
    assert capsys.readouterr().err == ("" if code == 130 else "error: x\n")


def test_a_bug_is_not_hidden() -> None:
    def command() -> None:
        raise ExceptionGroup("several", [ZeroDivisionError()])

    with pytest.raises(ExceptionGroup):
        exits.guarded(command)


def test_work_that_takes_too_long_is_not_achieved() -> None:
    async def forever() -> None:
        await asyncio.Event().wait()

    with pytest.raises(Hal9Error, match=r"0\.05 s \(--timeout\)"):
        exits.perform(forever(), 0.05)


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["run", "rooter"], "did you mean router?"),
        (["run", "router", "--name", "flat"], "hal9 run system"),
        (["migration", "rollback", "--phase", "canry"], "did you mean canary?"),
        (["migration", "rollback", "--layer", "tacticle"], "did you mean tactical?"),
        (["migration", "rollback", "--layer", "tactical", "--phase", "1"], "one of them"),
        (["migration", "start", "no-such-plan"], "canary"),
        (["state", "get", ""], "empty"),
        (["request", "send", "a", "{", "--json"], "cannot be used"),
        (["request", "send", "a", "--file", "/no/such/file"], "/no/such/file"),
        (["request", "send"], "--file"),
        (["request", "send", "--file", "/no/such/file"], "/no/such/file"),
        (["request", "send", "--file", __file__], "line 1"),
        (["request", "send", "a", "--id", "mine", "--repeat", "2"], "--id"),
        (["topics", "check", "--config", "/no/such.toml"], "/no/such.toml"),
    ],
)
def test_wrong_usage_exits_2_and_names_what_would_be_right(arguments: list[str], part: str, invoke: Invoke) -> None:
    code, out, err = invoke(*arguments)
    assert (code, out) == (2, "")
    assert part in err


@pytest.mark.parametrize(
    "arguments", [["nonsense"], ["topics", "create", "--nonsense"], ["migration", "status", "-o", "xml"]]
)
def test_what_is_no_command_exits_2(arguments: list[str], invoke: Invoke) -> None:
    code, out, err = invoke(*arguments)
    assert (code, out) == (2, "")
    assert err


def test_a_wrong_setting_exits_2_with_its_name_value_and_the_right_name(invoke: Invoke) -> None:
    code, out, err = invoke("run", "router", "--print-config", HAL9_KAFKA__BOOTSRAP="x:1")
    assert (code, out) == (2, "")
    assert "KAFKA.BOOTSRAP = 'x:1'" in err
    assert "did you mean KAFKA.BOOTSTRAP?" in err


@pytest.mark.parametrize("service", MODULES)
def test_print_config_shows_the_settings_of_a_service_without_secrets(service: str, invoke: Invoke) -> None:
    code, out, _ = invoke(
        "run", service, "--print-config", HAL9_KAFKA__SASL_PASSWORD="hunter2", HAL9_TOPICS__PREFIX="x."
    )
    assert code == 0
    assert "hunter2" not in out
    assert 'sasl_password = "***"' in out
    assert 'prefix = "x."' in out


def test_options_of_a_system_are_settings(invoke: Invoke) -> None:
    code, out, _ = invoke("run", "system", "--name", "flat", "--handler", "mine:Handler", "--print-config")
    assert code == 0
    assert 'name = "flat"' in out
    assert 'handler = "mine:Handler"' in out


@pytest.mark.parametrize(
    "path", [["topics", "check"], ["migration", "status"], ["state", "verify"], ["request", "send", "n"]]
)
def test_a_broker_that_is_not_there_exits_3_with_its_address(
    path: list[str], unused_tcp_port: int, invoke: Invoke
) -> None:
    address = f"127.0.0.1:{unused_tcp_port}"
    code, out, err = invoke(*path, "--timeout", "0.3", HAL9_KAFKA__BOOTSTRAP=address)
    assert (code, out) == (3, "")
    assert err.startswith(f"error: Kafka at {address} did not answer within 0.3 s")
    assert len(err.splitlines()) == 1


def test_a_batch_says_what_it_would_send(invoke: Invoke, tmp_path: Path) -> None:
    lines = tmp_path / "requests.jsonl"
    lines.write_text('{"key": "a"}\n\n{"key": "b"}\n{\n')
    command = ("request", "send", "--file", str(lines), "--repeat", "3", "--dry-run", "-o", "json")
    assert invoke(*command)[0] == 2
    code, out, err = invoke(*command, "--skip-bad")
    assert (code, json.loads(out)["what"]) == (0, "6 requests")
    assert "line 4" in err


def test_the_version_is_printed(invoke: Invoke) -> None:
    code, out, _ = invoke("--version")
    assert code == 0
    assert out.strip().count(".") == 2


def test_tables_are_for_people_and_json_for_programs(capsys: pytest.CaptureFixture[str]) -> None:
    rows: list[dict[str, Any]] = [
        {"name": "a", "value": {"x": b"\xff"}, "none": None, "yes": True},
        {"name": "é" * 200},
    ]
    show_rows(rows, Output.TABLE)
    table = capsys.readouterr().out.splitlines()
    assert table[0].split() == ["NAME", "VALUE", "NONE", "YES"]
    assert table[1].split() == ["a", '{"x":', '"/w=="}', "-", "yes"]
    assert "é" * 200 in table[2]
    assert all(line == line.rstrip() for line in table)
    show_rows([], Output.JSON)
    assert capsys.readouterr().out == "[]\n"
    show_one({"share": 0.5, "list": []}, Output.TABLE)
    assert [line.split() for line in capsys.readouterr().out.splitlines()] == [["share", "0.5"], ["list", "-"]]


def test_values_are_shown_as_what_they_are() -> None:
    assert opened(b"\x81\xa1a\x01") == {"a": 1}
    assert opened(b"") is None
    assert opened(b"\xc1") == "wQ=="
    assert opened(b"\xd9\xffshort") == "2f9zaG9ydA=="
    assert plain((b"text", {1: b"\xff"})) == ["text", {"1": "/w=="}]
    assert when(1_760_000_000_123) == "2025-10-09 08:53:20.123"


def test_a_directory_that_cannot_be_made_is_one_line(invoke: Invoke, tmp_path: Path) -> None:
    taken = tmp_path / "file"
    taken.touch()
    for verb in (("stack", "up"), ("up", "--detach")):
        code, out, err = invoke(*verb, "--dir", str(taken))
        assert (code, out) == (2, "")
        assert err.splitlines()[-1].startswith(f"error: the directory {taken} cannot be made: ")
        assert "Traceback" not in err


def test_output_that_cannot_be_written_is_one_line() -> None:
    with Path("/dev/full").open("w") as full:
        ran = subprocess.run(
            [sys.executable, "-m", "hal9", "run", "router", "--print-config"],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert (ran.returncode, ran.stderr) == (1, "error: No space left on device\n")


def test_a_program_error_keeps_its_traceback() -> None:
    def command() -> None:
        raise TimeoutError

    with pytest.raises(TimeoutError):
        exits.guarded(command)


@pytest.mark.parametrize("verb", ["up", "stack up", "stack down", "down"])
def test_dry_runs_say_in_json_what_would_be_done(verb: str, invoke: Invoke, tmp_path: Path) -> None:
    code, out, _ = invoke(*verb.split(), "--dry-run", "-o", "json", "--dir", str(tmp_path))
    assert code == 0
    assert json.loads(out)["directory"] == str(tmp_path)


def test_a_report_that_cannot_be_written_is_told_before_anything_starts(invoke: Invoke, tmp_path: Path) -> None:
    code, _, err = invoke("demo", "--headless", "--report", str(tmp_path))
    assert (code, err) == (2, f"error: --report {tmp_path}: it cannot be written\n")


def test_an_unreachable_kafka_at_the_default_address_says_what_to_do(invoke: Invoke) -> None:
    for address, hinted in (("127.0.0.1:9092", True), ("127.0.0.1:1", False)):
        code, _, err = invoke("flags", "list", "--timeout", "0.1", HAL9_KAFKA__BOOTSTRAP=address)
        assert code == exits.UNREACHABLE
        assert ("`eval $(hal9 stack env)`" in err) is hinted
