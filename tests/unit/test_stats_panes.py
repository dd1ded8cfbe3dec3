from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from hal9.stats.panes import ArmTotals, Panes
from schemas.base import FLAT, HIERARCHICAL, SYSTEMS
from schemas.telemetry import Arm, Comparisons, Outcome

NOW = 1_000_000_000
counts = st.integers(min_value=0, max_value=50)
sketches = st.dictionaries(st.integers(min_value=0, max_value=900), counts, max_size=4)
arms = st.builds(
    Arm,
    system=st.sampled_from(SYSTEMS),
    epoch=st.integers(min_value=0, max_value=3),
    ok=counts,
    error=counts,
    timeout=counts,
    latency_us=sketches,
)
compared = st.builds(Comparisons, equal=counts, divergent=counts, incomparable=counts, one_sided=counts)
outcomes = st.builds(
    Outcome,
    router=st.sampled_from(["router-a", "router-b", "router-c"]),
    seq=st.integers(min_value=1, max_value=40),
    at_ms=st.integers(min_value=0, max_value=40).map(lambda s: NOW - 40_000 + s * 1000),
    arms=st.lists(arms, max_size=3),
    rejected=counts,
    comparisons=st.dictionaries(st.integers(min_value=0, max_value=3), compared, max_size=2),
    shadow_latency_us=st.dictionaries(st.sampled_from(SYSTEMS), sketches, max_size=2),
    shadow_errors=st.dictionaries(st.sampled_from(SYSTEMS), counts, max_size=2),
)
# A router never reuses a number for another outcome; a redelivered one is the same again.
reports = st.lists(outcomes, max_size=25, unique_by=lambda o: (o.router, o.seq))


def outcome(router: str = "router-a", seq: int = 1, second: int = 0, **fields: Any) -> Outcome:
    return Outcome(router=router, seq=seq, at_ms=NOW + second * 1000, **fields)


def arm(ok: int = 0, error: int = 0, timeout: int = 0, epoch: int = 1) -> Arm:
    return Arm(system=HIERARCHICAL, epoch=epoch, ok=ok, error=error, timeout=timeout)


def observable(panes: Panes) -> object:
    return (
        panes.panes(),
        panes.newest_s,
        panes.watermark_ms(NOW),
        panes.active_routers(NOW),
        [panes.window(0, NOW, system) for system in SYSTEMS],
        panes.comparisons(0, NOW),
    )


def filled(arrivals: list[Outcome], retain_s: int = 600) -> Panes:
    panes = Panes(retain_s=retain_s)
    for one in arrivals:
        panes.add(one, NOW)
    return panes


@given(reports, st.data(), st.sampled_from([5, 600]))
def test_any_order_of_arrival_and_any_redelivery_gives_one_result(
    sent: list[Outcome], data: st.DataObject, retain_s: int
) -> None:
    again = data.draw(st.lists(st.sampled_from(sent), max_size=5)) if sent else []
    shuffled = data.draw(st.permutations(sent + again))
    assert observable(filled(shuffled, retain_s)) == observable(filled(sent, retain_s))


@given(reports)
def test_nothing_retained_is_lost_or_counted_twice(sent: list[Outcome]) -> None:
    panes = filled(sent + sent)
    for system in SYSTEMS:
        mine = [a for o in sent for a in o.arms if a.system == system]
        assert panes.window(0, NOW, system).failed == sum(a.error + a.timeout for a in mine)
    assert panes.counts["redelivered"] == len(sent)


def test_a_window_takes_its_first_second_and_leaves_its_end_out() -> None:
    panes = filled([outcome(seq=s, second=s, arms=[arm(ok=1)]) for s in range(10)])
    start = NOW // 1000
    assert panes.window(start + 2, start + 5, HIERARCHICAL).ok == 3


def test_a_window_can_be_limited_to_one_epoch_and_keeps_the_systems_apart() -> None:
    panes = filled([outcome(arms=[arm(ok=1, epoch=1), arm(error=2, epoch=2)])])
    assert panes.window(0, NOW, HIERARCHICAL, epoch=2) == ArmTotals(error=2)
    assert panes.window(0, NOW, FLAT) == ArmTotals()


def test_timeouts_are_errors_of_their_arm() -> None:
    totals = filled([outcome(arms=[arm(ok=6, error=1, timeout=3)])]).window(0, NOW, HIERARCHICAL)
    assert (totals.requests, totals.failed, totals.error_rate) == (10, 4, 0.4)


def test_the_watermark_waits_for_the_slowest_active_router() -> None:
    panes = Panes()
    panes.add(outcome("router-a", seq=1, second=9), NOW)
    panes.add(outcome("router-b", seq=1, second=4), NOW)
    assert panes.watermark_ms(NOW) == NOW + 4000


def test_an_idle_router_leaves_the_watermark_and_comes_back_into_it() -> None:
    panes = Panes(idle_timeout_ms=5000)
    panes.add(outcome("router-b", seq=1, second=1), NOW)
    panes.add(outcome("router-a", seq=1, second=9), NOW + 5000)
    assert panes.watermark_ms(NOW + 5000) == NOW + 9000
    panes.add(outcome("router-b", seq=2, second=2), NOW + 5100)
    assert panes.watermark_ms(NOW + 5100) == NOW + 2000


def test_without_an_active_router_there_is_no_watermark() -> None:
    panes = filled([outcome()])
    assert panes.watermark_ms(NOW + 60_000) == -1


def test_a_late_outcome_is_counted_and_merged_while_its_pane_is_retained() -> None:
    panes = Panes(retain_s=30, grace_s=2)
    panes.add(outcome(seq=20, second=20), NOW)
    assert panes.add(outcome(seq=18, second=18, arms=[arm(ok=1)]), NOW) == "merged"
    assert panes.add(outcome(seq=17, second=17, arms=[arm(ok=1)]), NOW) == "late"
    assert panes.window(0, NOW, HIERARCHICAL).ok == 2


def test_an_outcome_older_than_the_retention_is_counted_and_changes_nothing() -> None:
    panes = Panes(retain_s=10)
    panes.add(outcome(seq=20, second=20), NOW)
    before = observable(panes)
    assert panes.add(outcome("router-old", seq=1, second=10, arms=[arm(ok=1)]), NOW) == "expired"
    assert observable(panes) == before


def test_a_router_with_a_clock_in_the_future_cannot_expire_the_others() -> None:
    panes = filled([outcome(arms=[arm(ok=1)])])
    assert panes.add(outcome("router-x", seq=1, second=3600), NOW) == "future"
    assert panes.window(0, NOW, HIERARCHICAL).ok == 1


def test_memory_is_bounded_by_the_retention() -> None:
    panes = Panes(retain_s=10)
    for second in range(1000):
        panes.add(outcome(f"router-{second}", seq=1, second=second), NOW + second * 1000)
    assert len(panes.panes()) == 10
    assert len(panes._routers) == 10


def test_the_first_second_of_an_epoch_is_that_of_its_first_evidence() -> None:
    panes = filled(
        [
            outcome(seq=1, second=1, arms=[arm(ok=1, epoch=1)]),
            outcome(seq=2, second=2, comparisons={2: Comparisons(equal=1)}),
            outcome(seq=3, second=3, arms=[arm(ok=1, epoch=2)]),
        ]
    )
    assert panes.first_s(2) == NOW // 1000 + 2
    assert panes.first_s(7) is None
