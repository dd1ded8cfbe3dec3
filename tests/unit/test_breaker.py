"""The circuit breaker: a state machine, a window, and what its moves lead to."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hal9.control.reducer import ControlState, fold
from hal9.stats.sketch import bucket
from schemas.base import FLAT, HIERARCHICAL, System, encode
from schemas.control import AnyControl, Pin, Route
from schemas.telemetry import Arm, Outcome
from services.router.breaker import (
    Breaker,
    BreakerPolicy,
    Event,
    IllegalTransition,
    State,
    Transition,
    transition,
)
from services.router.protection import Protection, ProtectionPolicy

POLICY = BreakerPolicy(window_s=10, min_requests=20, open_ms=10_000, probes=5)


def arm(system: System, epoch: int, ok: int = 0, error: int = 0, timeout: int = 0, *, ms: float = 1.0) -> Arm:
    latency = {bucket(ms * 1000): ok + error + timeout}
    return Arm(system=system, epoch=epoch, ok=ok, error=error, timeout=timeout, latency_us=latency)


def folded(*records: AnyControl) -> ControlState:
    state = ControlState("hal9")
    for offset, record in enumerate(records):
        assert fold(state, offset, encode(record)).verdict == "accepted"
    return state


def route(percentage: float, epoch: int) -> Route:
    return Route(
        id=f"r{epoch}", migration="hal9", actor="t", at_ms=0, expected_epoch=epoch, percentage=percentage, shadow=100.0
    )


class Watched:
    """A protection that is fed a second at a time."""

    def __init__(self, state: ControlState, policy: BreakerPolicy = POLICY) -> None:
        self.protection, self.state, self.second = Protection(ProtectionPolicy(policy)), state, 0
        self.protection.control(state)

    def see(self, *arms: Arm, seconds: int = 1) -> list[Transition]:
        moves: list[Transition] = []
        for _ in range(seconds):
            outcome = Outcome(router="r", seq=self.second + 1, at_ms=self.second * 1000, arms=list(arms))
            self.second += 1
            moves += self.protection.look([outcome], self.second * 1000)
        return moves

    def commands(self) -> list[str]:
        command = self.protection.command(self.second * 1000, "router-1")
        return [] if command is None else [command.id]


def at_half() -> Watched:
    return Watched(folded(route(50, 0)))


def test_a_system_that_fails_half_of_its_requests_is_left_alone_and_rolled_back_once() -> None:
    watched = at_half()
    assert watched.see(arm(HIERARCHICAL, 1, ok=10, error=4, timeout=4)) == []  # 18: too few to say anything
    (move,) = watched.see(arm(HIERARCHICAL, 1, ok=2, timeout=6))
    assert (move.before, move.after, move.epoch, move.opening) == (State.CLOSED, State.OPEN, 1, 1)
    assert move.evidence == {
        "system": HIERARCHICAL,
        "window_s": 10,
        "requests": 26,
        "error": 4,
        "timeout": 10,
        "slow": 0,
        "error_share": 0.5385,
        "slow_share": 0.0,
    }
    assert watched.protection.tripped == {HIERARCHICAL}
    command = watched.protection.command(0, "router-1")
    assert command is not None
    assert (command.trigger, command.expected_epoch, command.id) == ("breaker", 1, "breaker/hierarchical/1/1")
    assert fold(watched.state, 1, encode(command)).verdict == "accepted"
    watched.protection.control(watched.state)
    assert watched.commands() == []
    assert watched.state.route.percentage == 0


def test_the_command_is_given_again_until_control_holds_it() -> None:
    watched = at_half()
    watched.see(arm(HIERARCHICAL, 1, error=30))
    assert watched.commands() == watched.commands() == ["breaker/hierarchical/1/1"]


def test_every_router_gives_the_command_of_an_opening_the_same_id() -> None:
    one, two = at_half(), at_half()
    one.see(arm(HIERARCHICAL, 1, error=30))
    two.see(seconds=3)
    two.see(arm(HIERARCHICAL, 1, timeout=25))
    assert one.commands() == two.commands()


def test_slow_requests_open_it_too() -> None:
    watched = at_half()
    (move,) = watched.see(arm(HIERARCHICAL, 1, ok=30, ms=2_500))
    assert move.evidence["slow_share"] == 1.0


def test_errors_of_an_older_route_do_not_count_and_those_before_a_pin_do() -> None:
    watched = Watched(folded(route(25, 0), route(50, 1)))
    assert watched.see(arm(HIERARCHICAL, 1, error=100)) == []
    assert watched.see(arm(HIERARCHICAL, 2, error=15)) == []
    pin = Pin(id="p", migration="hal9", actor="t", at_ms=0, keys=["k"])
    fold(watched.state, 2, encode(pin))
    watched.protection.control(watched.state)
    assert watched.see(arm(HIERARCHICAL, 3, error=15)) != []


def test_what_left_the_window_is_forgotten() -> None:
    watched = at_half()
    watched.see(arm(HIERARCHICAL, 1, error=19))
    watched.see(seconds=11)
    assert watched.see(arm(HIERARCHICAL, 1, error=19)) == []


def test_no_rollback_while_flat_fails_as_well_and_one_when_it_has_recovered() -> None:
    watched = at_half()
    watched.see(arm(HIERARCHICAL, 1, error=30), arm(FLAT, 1, error=30))
    assert watched.commands() == []
    watched.see(seconds=9)
    watched.see(arm(FLAT, 1, ok=30), arm(HIERARCHICAL, 1, error=30), seconds=11)
    assert watched.protection.breakers[FLAT].state is State.CLOSED
    assert watched.commands() == ["breaker/hierarchical/1/1"]


def test_flat_failing_publishes_nothing() -> None:
    watched = at_half()
    (move,) = watched.see(arm(FLAT, 1, error=30), arm(HIERARCHICAL, 1, ok=30))
    assert move.system == FLAT
    assert watched.commands() == []
    assert watched.protection.tripped == {FLAT}


def test_an_open_breaker_is_probed_and_closes_or_opens_again_without_a_second_command() -> None:
    watched = at_half()
    watched.see(arm(HIERARCHICAL, 1, error=30))
    (rested,) = watched.see(seconds=10)
    assert (rested.after, watched.protection.gate.probing) == (State.HALF_OPEN, {HIERARCHICAL})
    for _ in range(POLICY.probes):
        watched.protection.gate.probed(HIERARCHICAL, ok=False)
    assert watched.protection.gate.probing == frozenset()
    (failed,) = watched.see()
    assert (failed.after, failed.opening) == (State.OPEN, 1)
    watched.see(seconds=10)
    for _ in range(POLICY.probes):
        watched.protection.gate.probed(HIERARCHICAL, ok=True)
    (closed,) = watched.see()
    assert (closed.after, watched.protection.tripped) == (State.CLOSED, frozenset())
    assert watched.commands() == []


def test_what_a_half_open_system_answers_to_the_keys_it_owns_counts_as_well() -> None:
    watched = at_half()
    watched.see(arm(FLAT, 1, error=30))
    watched.see(seconds=10)
    (closed,) = watched.see(arm(FLAT, 1, ok=9, error=1))
    assert closed.after is State.CLOSED


def test_switched_off_nothing_moves() -> None:
    protection = Protection(ProtectionPolicy(breakers=False))
    outcome = Outcome(router="r", seq=1, at_ms=0, arms=[arm(HIERARCHICAL, 0, error=1000)])
    assert protection.look([outcome], 1000) == []


LEGAL = {
    (State.CLOSED, Event.FAILING),
    (State.OPEN, Event.RESTED),
    (State.HALF_OPEN, Event.PROBES_PASSED),
    (State.HALF_OPEN, Event.PROBES_FAILED),
}


@given(state=st.sampled_from(State), event=st.sampled_from(Event))
def test_only_four_moves_are_legal(state: State, event: Event) -> None:
    if (state, event) in LEGAL:
        assert transition(state, event) is not state
    else:
        with pytest.raises(IllegalTransition):
            transition(state, event)


SECOND = st.tuples(
    st.integers(0, 2),  # epoch
    st.integers(0, 30),
    st.integers(0, 30),
    st.integers(0, 30),
    st.sampled_from((1.0, 5_000.0)),
    st.lists(st.booleans(), max_size=6),  # probes answered
)


@given(st.lists(SECOND, max_size=60))
def test_whatever_happens_it_opens_only_on_evidence_and_rests_before_it_is_probed(
    seconds: list[tuple[int, int, int, int, float, list[bool]]],
) -> None:
    breaker = Breaker(HIERARCHICAL, POLICY)
    breaker.enter(range(1, 2))
    moves: list[tuple[int, Transition]] = []
    for number, (epoch, ok, error, timeout, ms, probes) in enumerate(seconds):
        breaker.observe(number * 1000, [arm(HIERARCHICAL, epoch, ok, error, timeout, ms=ms)])
        for answered in probes:
            breaker.probed(ok=answered)
        move = breaker.look((number + 1) * 1000)
        if move is not None:
            moves.append((number, move))
    for number, move in moves:
        if move.event is Event.FAILING:
            window = [s for s in seconds[max(0, number - 9) : number + 1] if s[0] == 1]
            counted = move.evidence["requests"]
            assert POLICY.min_requests <= counted <= sum(ok + error + timeout for _, ok, error, timeout, _, _ in window)
            assert move.evidence["error_share"] >= 0.5 or move.evidence["slow_share"] >= 0.8
    for (earlier, one), (later, two) in pairwise(moves):
        assert one.after is two.before
        if two.event is Event.RESTED:
            assert later - earlier >= 10
