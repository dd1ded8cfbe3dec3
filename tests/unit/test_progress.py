"""How a migration stands, from the log and the heartbeats; a preview changes nothing."""

from hal9.control.progress import preview, progress
from hal9.control.reducer import ControlState, fold
from schemas.base import encode
from schemas.control import AnyControl, Freeze, Journal, Pin, Rollback, Route, Settled, Start
from schemas.telemetry import HandOver, Status


def state_of(*records: AnyControl) -> ControlState:
    state = ControlState("m")
    for offset, record in enumerate(records):
        outcome = fold(state, offset, encode(record))
        assert outcome.verdict == "accepted", outcome
    return state


def start(expected: int = 0, name: str = "s") -> Start:
    return Start(
        id=f"{name}{expected}", migration="m", actor="me", at_ms=1, expected_epoch=expected, partitions=2, plan={}
    )


def route(percentage: float, expected: int) -> Route:
    return Route(id=f"r{expected}", migration="m", actor="me", at_ms=1, expected_epoch=expected, percentage=percentage)


def rollback(expected: int) -> Rollback:
    return Rollback(
        id=f"b{expected}", migration="m", actor="me", at_ms=1, expected_epoch=expected, trigger="manual", reason="why"
    )


def settled(partition: int, epoch: int) -> Settled:
    return Settled(
        id=f"t{partition}/{epoch}", migration="m", actor="x", at_ms=1, partition=partition, epoch=epoch, seals={}
    )


def router(name: str, **epochs: int) -> Status:
    numbered = {int(partition[1:]): epoch for partition, epoch in epochs.items()}
    return Status(instance=name, service="router", at_ms=0, epochs=numbered, in_flight=2, waiting=1)


def test_before_the_start_nothing_is_known() -> None:
    found = progress(ControlState("m"), [], 2)
    assert (found.standing, found.epoch, found.intended, found.effective, found.backfilled) == (
        "not started",
        0,
        0.0,
        0.0,
        None,
    )
    assert found.services == {}


def test_effective_is_what_the_partitions_have_settled() -> None:
    state = state_of(start(), route(10, 0), route(25, 1), settled(0, 2), settled(1, 1))
    found = progress(state, [router("r1", p0=2), router("r2", p1=1)], 2)
    assert (found.standing, found.intended, found.effective) == ("running", 25, 17.5)
    assert (found.acknowledged, found.settled) == (1, 1)
    assert (found.in_flight, found.waiting, found.services) == (4, 2, {"router": 2})


def test_a_hand_over_under_way_says_what_it_waits_for() -> None:
    state = state_of(start(), route(10, 0), settled(0, 1))
    waits = HandOver(epoch=1, waits_for="the seal of hierarchical", for_ms=2_140)
    migrator = Status(instance="m1", service="migrator", at_ms=0, handing_over={1: waits})
    assert progress(state, [migrator], 3).hand_over == {
        1: "waits for the seal of hierarchical since 2.1 s (epoch 1)",
        2: "no migrator speaks for it",
    }
    assert progress(state, [migrator], 1).hand_over == {}


def test_the_least_backfilled_partition_counts() -> None:
    state = state_of(start())
    migrators = [
        Status(instance="m1", service="migrator", at_ms=0, backfilled={0: 5.0}),
        Status(instance="m2", service="migrator", at_ms=0, backfilled={1: 1.0}),
    ]
    assert progress(state, migrators, 2).backfilled == 1.0
    assert progress(state, migrators, 3).backfilled == 0.0


def test_standings() -> None:
    journal = Journal(
        id="j",
        migration="m",
        actor="o",
        at_ms=1,
        expected_entry=0,
        phase="canary",
        step=3,
        state="finished",
        percentage=25,
    )
    freeze = Freeze(id="f", migration="m", actor="g", at_ms=1, expected_epoch=0, trigger="silence", reason="quiet")
    assert progress(state_of(start(), journal), [], 1).standing == "finished"
    assert progress(state_of(start(), journal), [], 1).step == "canary step 3 (25 %): finished"
    frozen = progress(state_of(start(), freeze), [], 1)
    assert (frozen.standing, frozen.reason) == ("frozen", "quiet")
    back = progress(state_of(start(), route(10, 0), rollback(1)), [], 1)
    assert (back.standing, back.reason, back.intended, back.epoch) == ("rolled back", "why", 0.0, 2)
    again = progress(state_of(start(), route(10, 0), rollback(1), start(2, "again")), [], 1)
    assert (again.standing, again.step) == ("running", "")


def test_a_preview_says_what_would_come_and_leaves_everything_as_it_is() -> None:
    pin = Pin(id="p", migration="m", actor="x", at_ms=1, keys=["a"])
    state = state_of(start(), route(100, 0), pin, settled(0, 2))
    before = repr((state, state.ids, state.settled, state.journal, state.refusals, state.history))
    outcome, after = preview(state, rollback(2))
    assert (outcome.verdict, outcome.epoch, after.route.percentage) == ("accepted", 3, 0.0)
    assert after.route.pins == {"a": "hierarchical"}
    assert preview(state, route(50, 1))[0].verdict == "refused"
    preview(state, settled(1, 2))
    preview(state, settled(0, 1))
    assert repr((state, state.ids, state.settled, state.journal, state.refusals, state.history)) == before


def test_a_plan_that_does_not_go_on_says_why() -> None:
    alive = [Status(instance="o", service="orchestrator", at_ms=0, holding=["fewer than 300 requests"])]
    assert progress(state_of(start()), alive, 2).holding == ["fewer than 300 requests"]
    assert progress(state_of(start(), rollback(0)), alive, 2).holding == []
