from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hal9.control.reducer import ControlState, fold
from hal9.stats.panes import Panes
from schemas.base import FLAT, HIERARCHICAL, encode
from schemas.control import AnyControl, Flags, Freeze, Journal, Pin, Rollback, Route, SetFlags, Start
from schemas.telemetry import Arm, Outcome
from services.guardian.verdict import Command, Decision, Policy, decide, epochs_of_route

NOW = 1_000_000_000
SECOND = NOW // 1000
POLICY = Policy(error_rate=0.05, window_s=60, min_requests=50, silence_s=30)


class Scene:
    """A control log and the reports of one router, told second by second."""

    def __init__(self, *records: AnyControl) -> None:
        self.control = ControlState(migration="hal9")
        self.panes = Panes(retain_s=120)
        self.seq = 0
        for record in records:
            self.write(record)

    def write(self, record: AnyControl) -> None:
        assert fold(self.control, self.control.position, encode(record)).verdict == "accepted"

    def report(self, *arms: Arm, ago_s: int = 1) -> None:
        self.seq += 1
        outcome = Outcome(router="router-a", seq=self.seq, at_ms=(SECOND - ago_s) * 1000, arms=list(arms))
        self.panes.add(outcome, NOW)

    def decide(self, quiet_ms: int = 0, policy: Policy = POLICY, actor: str = "guardian-1") -> dict[str, Decision]:
        found = decide(self.panes, self.control, policy, NOW, quiet_ms=quiet_ms, actor=actor)
        return {decision.trigger: decision for decision in found}

    def errors(self, **given: Any) -> Decision:
        return self.decide(**given)["error_rate"]

    def silence(self, quiet_ms: int, **given: Any) -> Decision:
        return self.decide(quiet_ms, **given)["silence"]


def start(number: int = 1, epoch: int = 0) -> Start:
    return Start(
        id=f"start-{number}", migration="hal9", actor="t", at_ms=NOW, expected_epoch=epoch, partitions=1, plan={}
    )


def route(epoch: int, percentage: float) -> Route:
    name = f"route-{epoch}-{percentage}"
    return Route(id=name, migration="hal9", actor="t", at_ms=NOW, expected_epoch=epoch, percentage=percentage)


def pin(number: int) -> Pin:
    return Pin(id=f"pin-{number}", migration="hal9", actor="t", at_ms=NOW, keys=[f"key-{number}"])


def journal(entry: int, state: Any) -> Journal:
    return Journal(
        id=f"journal-{entry}",
        migration="hal9",
        actor="t",
        at_ms=NOW,
        expected_entry=entry,
        phase="canary",
        step=0,
        state=state,
    )


def hierarchical(ok: int = 0, error: int = 0, timeout: int = 0, epoch: int = 1) -> Arm:
    return Arm(system=HIERARCHICAL, epoch=epoch, ok=ok, error=error, timeout=timeout)


def flat(ok: int = 0, error: int = 0, epoch: int = 1) -> Arm:
    return Arm(system=FLAT, epoch=epoch, ok=ok, error=error)


def canary() -> Scene:
    return Scene(start(), route(0, 10))


def test_a_sick_hierarchical_is_rolled_back_with_the_evidence_of_its_epoch() -> None:
    scene = canary()
    scene.report(hierarchical(ok=40, error=50, timeout=10), flat(ok=900, error=9))
    decision = scene.errors()
    command = decision.command
    assert decision.verdict == "regression"
    assert isinstance(command, Rollback)
    assert (command.trigger, command.expected_epoch, command.scope) == ("error_rate", 1, {})
    assert command.evidence[HIERARCHICAL] == {"requests": 100, "error": 50, "timeout": 10, "rate": 0.6}
    assert command.evidence[FLAT]["requests"] == 909
    assert (command.evidence["threshold"], command.evidence["window_s"]) == (0.05, 60)
    assert "hierarchical failed 60 of 100 requests (60.0%, 10 by timeout)" in command.reason


def test_timeouts_alone_are_errors() -> None:
    scene = canary()
    scene.report(hierarchical(ok=50, timeout=50))
    assert isinstance(scene.errors().command, Rollback)


def test_the_command_is_accepted_by_the_reducer_and_not_given_again() -> None:
    scene = canary()
    scene.report(hierarchical(error=100))
    command = scene.errors().command
    assert command is not None
    scene.write(command)
    assert (scene.control.epoch, scene.control.route.bound) == (2, 0)
    assert scene.errors().command is None


