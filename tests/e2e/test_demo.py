"""`hal9 demo` as a person starts it: each fault ends as it should, the audit holds, and nothing is left running.

The first fault is run from the wheel, installed outside the checkout.
"""

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.e2e.conftest import Command

ROOT = Path(__file__).parents[2]
BUILD_S = 120.0
STEPS = [0.0, 1.0, 5.0, 10.0, 25.0]


@pytest.fixture(scope="session")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with nothing but the installed wheel."""
    made = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
    wheel = [*pip, "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(made), str(ROOT)]
    subprocess.run(wheel, check=True, timeout=BUILD_S)
    target = made / "site"
    (found,) = made.glob("*.whl")
    subprocess.run([*pip, "install", "--no-deps", "--target", str(target), str(found)], check=True, timeout=BUILD_S)
    return target


def holds(report: dict[str, Any]) -> None:
    """The audit of the contract."""
    requests, effects = report["requests"], report["effects"]
    assert requests["answered"] == requests["sent"] > 1_000
    assert requests["ok"] + requests["error"] + requests["rejected"] + requests["timeout"] == requests["sent"]
    assert effects["expected"] == effects["found"] > 0
    assert report["weights_equal"]
    assert report["stores_equal"]
    assert min(report["accuracy"].values()) > 0.9
    assert set(report["versions"]) >= {"kafka", "redis", "python"}


def rolled_back(report: dict[str, Any]) -> None:
    """By the guardian, in order, back to 0 %."""
    assert report["outcome"] == "rolled_back"
    back = report["rollback"]
    assert back["trigger"] == "error_rate"
    assert back["fault_at_ms"] <= back["decided_at_ms"] <= back["acknowledged_at_ms"] <= back["safe_at_ms"]
    percentages = [epoch["percentage"] for epoch in report["epochs"]]
    assert percentages[-1] == 0.0
    assert max(percentages) > 0.0


def test_the_installed_wheel_rolls_back_when_the_handler_fails(command: "Command", installed: Path) -> None:
    command.settings = {"PYTHONPATH": str(installed)}
    where = subprocess.run(
        [sys.executable, "-P", "-c", "import hal9, services, systems, schemas, stack; print(hal9.__file__)"],
        cwd=command.directory,
        env=command.settings,
        capture_output=True,
        text=True,
        check=True,
        timeout=BUILD_S,
    )
    assert where.stdout.startswith(str(installed))
    done, report = command.demo("--fault", "errors")
    assert done.returncode == 0, done.stderr
    rolled_back(report)
    holds(report)
    assert report["requests"]["error"] > 0
    command.assert_nothing_left()


def test_after_a_kill_the_silence_is_found_out_and_nobody_is_refused(command: "Command") -> None:
    done, report = command.demo("--fault", "crash")
    assert done.returncode == 0, done.stderr
    rolled_back(report)
    holds(report)
    assert "by timeout" in report["rollback"]["reason"]
    # Reads fall back meanwhile, writes wait for flat: at most their deadlines are missed.
    assert report["requests"]["error"] == report["requests"]["rejected"] == 0
    command.assert_nothing_left()


def test_without_a_fault_every_step_passes_its_gates(command: "Command") -> None:
    done, report = command.demo("--fault", "none")
    assert done.returncode == 0, done.stderr
    assert report["outcome"] == "promoted"
    assert sorted({epoch["percentage"] for epoch in report["epochs"]}) == STEPS
    holds(report)
    command.assert_nothing_left()


@pytest.mark.parametrize("wrong", [("--fault", "latency"), ("--plan", "full")])
def test_what_is_not_built_yet_exits_2(command: "Command", wrong: tuple[str, str]) -> None:
    done = command.run("demo", "--headless", *wrong)
    assert done.returncode == 2
    assert wrong[1] in done.stderr
