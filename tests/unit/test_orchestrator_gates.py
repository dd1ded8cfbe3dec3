"""The gates: three verdicts each; too little is never ok, chance is no regression, time is that of the telemetry."""

from typing import Any

import pytest
from msgspec.structs import replace as with_

from hal9.control.plan import Gates, Step
from hal9.stats.chance import improbable
from schemas.base import System
from schemas.reports import Quarantined
from schemas.telemetry import Arm, Comparisons, Outcome
from services.orchestrator.evidence import Evidence
from services.orchestrator.gates import Judgement, judge

T0 = 1_700_000_000
GATES = Gates(
    min_requests=100,
    max_error_rate=0.05,
    min_comparisons=100,
    max_divergence_rate=0.01,
    max_quarantined=1,
    soak_s=10,
    window_s=60,
)
EPOCHS = range(4, 6)


class Telemetry:
    """Evidence, one second after the other."""

    def __init__(self) -> None:
        self.evidence = Evidence(T0 * 1000)
        self.second, self.seq = T0, 0

    def seconds(self, count: int, *arms: Arm, epoch: int = 5, **compared: int) -> "Telemetry":
        for _ in range(count):
            self.seq += 1
            comparisons = {epoch: Comparisons(**compared)}
            outcome = Outcome(
                router="r", seq=self.seq, at_ms=self.second * 1000, arms=list(arms), comparisons=comparisons
            )
            self.second += 1
            self.evidence.outcome(outcome, self.second * 1000)
        return self

    def judge(self, percentage: float = 5.0, later_ms: int = 0, **gates: Any) -> Judgement:
        step = Step("canary" if percentage else "shadow", 1, percentage, None, with_(GATES, **gates))
        return judge(step, EPOCHS, T0 * 1000, T0 * 1000, self.evidence, self.second * 1000 + later_ms)

    def verdicts(self, percentage: float = 5.0, **gates: Any) -> dict[str, str]:
        return {finding.gate: finding.verdict for finding in self.judge(percentage, **gates).findings}