def test_two_guardians_and_one_after_a_restart_give_the_same_command_id() -> None:
    scene = canary()
    scene.report(hierarchical(error=100))
    first = scene.errors(actor="guardian-1").command
    scene.report(hierarchical(error=100))
    second = scene.errors(actor="guardian-2").command
    assert first is not None
    assert second is not None
    assert first.id == second.id


def test_a_command_in_the_log_is_not_given_again_even_if_it_was_refused() -> None:
    scene = canary()
    scene.report(hierarchical(error=100))
    command = scene.errors().command
    assert command is not None
    scene.control.ids.add(command.id)
    assert scene.errors().command is None


def test_errors_of_another_epoch_are_no_evidence_against_this_one() -> None:
    scene = Scene(start(), route(0, 10), route(1, 5))
    scene.report(hierarchical(error=100, epoch=1))
    assert scene.errors().verdict == "insufficient"
    scene.report(hierarchical(error=100, epoch=2))
    command = scene.errors().command
    assert command is not None
    assert command.expected_epoch == 2


def test_pins_change_the_epoch_but_not_whose_evidence_counts() -> None:
    scene = Scene(start(), route(0, 5), route(1, 10), pin(1), pin(2))
    assert epochs_of_route(scene.control) == range(2, 5)
    for epoch in (2, 3, 4):
        scene.report(hierarchical(error=20, epoch=epoch))
    scene.report(hierarchical(ok=10_000, epoch=1))
    command = scene.errors().command
    assert command is not None
    assert command.expected_epoch == 4
    assert command.evidence["epochs"] == [2, 4]


def test_too_few_requests_say_nothing() -> None:
    scene = canary()
    scene.report(hierarchical(error=49))
    assert scene.errors().verdict == "insufficient"


def test_errors_that_may_be_chance_do_not_count_before_the_window_is_full() -> None:
    scene = canary()
    scene.report(hierarchical(ok=94, error=6))
    assert scene.errors().verdict == "insufficient"
    scene.report(hierarchical(), ago_s=60)
    scene.report(flat(ok=1), ago_s=60)
    assert scene.errors().verdict == "regression"


def test_what_is_older_than_the_window_does_not_count() -> None:
    scene = canary()
    scene.report(hierarchical(error=1000), ago_s=61)
    scene.report(hierarchical(ok=1000))
    assert scene.errors().verdict == "ok"


def test_ok_needs_a_full_window_that_every_active_router_has_closed() -> None:
    scene = canary()
    scene.report(hierarchical(ok=100), ago_s=30)
    scene.report(hierarchical(ok=100))
    assert scene.errors().verdict == "insufficient"
    scene.report(hierarchical(ok=100), ago_s=60)
    assert scene.errors().verdict == "ok"
    scene.panes.add(Outcome(router="router-b", seq=1, at_ms=(SECOND - 20) * 1000), NOW)
    assert scene.errors().verdict == "insufficient"


def test_both_sick_freezes_because_going_back_would_not_help() -> None:
    scene = canary()
    scene.report(hierarchical(ok=50, error=50), flat(ok=600, error=400))
    decision = scene.errors()
    assert isinstance(decision.command, Freeze)
    scene.write(decision.command)
    assert scene.control.frozen
    assert scene.errors().command is None


def test_a_flat_that_is_sick_too_but_far_less_does_not_prevent_the_rollback() -> None:
    scene = canary()
    scene.report(hierarchical(ok=50, error=50), flat(ok=800, error=200))
    assert isinstance(scene.errors().command, Rollback)


def test_a_flat_without_enough_requests_is_no_excuse() -> None:
    scene = Scene(start(), route(0, 100))
    scene.report(hierarchical(ok=50, error=50), flat(error=49))
    assert isinstance(scene.errors().command, Rollback)


def test_flat_in_another_epoch_is_no_baseline() -> None:
    scene = Scene(start(), route(0, 5), route(1, 10))
    scene.report(hierarchical(error=100, epoch=2), flat(error=1000, epoch=1))
    assert isinstance(scene.errors().command, Rollback)


