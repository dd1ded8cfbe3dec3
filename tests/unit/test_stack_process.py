"""Processes end when and how they are told to, and with their parent at the latest."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from stack.errors import StartFailed
from stack.guard import GUARD, Guard
from stack.identity import ProcessId
from stack.process import Supervised, tail
from stack.watcher import read

Eventually = Callable[[Callable[[], bool], str], None]
SLEEP = ("/bin/sleep", "600")
# Starts a child from a thread that ends at once, tells its id, then waits to be killed.
PARENT = """
import sys, threading
from pathlib import Path
from stack.process import Supervised
child = Supervised("child", sys.argv[2:], log=Path(sys.argv[1]))
thread = threading.Thread(target=child.start)
thread.start()
thread.join()
print(child.pid, flush=True)
{then}
"""
STUBBORN = ("/bin/sh", "-c", "trap '' TERM; echo ready; while :; do sleep 0.05; done")


def start_parent(log: Path, command: tuple[str, ...], then: str = "sys.stdin.read()") -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", PARENT.format(then=then), str(log), *command],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def child_of(parent: subprocess.Popen[str]) -> ProcessId:
    assert parent.stdout is not None
    found = ProcessId.of(int(parent.stdout.readline()))
    assert found is not None
    return found


def close(parent: subprocess.Popen[str]) -> None:
    with parent:
        parent.kill()


def test_exit_code_output_and_environment(tmp_path: Path) -> None:
    command = ("/bin/sh", "-c", "echo $WORD; echo bad >&2; exit 7")
    child = Supervised("child", command, log=tmp_path / "logs" / "child.log", env={"WORD": "good"})
    assert repr(child) == "<Supervised child: not started>"
    child.start()
    assert child.wait(30) == 7
    assert child.poll() == 7
    assert child.tail() == "good\nbad"
    assert repr(child) == f"<Supervised child: pid {child.pid}, exit 7>"


def test_a_command_that_does_not_exist_says_so_in_the_log(tmp_path: Path) -> None:
    child = Supervised("child", ["/no/such/program"], log=tmp_path / "log")
    child.start()
    assert child.wait(30) == 127
    assert "/no/such/program" in child.tail()


def test_stop_is_terminate_first_and_repeats_are_harmless(tmp_path: Path) -> None:
    child = Supervised("child", SLEEP, log=tmp_path / "log")
    assert child.stop() is None
    child.start()
    assert child.poll() is None
    assert child.stop() == -signal.SIGTERM
    assert child.stop() == -signal.SIGTERM


def test_stop_kills_what_does_not_end_by_itself(tmp_path: Path, eventually: Eventually) -> None:
    child = Supervised("child", STUBBORN, log=tmp_path / "log")
    child.start()
    eventually(lambda: child.tail() == "ready", "the trap is set")
    assert child.stop(grace_s=0.2) == -signal.SIGKILL


def test_a_running_child_is_not_started_twice_an_ended_one_is_started_again(tmp_path: Path) -> None:
    child = Supervised("child", SLEEP, log=tmp_path / "log")
    first = child.start()
    with pytest.raises(StartFailed, match="runs already"):
        child.start()
    assert child.kill() == -signal.SIGKILL
    assert not first.is_alive()
    assert child.start() != first
    child.kill()


def test_a_killed_parent_leaves_nothing(tmp_path: Path, eventually: Eventually) -> None:
    parent = start_parent(tmp_path / "log", SLEEP)
    child = child_of(parent)
    assert child.is_alive()  # though the thread that started it has ended
    close(parent)
    eventually(lambda: not child.is_alive(), "the child ends with its parent")


def test_a_killed_parent_leaves_not_even_a_child_that_ignores_terminate(tmp_path: Path, eventually: Eventually) -> None:
    log = tmp_path / "log"
    parent = start_parent(log, STUBBORN)
    child = child_of(parent)
    eventually(lambda: tail(log, 1) == "ready", "the trap is set")
    close(parent)
    eventually(lambda: not child.is_alive(), "the child is killed")


def test_a_parent_that_just_ends_takes_its_children_along(tmp_path: Path) -> None:
    parent = start_parent(tmp_path / "log", SLEEP, then="sys.exit(3)")
    assert parent.stdout is not None
    pid = int(parent.stdout.readline())
    with parent:
        assert parent.wait(30) == 3
    assert ProcessId.of(pid) is None


def test_a_detached_child_outlives_its_parent(tmp_path: Path) -> None:
    code = PARENT.replace("log=Path(sys.argv[1])", "log=Path(sys.argv[1]), detached=True").format(then="")
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "log"), *SLEEP], capture_output=True, text=True, check=True
    )
    child = ProcessId.of(int(done.stdout))
    assert child is not None
    child.stop(grace_s=5)
    assert not child.is_alive()


def test_a_watcher_that_was_killed_is_replaced_and_told_everything(eventually: Eventually) -> None:
    guard = Guard()
    with subprocess.Popen(SLEEP) as one, subprocess.Popen(SLEEP) as two:
        first, second = ProcessId.of(one.pid), ProcessId.of(two.pid)
        assert first is not None
        assert second is not None
        guard.watch(first)
        assert guard._watcher is not None
        guard._watcher.kill()
        guard._watcher.wait()
        assert guard._watcher.stdin is not None
        guard._watcher.stdin.close()
        guard.watch(second)
        guard.close()
        assert not first.is_alive()
        assert not second.is_alive()


def test_what_ended_by_itself_is_forgotten(tmp_path: Path) -> None:
    child = Supervised("child", ["/bin/sh", "-c", "exit 0"], log=tmp_path / "log")
    process = child.start()
    assert process in GUARD._watched
    assert child.wait(30) == 0
    assert process not in GUARD._watched


def test_the_watcher_keeps_what_was_named_and_not_taken_back() -> None:
    lines = ["watch 5 boot/77\n", "watch 6 Mon Jan  1 00:00:00 2024\n", "watch 7 x\n", "forget 7\n"]
    assert read(lines) == [ProcessId(5, "boot/77"), ProcessId(6, "Mon Jan  1 00:00:00 2024")]


def test_a_process_id_is_not_another_process_with_that_number() -> None:
    me = ProcessId.of(os.getpid())
    assert me is not None
    assert me.is_alive()
    assert not ProcessId(me.pid, "another start").is_alive()


def test_an_ended_process_that_nobody_has_collected_is_not_alive(eventually: Eventually) -> None:
    with subprocess.Popen(["/bin/sh", "-c", "exit 0"]) as child:
        eventually(lambda: ProcessId.of(child.pid) is None, "a zombie counts as gone")


def test_tail_of_a_log(tmp_path: Path) -> None:
    assert tail(tmp_path / "none", 5) == ""
    log = tmp_path / "log"
    log.write_text("".join(f"line {number}\n" for number in range(10_000)))
    assert tail(log, 2) == "line 9998\nline 9999"