def arm(ok: int, failed: int = 0, system: System = "hierarchical", epoch: int = 5) -> Arm:
    return Arm(system=system, epoch=epoch, ok=ok, error=failed // 2, timeout=failed - failed // 2)


def test_all_is_ok_when_there_is_enough_and_it_is_good() -> None:
    judgement = Telemetry().seconds(10, arm(10), arm(100, system="flat"), equal=10).judge()
    assert judgement.verdict == "ok"
    assert judgement.evidence == {
        "epochs": [4, 5],
        "from_s": T0,
        "to_s": T0 + 10,
        "flat": {"requests": 1000, "failed": 0},
        "hierarchical": {"requests": 100, "failed": 0},
        "compared": 100,
        "differed": 0,
        "quarantined": 0,
    }


def test_one_request_or_comparison_too_few_is_insufficient() -> None:
    assert (
        Telemetry().seconds(9, arm(11), equal=11).seconds(1, arm(0), equal=0).verdicts()["error_rate"] == "insufficient"
    )
    assert Telemetry().seconds(9, arm(11), equal=11).seconds(1, arm(1), equal=1).judge().verdict == "ok"
    short = Telemetry().seconds(9, arm(11), equal=11).seconds(1, arm(9), equal=0).verdicts()
    assert short == {"soak": "ok", "error_rate": "ok", "divergence": "insufficient", "quarantine": "ok"}


def test_nothing_at_all_is_insufficient() -> None:
    judgement = Telemetry().judge()
    assert judgement.verdict == "insufficient"
    assert "no router reports results" in judgement.said("insufficient")


@pytest.mark.parametrize(
    ("compared", "verdict"),
    [
        ({"equal": 10}, "ok"),
        ({"both_failed": 1000, "incomparable": 1000}, "insufficient"),
        ({"equal": 99, "divergent": 1}, "ok"),
        ({"equal": 98, "divergent": 2}, "regression"),
        ({"equal": 98, "one_sided": 2}, "regression"),
    ],
)
def test_comparisons_are_those_that_compared_something(compared: dict[str, int], verdict: str) -> None:
    assert Telemetry().seconds(10, arm(10), **compared).verdicts()["divergence"] == verdict


def test_errors_and_timeouts_of_hierarchical_in_these_epochs_count() -> None:
    bad = Telemetry().seconds(10, arm(94, 6), arm(1000, system="flat"), equal=100).judge()
    assert bad.verdict == "regression"
    assert bad.said("regression") == "hierarchical failed 60 of 1000 requests, more than 5.0%"
    assert Telemetry().seconds(10, arm(95, 5), equal=100).judge().verdict == "ok"
    earlier = [arm(100), arm(0, 500, epoch=3), arm(0, 500, epoch=6)]
    assert Telemetry().seconds(10, *earlier, equal=100).judge().verdict == "ok"
    pinned = [arm(100), arm(0, 500, epoch=4)]
    assert Telemetry().seconds(10, *pinned, equal=100).judge().verdict == "regression"


def test_before_the_soak_is_over_a_small_excess_may_be_chance() -> None:
    young = Telemetry().seconds(3, arm(37, 3), equal=100)
    assert young.verdicts()["error_rate"] == "insufficient"
    grown = young.seconds(7, arm(37, 3), equal=100)
    assert grown.verdicts()["error_rate"] == "regression"


def test_before_the_soak_is_over_a_great_excess_is_none() -> None:
    assert Telemetry().seconds(3, arm(20, 20), equal=100).judge().verdict == "regression"


def test_good_figures_before_the_end_of_the_soak_promote_nothing() -> None:
    assert Telemetry().seconds(9, arm(100), equal=100).judge().verdict == "insufficient"


def test_the_soak_goes_by_the_telemetry_and_not_by_the_clock() -> None:
    silent = Telemetry().seconds(9, arm(100), equal=100)
    assert silent.judge(later_ms=3_000).verdict == "insufficient"
    assert silent.judge(later_ms=3_600_000).verdict == "insufficient"


def test_evidence_older_than_the_window_is_forgotten() -> None:
    sick = Telemetry().seconds(20, arm(10, 10), equal=100)
    assert sick.judge(window_s=60).verdict == "regression"
    assert sick.seconds(60, arm(10), equal=100).judge(window_s=60).verdict == "ok"


def test_what_lies_before_the_step_was_settled_does_not_count() -> None:
    early = Telemetry()
    early.second -= 20
    assert early.seconds(20, arm(0, 100), divergent=100).seconds(10, arm(10), equal=10).judge().verdict == "ok"


def test_when_flat_fails_as_often_going_back_would_not_help() -> None:
    both = Telemetry().seconds(10, arm(80, 20), arm(80, 20, "flat"), equal=100).judge()
    assert both.verdict == "insufficient"
    worse = Telemetry().seconds(10, arm(80, 20), arm(92, 8, "flat"), equal=100).judge()
    assert worse.verdict == "regression"


def test_in_the_shadow_phase_the_arm_is_flat_and_its_errors_are_no_regression() -> None:
    well = Telemetry().seconds(10, arm(100, system="flat"), equal=100)
    assert well.judge(percentage=0).verdict == "ok"
    sick = Telemetry().seconds(10, arm(50, 50, system="flat"), equal=100)
    assert sick.judge(percentage=0).verdict == "insufficient"


def test_quarantined_records_are_counted_since_the_walk_began() -> None:
    telemetry = Telemetry().seconds(10, arm(10), equal=10)
    telemetry.evidence.set_aside(T0 * 1000 - 1)
    telemetry.evidence.set_aside(T0 * 1000)
    assert telemetry.judge().verdict == "ok"
    telemetry.evidence.set_aside(T0 * 1000 + 1)
    assert telemetry.judge().verdict == "regression"


def test_a_record_set_aside_twice_is_one_and_what_users_sent_is_none() -> None:
    telemetry = Telemetry().seconds(10, arm(10), equal=10)
    for offset, topic in [(7, "neurons.changes"), (7, "neurons.changes"), (1, "requests"), (2, "requests")]:
        telemetry.evidence.quarantined(
            Quarantined(service="s", topic=topic, partition=0, offset=offset, reason="schema", at_ms=T0 * 1000)
        )
    assert telemetry.evidence.quarantined_since(T0 * 1000) == 1


@pytest.mark.parametrize(
    ("bad", "total", "bound", "said"),
    [
        (0, 0, 0.1, False),
        (0, 10, 0.0, False),
        (1, 10, 0.0, True),
        (10, 10, 0.05, True),
        (3, 40, 0.05, False),
        (20, 40, 0.05, True),
        (5, 100, 0.05, False),
    ],
)
def test_what_chance_hardly_explains(bad: int, total: int, bound: float, said: bool) -> None:
    assert improbable(bad, total, bound) is said
