"""Shadows that do not go: by rate, under pressure, by breaker; and probes, which go all the same."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from hal9 import wire
from hal9.stats.tokens import TokenBucket
from schemas.base import HIERARCHICAL
from schemas.telemetry import Arm, Outcome
from services.router.breaker import BreakerPolicy, State
from services.router.outcomes import OutcomeBook
from services.router.protection import Protection, ProtectionPolicy
from services.router.shadowing import Shadowing
from simulation.stage import Stage, headers

KEY = b"a0"


def opened(probes: int = 3) -> Protection:
    """Hierarchical's breaker has just opened."""
    protection = Protection(ProtectionPolicy(BreakerPolicy(probes=probes, open_ms=1_000)))
    protection.look([Outcome(router="r", seq=1, at_ms=0, arms=[Arm(system=HIERARCHICAL, epoch=0, error=50)])], 1_000)
    return protection


def half_open() -> Protection:
    protection = opened()
    protection.look([], 2_000)
    assert protection.breakers[HIERARCHICAL].state is State.HALF_OPEN
    return protection


def response(position: int, status: str, error: bytes | None = None) -> wire.Response:
    return wire.Response(position, 0, b"shadow", status, error, 0, None)


@given(rate=st.floats(1, 1000), burst=st.integers(1, 50), pauses=st.lists(st.floats(0, 2000), max_size=40))
def test_a_bucket_gives_no_more_than_its_burst_and_what_accrued(rate: float, burst: int, pauses: list[float]) -> None:
    bucket, now_ms, spent = TokenBucket(rate, burst), 0.0, 0
    bucket.ready(now_ms)
    for pause in pauses:
        while bucket.spend():
            spent += 1
        now_ms += pause
        bucket.ready(now_ms)
    while bucket.spend():
        spent += 1
    assert spent <= burst + rate * now_ms / 1000 + 1e-6


def test_shadows_beyond_the_rate_are_dropped_and_counted_in_outcomes() -> None:
    protection = Protection(ProtectionPolicy(shadow_rate=10, shadow_burst=2))
    shadowing = Shadowing(protection.gate)
    protection.tick(0)
    went = [shadowing.goes(HIERARCHICAL, p, 0, routed=True, pressed=False) for p in range(5)]
    protection.tick(100)
    went += [shadowing.goes(HIERARCHICAL, p, 0, routed=True, pressed=False) for p in range(2)]
    assert went == [True, True, False, False, False, True, False]
    book = OutcomeBook("r")
    book.take(0, [])
    book.dropped(protection.gate.take())
    (outcome,) = book.take(1_000, [])
    assert outcome.shadows_dropped == {"rate": 4}
    assert book.take(2_000, [])[0].shadows_dropped == {}


def test_under_pressure_nothing_is_shadowed() -> None:
    gate = Protection().gate
    assert not Shadowing(gate).goes(HIERARCHICAL, 0, 0, routed=True, pressed=True)
    assert gate.take() == Counter(pressure=1)


def test_an_open_breaker_gets_no_shadows_and_a_half_open_one_gets_probes_alone() -> None:
    gate = opened().gate
    assert not Shadowing(gate).goes(HIERARCHICAL, 0, 0, routed=True, pressed=False)
    assert gate.take() == Counter(breaker=1)
    gate = half_open().gate
    shadowing = Shadowing(gate)
    went = [shadowing.goes(HIERARCHICAL, p, 0, routed=p % 2 == 0, pressed=False) for p in range(5)]
    assert went == [True, True, True, False, False]


def test_a_probe_that_could_not_run_says_nothing_and_one_that_was_never_answered_has_failed() -> None:
    protection = half_open()
    shadowing = Shadowing(protection.gate)
    for position in range(3):
        shadowing.goes(HIERARCHICAL, position, 5_000, routed=True, pressed=False)
    shadowing.answered(HIERARCHICAL, response(0, "error", b"incomparable"))
    assert protection.breakers[HIERARCHICAL].wanted == 3
    shadowing.answered(HIERARCHICAL, response(1, "ok"))
    shadowing.expire(6_999)
    assert len(shadowing.probes) == 1
    shadowing.expire(7_000)
    assert protection.breakers[HIERARCHICAL].wanted == 1
    assert len(shadowing.probes) == 0


def test_a_half_open_breaker_is_closed_by_shadows_alone_though_the_route_shadows_nothing() -> None:
    protection = half_open()
    stage = Stage("router", "flat", "hierarchical", "migrator", protection=protection)
    for number in range(6):
        stage.ask(KEY, "mut", b"x", name=f"i{number}")
    stage.run()
    shadowed = [headers(record).get("shadow") for record in stage.records("dispatched")]
    assert shadowed == ["hierarchical"] * 3 + [None] * 3
    (closed,) = protection.look([], stage.now_ms)
    assert closed.after is State.CLOSED
    assert {status for _, status in stage.answers()} == {"ok"}
