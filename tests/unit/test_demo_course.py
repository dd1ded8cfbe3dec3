"""The course of the demo: what happens when, and how a run ends."""

import itertools
from typing import Any

import pytest
from rich.console import Console

from hal9 import plans
from hal9.control.reducer import ControlState, Outcome, fold
from hal9.demo.board import Board
from hal9.demo.scenario import Act, Scenario, Stage, Times, ending, fitted
from hal9.demo.screen import figures, picture
from schemas.base import encode
from schemas.control import Freeze, Journal, Rollback, Settled, Start
from schemas.control import Route as RouteRecord
from schemas.telemetry import Arm, Comparisons, Status
from schemas.telemetry import Outcome as Seconds

TIMES = Times(start_s=2.0, strike_by_s=40.0, rest_s=4.0, limit_s=90.0)
PARTITIONS = 2


class Log:
    """`control` as a run writes it, folded, and shown on a board."""

    def __init__(self) -> None:
        self.state = ControlState("hal9")
        self.board = Board(self.state, PARTITIONS)
        self._offsets = itertools.count()

    def add(self, kind: type[Any], **fields: Any) -> Outcome:
        offset = next(self._offsets)
        common = {"id": f"r{offset}", "migration": "hal9", "actor": "guardian-0a1b2c3d", "at_ms": offset}
        outcome = fold(self.state, offset, encode(kind(**(common | fields))))
        self.board.control(outcome, offset)
        return outcome

    def start(self) -> None:
        self.add(Start, expected_epoch=self.state.epoch, partitions=PARTITIONS, plan={"name": "demo"})

    def route(self, percentage: float) -> None:
        self.add(RouteRecord, expected_epoch=self.state.epoch, percentage=percentage)

    def settle(self) -> None:
        for partition in range(PARTITIONS):
            seals = {"flat": 1, "hierarchical": 1}
            self.add(Settled, partition=partition, epoch=self.state.epoch, seals=seals, forced=["hierarchical"])

    def journal(self, state: str) -> None:
        entry = len(self.state.journal)
        self.add(Journal, expected_entry=entry, phase="canary", step=0, state=state, percentage=25.0)

    def rollback(self) -> None:
        self.add(Rollback, expected_epoch=self.state.epoch, trigger="error_rate", reason="it failed")

    @property
    def texts(self) -> list[str]:
        return [line.text for line in self.board.lines]


def begun(fault: Any) -> tuple[Scenario, Log]:
    """A run whose migration has started."""
    scenario, log = Scenario(fault, PARTITIONS, TIMES), Log()
    assert scenario.next(log.state, 1.0) is None
    assert scenario.next(log.state, 2.0) is Act.START
    log.start()
    return scenario, log


def test_the_fault_strikes_once_when_the_last_step_has_passed_and_rest_follows_when_it_is_safe() -> None:
    scenario, log = begun("errors")
    log.route(25.0)
    log.settle()
    assert scenario.next(log.state, 20.0) is None
    log.journal("finished")
    assert scenario.next(log.state, 30.0) is Act.STRIKE
    assert scenario.next(log.state, 30.1) is None
    log.rollback()
    assert scenario.next(log.state, 32.0) is None
    assert scenario.stage is Stage.RETURNING
    log.settle()
    assert scenario.next(log.state, 33.0) is None
    assert scenario.stage is Stage.RESTING
    assert scenario.next(log.state, 37.0) is Act.STOP
    assert scenario.next(log.state, 38.0) is None
    assert ending(log.state, PARTITIONS, broken=False) == "rolled_back"


def test_short_of_time_the_fault_strikes_at_any_step_but_only_while_hierarchical_owns_something() -> None:
    scenario, log = begun("crash")
    assert scenario.next(log.state, 41.0) is None
    log.route(5.0)
    assert scenario.next(log.state, 42.0) is None, "not settled yet"
    log.settle()
    assert scenario.next(log.state, 43.0) is Act.STRIKE


def test_without_a_fault_the_run_rests_when_the_plan_is_done() -> None:
    scenario, log = begun("none")
    log.route(25.0)
    log.settle()
    assert scenario.next(log.state, 50.0) is None
    log.journal("finished")
    assert scenario.next(log.state, 51.0) is None
    assert scenario.next(log.state, 55.0) is Act.STOP
    assert ending(log.state, PARTITIONS, broken=False) == "promoted"


def test_what_does_not_happen_ends_at_the_limit() -> None:
    scenario, log = begun("errors")
    log.route(25.0)
    assert scenario.next(log.state, 90.0) is Act.STOP
    assert scenario.late
    assert ending(log.state, PARTITIONS, broken=False) == "failed"


