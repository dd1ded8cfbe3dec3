"""The stages of a hand-over, timed as the migrator sees them, and what one that hangs waits for."""

from schemas.base import FLAT, HIERARCHICAL
from services.migrator.core import MigratorCore
from services.migrator.stages import Stages
from simulation.stage import Stage


def gone_through(stages: Stages, epoch: int, start_ms: float) -> dict[str, int]:
    stages.decided(epoch, start_ms)
    stages.marked(epoch, start_ms + 5)
    stages.sealed(FLAT, epoch, start_ms + 7)
    stages.sealed(HIERARCHICAL, epoch, start_ms + 30)
    return stages.copied(epoch, start_ms + 40)


def waits(stages: Stages, now_ms: float, *, backfilling: bool = False) -> tuple[int, str, int] | None:
    found = stages.waits(now_ms, backfilling=backfilling)
    return None if found is None else (found.epoch, found.waits_for, found.for_ms)


def test_each_stage_is_counted_from_the_decision() -> None:
    stages = Stages()
    took = gone_through(stages, 4, 1_000.0)
    assert took == {"marker": 5, "seal.flat": 7, "seal.hierarchical": 30, "copied": 40}
    assert stages.finished == []
    stages.settled(4, 1_050.0)
    assert dict(stages.finished) == {
        "marker": 0.005,
        "seal.flat": 0.007,
        "seal.hierarchical": 0.03,
        "copied": 0.04,
        "settled": 0.05,
    }
    assert waits(stages, 2_000.0) is None


def test_a_hand_over_that_hangs_says_what_it_waits_for_and_since_when() -> None:
    stages = Stages()
    assert waits(stages, 0.0) is None
    stages.decided(4, 1_000.0)
    assert waits(stages, 1_500.0) == (4, "the router's marker", 500)
    stages.marked(4, 2_000.0)
    assert waits(stages, 2_001.0) == (4, "the seal of flat", 1)
    stages.sealed(FLAT, 4, 2_010.0)
    assert waits(stages, 4_110.0) == (4, "the seal of hierarchical", 2_100)
    stages.sealed(HIERARCHICAL, 4, 5_000.0)
    assert waits(stages, 5_010.0) == (4, "the copies to be read back", 10)
    assert waits(stages, 5_010.0, backfilling=True) == (4, "the backfill of the buckets that move", 10)
    stages.copied(4, 6_000.0)
    assert waits(stages, 6_001.0) == (4, "settled to be read on control", 1)


def test_a_marker_stands_for_the_epochs_before_it_that_have_none() -> None:
    stages = Stages()
    for epoch in (1, 2, 3):
        stages.decided(epoch, epoch * 100.0)
    stages.marked(1, 350.0)
    stages.marked(3, 400.0)
    stages.settled(1, 410.0)
    assert waits(stages, 420.0) == (3, "the seal of flat", 20)


def test_what_settled_without_this_migrator_is_not_counted() -> None:
    stages = Stages()
    stages.decided(2, 0.0)
    stages.settled(2, 10.0)
    assert (stages.finished, waits(stages, 20.0)) == ([], None)


def test_all_partitions_together_are_counted_once() -> None:
    stages = Stages()
    stages.everywhere(0, settled=True, now_ms=0.0)
    stages.everywhere(1, settled=False, now_ms=10.0)
    stages.everywhere(1, settled=False, now_ms=200.0)
    stages.everywhere(1, settled=True, now_ms=510.0)
    stages.everywhere(1, settled=True, now_ms=600.0)
    assert stages.finished == [("everywhere", 0.5)]


def test_a_real_hand_over_leaves_its_times_on_control() -> None:
    stage = Stage("router", "flat", "hierarchical", "migrator")
    stage.route(50)
    stage.run()
    (settled,) = stage.settled().values()
    assert set(settled.took_ms) == {"marker", "seal.flat", "seal.hierarchical", "copied"}
    (core,) = [runtime.core for runtime in stage.runtimes if isinstance(runtime.core, MigratorCore)]
    assert core.handing_over(0.0) is None
    assert {name for name, _ in core.handovers.stages.finished} >= {"marker", "copied", "settled", "everywhere"}
