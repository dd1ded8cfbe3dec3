"""The report of the demo: what counts as a success, and what a person is told."""

import pytest
from msgspec.structs import replace

from hal9.control.reducer import ControlState
from hal9.demo.board import Board, Reading, Traffic
from hal9.demo.report import (
    Accuracy,
    Effects,
    EpochLine,
    Report,
    Requests,
    Rollback,
    Versions,
    problems,
)
from hal9.demo.summary import summary
from hal9.demo.verdict import Audited, Course, report_of

REPORT = Report(
    outcome="rolled_back",
    fault="errors",
    requests=Requests(sent=10, answered=10, ok=8, error=2, rejected=0, timeout=0, repeated=0),
    effects=Effects(expected=4, found=4),
    accuracy=Accuracy(before=0.96, during=0.95, after=0.96),
    weights_equal=True,
    stores_equal=True,
    rollback=Rollback(
        trigger="error_rate",
        fault_at_ms=1_000,
        decided_at_ms=2_500,
        acknowledged_at_ms=2_600,
        safe_at_ms=2_700,
        reason="it failed",
    ),
    epochs=[EpochLine(epoch=1, percentage=25.0, why="plan"), EpochLine(epoch=2, percentage=0.0, why="rollback")],
    divergences=0,
    comparisons={"equal": 7},
    neurons=464,
    seconds=40.0,
    versions=Versions(kafka="4", redis="9", python="3.11", hal9="0.1"),
)
CALM = replace(
    REPORT,
    outcome="promoted",
    fault="none",
    rollback=Rollback(trigger=None, fault_at_ms=None, decided_at_ms=None, acknowledged_at_ms=None, safe_at_ms=None),
)


def test_a_run_that_did_what_it_should_has_no_problems() -> None:
    assert problems(REPORT) == []
    assert problems(CALM) == []


@pytest.mark.parametrize(
    ("report", "said"),
    [
        (replace(REPORT, outcome="promoted"), "should be rolled_back"),
        (replace(CALM, outcome="rolled_back"), "should be promoted"),
        (replace(CALM, outcome="frozen"), "should be promoted"),
        (replace(REPORT, requests=replace(REPORT.requests, answered=9)), "1 of 10 requests were never answered"),
        (replace(REPORT, effects=Effects(expected=4, found=5)), "4 effects were expected and 5 found"),
        (replace(REPORT, weights_equal=False), "weights"),
        (replace(REPORT, stores_equal=False), "stores"),
        (replace(REPORT, audit=["something else"]), "something else"),
        (replace(REPORT, rollback=replace(REPORT.rollback, trigger="manual")), "not automatic"),
        (replace(REPORT, rollback=replace(REPORT.rollback, fault_at_ms=None)), "no time for: fault"),
        (replace(REPORT, rollback=replace(REPORT.rollback, safe_at_ms=None)), "no time for: safe"),
    ],
)
def test_whatever_is_not_as_it_should_be_is_a_problem(report: Report, said: str) -> None:
    assert any(said in problem for problem in problems(report)), problems(report)


def test_the_summary_tells_times_counts_and_the_verdict() -> None:
    text = "\n".join(summary(REPORT))
    assert "1.5 s later, by trigger error_rate: it failed" in text
    assert "100 ms later; all was handed back after 200 ms" in text
    assert "10 sent, 10 answered: 8 ok, 2 error" in text
    assert "the run is a success" in text
    unasked = replace(REPORT, rollback=replace(REPORT.rollback, fault_at_ms=None))
    assert "The rollback was decided, by trigger error_rate" in "\n".join(summary(unasked))
    assert "NO success:\n    - this" in "\n".join(summary(replace(REPORT, problems=["this"])))


def course(**fields: object) -> Course:
    base: dict[str, object] = {
        "fault": "none",
        "fault_at_ms": None,
        "traffic": Traffic(sent=1, answered=1, ok=1),
        "repeated": 0,
        "before": 0.9,
        "during": Reading(1, 2, 0),
        "after": 0.9,
        "neurons": 1,
        "seconds": 1.0,
        "broken": [],
    }
    return Course(**(base | fields))  # type: ignore[arg-type]


def test_a_run_that_broke_off_has_failed_whatever_the_log_says() -> None:
    board = Board(ControlState("hal9"), partitions=1)
    report = report_of(course(broken=["router ended"]), board, Audited(), REPORT.versions)
    assert report.outcome == "failed"
    assert report.problems == ["router ended", "the run broke off: there was no audit"]


def test_a_run_that_ran_out_of_time_says_so() -> None:
    board = Board(ControlState("hal9"), partitions=1)
    found = Audited(weights_equal=True, stores_equal=True)
    report = report_of(course(late=True), board, found, REPORT.versions)
    assert report.outcome == "failed"
    assert report.problems[0] == "what was to happen did not happen in time"