def test_a_rollback_that_is_not_safe_and_a_freeze_are_no_good_endings() -> None:
    _, log = begun("errors")
    log.route(25.0)
    log.rollback()
    assert ending(log.state, PARTITIONS, broken=False) == "failed"
    _, other = begun("errors")
    other.add(Freeze, expected_epoch=0, trigger="silence", reason="nobody reports")
    assert ending(other.state, PARTITIONS, broken=False) == "frozen"
    assert ending(other.state, PARTITIONS, broken=True) == "failed"


@pytest.mark.parametrize("seconds", [20.0, 40.0, 600.0])
def test_the_plan_is_fitted_to_the_seconds_and_stays_the_plan(seconds: float) -> None:
    plan = plans.load("demo")
    made = fitted(plan, seconds)
    soaks = {part.gates.soak_s for part in made.phases}
    assert len(soaks) == 1
    assert 1.0 <= soaks.pop() <= seconds / len(plan.walk())
    assert [part.steps for part in made.phases] == [part.steps for part in plan.phases]
    assert [part.gates.min_comparisons for part in made.phases] == [p.gates.min_comparisons for p in plan.phases]


def test_the_board_tells_the_decisions_in_words_and_settling_once() -> None:
    _, log = begun("errors")
    log.route(25.0)
    log.settle()
    log.journal("finished")
    log.rollback()
    log.settle()
    assert log.texts == [
        "migration started by guardian: plan demo",
        "epoch 1: 25 % to hierarchical",
        "epoch 1: settled in all 2 partitions, in 2 of them by forced seals",
        "canary 25 %: that was the last step, the plan is done",
        "epoch 2: ROLLBACK to 0 % by guardian, error_rate: it failed",
        "epoch 2: settled in all 2 partitions, in 2 of them by forced seals",
    ]
    assert [line.grave for line in log.board.lines] == [False, False, False, False, True, False]
    log.add(RouteRecord, expected_epoch=0, percentage=5.0)
    assert log.texts[-1].startswith("control record refused")


def test_effective_follows_the_markers_and_intended_the_log() -> None:
    _, log = begun("errors")
    log.route(10.0)
    assert (log.board.intended, log.board.effective) == (10.0, 0.0)
    log.board.status(Status(instance="r", service="router", at_ms=0, epochs={0: 1}))
    log.board.status(Status(instance="m", service="migrator", at_ms=0, epochs={1: 1}))
    assert log.board.effective == 5.0
    log.board.status(Status(instance="r", service="router", at_ms=0, epochs={1: 7}))
    assert log.board.effective == 10.0, "a marker that is ahead of what was read of control"


def test_the_sides_show_the_newest_closed_seconds() -> None:
    board = Log().board
    arms = [
        Arm(system="flat", epoch=0, ok=40, latency_us={300: 40}),
        Arm(system="hierarchical", epoch=0, ok=6, error=1, timeout=1, latency_us={400: 8}),
    ]
    outcome = Seconds(router="r", seq=1, at_ms=10_000, arms=arms, comparisons={0: Comparisons(equal=3, divergent=2)})
    board.outcome(outcome, 11_000)
    board.outcome(outcome, 11_000)
    flat, hierarchical = (board.side(system, 11_000) for system in ("flat", "hierarchical"))
    assert (flat.requests_s, flat.failed) == (10.0, 0)
    assert (hierarchical.requests_s, hierarchical.failed_s, hierarchical.failed) == (2.0, 0.5, 2)
    assert flat.p50_ms == pytest.approx(1.02**300 / 1000, rel=0.02)
    assert board.divergences == 2


def test_everything_can_be_painted_at_every_time() -> None:
    log = Log()
    console = Console(record=True, width=100, file=None, force_terminal=False, quiet=False, stderr=False)
    with console.capture() as empty:
        console.print(picture(log.board, 0))
    assert "not begun" in empty.get()
    log.start()
    log.route(25.0)
    log.settle()
    log.rollback()
    with console.capture() as full:
        console.print(picture(log.board, 0))
    assert "ROLLBACK to 0 %" in full.get()
    assert "rolled back in epoch 2" in full.get()
    assert "0 % intended" in figures(log.board, 0)


def test_plain_lines_are_told_once() -> None:
    board = Log().board
    board.say("one", 0)
    board.say("two", 0)
    assert [line.text for line in board.since(1)] == ["two"]
    for number in range(300):
        board.say(str(number), 0)
    assert len(board.since(2)) == 200, "what was forgotten is not told, and nothing breaks"
    assert board.since(board.said) == []