def test_a_frozen_migration_is_still_rolled_back_when_hierarchical_gets_worse() -> None:
    scene = canary()
    scene.report(hierarchical(ok=50, error=50), flat(ok=600, error=400))
    freeze = scene.errors().command
    assert freeze is not None
    scene.write(freeze)
    scene.report(hierarchical(error=900))
    assert isinstance(scene.errors().command, Rollback)


def test_after_a_new_start_in_the_same_epoch_a_freeze_can_be_given_again() -> None:
    scene = Scene(start(), route(0, 10), journal(0, "entered"))
    first = scene.silence(30_000).command
    assert first is not None
    scene.write(first)
    scene.write(start(2, epoch=1))
    second = scene.silence(30_000).command
    assert second is not None
    assert second.id != first.id
    scene.write(second)
    assert scene.control.frozen


def test_with_nothing_at_hierarchical_and_no_plan_there_is_nothing_to_do() -> None:
    scene = Scene()
    scene.report(hierarchical(error=100, epoch=0))
    assert scene.errors().command is None
    assert scene.silence(10_000_000).verdict == "insufficient"


@pytest.mark.parametrize(
    ("quiet_ms", "command"), [(29_999, None), (30_000, Freeze), (59_999, Freeze), (60_000, Rollback)]
)
def test_silence_freezes_and_then_rolls_back(quiet_ms: int, command: type[Command] | None) -> None:
    decision = canary().silence(quiet_ms)
    assert (type(decision.command) if decision.command else None) is command
    assert decision.verdict == ("ok" if command is None else "regression")


def test_silence_counts_in_a_running_plan_without_traffic_and_not_after_its_end() -> None:
    scene = Scene(start(), journal(0, "entered"))
    assert scene.silence(60_000).command is not None
    scene.write(journal(1, "finished"))
    assert scene.silence(60_000).command is None


def test_silence_counts_after_the_end_of_a_plan_while_hierarchical_serves() -> None:
    scene = Scene(start(), route(0, 25), journal(0, "finished"))
    assert isinstance(scene.silence(60_000).command, Rollback)


def test_silence_rolls_back_once() -> None:
    scene = canary()
    command = scene.silence(60_000).command
    assert command is not None
    scene.write(command)
    assert scene.silence(120_000).command is None


def flags(epoch: int, **given: Any) -> SetFlags:
    wanted = Flags(percentage=10.0, **given)
    return SetFlags(id=f"flags-{epoch}", migration="hal9", actor="t", at_ms=NOW, expected_epoch=epoch, flags=wanted)


def test_with_auto_rollback_off_the_guardian_freezes_with_the_same_evidence() -> None:
    scene = Scene(start(), route(0, 10), flags(1, auto_rollback=False))
    scene.report(hierarchical(ok=40, error=60, epoch=2))
    command = scene.errors().command
    assert isinstance(command, Freeze)
    assert "auto_rollback is off: hierarchical failed 60 of 100" in command.reason
    assert command.evidence[HIERARCHICAL]["error"] == 60
    scene.write(command)
    assert scene.errors().command is None


def test_the_flag_of_the_threshold_stands_above_the_setting() -> None:
    scene = Scene(start(), route(0, 10), flags(1, error_threshold=0.7))
    scene.report(hierarchical(ok=40, error=60, epoch=2))
    assert scene.errors().command is None
    scene.write(flags(2, error_threshold=0.001))
    scene.report(hierarchical(ok=900, error=100, epoch=3))
    assert isinstance(scene.errors().command, Rollback)


def test_a_prefix_at_hierarchical_is_something_to_go_back_from() -> None:
    scene = Scene(flags(0), flags(1, prefixes={"a": HIERARCHICAL}))
    scene.write(route(2, 0.0))
    assert scene.silence(60_000).command is not None


def test_a_threshold_of_zero_makes_any_error_count() -> None:
    scene = canary()
    scene.report(hierarchical(ok=99, error=1))
    assert isinstance(scene.errors(policy=Policy(error_rate=0.0)).command, Rollback)


@given(
    st.integers(min_value=0, max_value=3000),
    st.integers(min_value=0, max_value=3000),
    st.floats(min_value=0.0, max_value=1.0),
)
def test_no_counts_make_it_fail_and_below_the_bound_there_is_never_a_command(ok: int, error: int, bound: float) -> None:
    scene = canary()
    scene.report(hierarchical(ok=ok, error=error))
    decision = scene.errors(policy=Policy(error_rate=bound))
    assert decision.command is None or error / (ok + error) > bound
