"""The one fold of `control`: any duplicates and stale commands make one state; a rollback is never refused wrongly."""

from types import MappingProxyType
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hal9.control.reducer import ControlState, fold
from hal9.control.route import Route
from hal9.keys import bucket_of
from schemas.base import encode
from schemas.control import (
    AnyControl,
    Backfill,
    Freeze,
    Journal,
    Phase,
    Pin,
    Rollback,
    Settled,
    Start,
)
from schemas.control import Route as RouteRecord

MIGRATION = "hal9"


class Log:
    """A control log in memory: appends, folds, remembers."""

    def __init__(self) -> None:
        self.records: list[bytes | None] = []
        self.state = ControlState(MIGRATION)
        self._id = 0

    def _append(self, kind: type[Any], **fields: Any) -> str:
        self._id += 1
        common = {"id": f"r{self._id}", "migration": MIGRATION, "actor": "somebody", "at_ms": self._id}
        return self.raw(encode(kind(**(common | fields))))

    def raw(self, value: bytes | None) -> str:
        self.records.append(value)
        return fold(self.state, len(self.records) - 1, value).verdict

    def start(self, **fields: Any) -> str:
        return self._append(
            Start, **({"expected_epoch": self.state.epoch, "partitions": 2, "plan": {"name": "p"}} | fields)
        )

    def route(self, percentage: float, **fields: Any) -> str:
        return self._append(RouteRecord, **({"expected_epoch": self.state.epoch, "percentage": percentage} | fields))

    def rollback(self, **fields: Any) -> str:
        return self._append(Rollback, **({"expected_epoch": self.state.epoch, "trigger": "manual"} | fields))

    def journal(self, state: str, phase: Phase = "canary", **fields: Any) -> str:
        entry = {"expected_entry": len(self.state.journal), "phase": phase, "step": 0, "state": state}
        return self._append(Journal, **(entry | fields))

    def freeze(self, **fields: Any) -> str:
        return self._append(Freeze, **({"expected_epoch": self.state.epoch, "trigger": "silence"} | fields))

    def pin(self, *keys: str) -> str:
        return self._append(Pin, keys=list(keys))

    def settled(self, partition: int, epoch: int) -> str:
        return self._append(Settled, partition=partition, epoch=epoch, seals={"flat": 1, "hierarchical": 2})

    def backfill(self, percentage: float) -> str:
        return self._append(Backfill, percentage=percentage)


def meaning(state: ControlState) -> tuple[object, ...]:
    """What a state says, apart from where in the log it was read."""
    return (
        state.epoch,
        state.route,
        [(e.epoch, e.route, e.record, e.phase, e.why) for e in state.history],
        state.phase,
        state.plan,
        state.partitions,
        state.frozen,
        state.rolled_back,
        state.backfill,
        state.settled,
        state.journal,
        state.started_entry,
    )


names = st.sampled_from(["a", "b", "c", "d"])
percentages = st.integers(0, 10_000).map(lambda n: n / 100)
phases = st.sampled_from([None, "shadow", "canary"])
epochs = st.integers(0, 6)


KINDS = [Start, RouteRecord, RouteRecord, Rollback, Pin, Settled, Freeze, Backfill, Journal]
ENTRIES = ["entered", "waiting", "routed", "passed", "failed", "finished"]
draws = st.tuples(
    st.sampled_from(KINDS),
    epochs,
    percentages,
    phases,
    names,
    st.one_of(st.none(), percentages),
    st.sampled_from(ENTRIES),
)


def records(drawn: list[tuple[Any, ...]]) -> list[AnyControl]:
    """Commands of all kinds, well aimed or stale."""
    return [one(f"r{number}", *fields) for number, fields in enumerate(drawn)]


def one(
    name: str,
    kind: type[Any],
    epoch: int,
    percentage: float,
    phase: Phase | None,
    key: str,
    shadow: float | None,
    entry: str,
) -> AnyControl:
    fields: dict[type[Any], dict[str, Any]] = {
        Start: {"expected_epoch": epoch, "partitions": 3, "plan": {}},
        RouteRecord: {"expected_epoch": epoch, "percentage": percentage, "phase": phase, "shadow": shadow},
        Rollback: {"expected_epoch": epoch, "trigger": "manual", "phase": phase},
        Pin: {"keys": [key]},
        Settled: {"partition": epoch % 3, "epoch": epoch, "seals": {"flat": 0}},
        Freeze: {"expected_epoch": epoch, "trigger": "silence"},
        Backfill: {"percentage": percentage},
        Journal: {"expected_entry": epoch, "phase": phase or "full", "step": 0, "state": entry},
    }
    record: AnyControl = kind(id=name, migration=MIGRATION, actor="x", at_ms=0, **fields[kind])
    return record


logs = st.lists(draws, min_size=1, max_size=25).map(records)


@given(logs, st.data())
def test_any_duplicates_and_stale_commands_fold_to_one_state(log: list[AnyControl], data: st.DataObject) -> None:
    clean, noisy = ControlState(MIGRATION), ControlState(MIGRATION)
    offset = 0
    for number, command in enumerate(log):
        verdict = fold(clean, number, encode(command)).verdict
        assert fold(noisy, offset, encode(command)).verdict == verdict
        offset += 1
        for repeated in data.draw(st.lists(st.sampled_from(log[: number + 1]), max_size=2)):
            assert fold(noisy, offset, encode(repeated)).verdict == "duplicate"
            offset += 1
        stale = RouteRecord(
            id=f"s{number}", migration=MIGRATION, actor="late", at_ms=0, expected_epoch=clean.epoch + 1, percentage=50.0
        )
        assert fold(noisy, offset, encode(stale)).verdict == "refused"
        foreign = msgspec.structs.replace(command, migration="other")
        assert fold(noisy, offset + 1, encode(foreign)).verdict == "foreign"
        offset += 2
    assert meaning(noisy) == meaning(clean)


@given(logs)
def test_the_epoch_counts_the_accepted_records_that_change_the_route(log: list[AnyControl]) -> None:
    state, changes = ControlState(MIGRATION), 0
    for offset, command in enumerate(log):
        outcome = fold(state, offset, encode(command))
        if outcome.verdict == "accepted":
            changes += isinstance(command, RouteRecord | Rollback | Pin)
        assert outcome.epoch == state.epoch == changes == len(state.history) - 1 == state.history[-1].epoch
        assert state.history[-1].route == state.route
    assert state.position == len(log)


@given(logs)
def test_a_rollback_from_the_present_epoch_is_accepted_in_every_state(log: list[AnyControl]) -> None:
    state = ControlState(MIGRATION)
    for offset, command in enumerate(log):
        fold(state, offset, encode(command))
    back = Rollback(
        id="now", migration=MIGRATION, actor="guard", at_ms=0, expected_epoch=state.epoch, trigger="error_rate"
    )
    before = state.route
    assert fold(state, len(log), encode(back)).verdict == "accepted"
    assert (state.route.bound, state.route.pins, state.rolled_back) == (0, before.pins, state.epoch)


@given(st.one_of(st.none(), st.binary(max_size=60)))
def test_no_bytes_raise_and_what_is_not_understood_freezes(value: bytes | None) -> None:
    state = ControlState(MIGRATION)
    if fold(state, 0, value).verdict == "unknown":
        assert "control record 0 is not understood" in (state.frozen or "")
        assert state.unknown == [0]


@pytest.mark.parametrize(
    "fields",
    [
        {"type": "teleport"},
        {"type": "route", "expected_epoch": 0, "percentage": 101},
        {"type": "route", "expected_epoch": 0, "percentage": float("nan")},
        {"type": "route", "expected_epoch": -1, "percentage": 5},
        {"type": "pin", "keys": []},
        {"type": "pin", "keys": ["x" * 257]},
        {"type": "start", "expected_epoch": 0, "partitions": 0, "plan": {}},
    ],
)
def test_a_record_of_a_newer_version_freezes_promotion_and_leaves_the_way_back(fields: dict[str, Any]) -> None:
    log = Log()
    assert log.route(5) == "accepted"
    common = {"id": "x", "migration": MIGRATION, "actor": "newer", "at_ms": 0}
    assert log.raw(encode(common | fields)) == "unknown"
    assert log.route(10) == "refused"
    assert log.route(1) == "accepted"
    assert log.rollback() == "accepted"


def test_hostile_nesting_is_unknown() -> None:
    log = Log()
    assert log.raw(b"\x81\xa4type" + b"\x91" * 100_000) == "unknown"


def test_a_promotion_that_raced_a_rollback_does_not_refuse_it() -> None:
    log = Log()
    log.route(5)
    evidence = log.state.epoch
    log.route(10)
    assert log.rollback(expected_epoch=evidence) == "accepted"
    assert (log.state.route.percentage, log.state.epoch) == (0, 3)


def test_a_rollback_is_refused_only_if_one_came_later_than_its_evidence() -> None:
    log = Log()
    log.route(5)
    assert log.rollback(expected_epoch=1) == "accepted"
    assert log.rollback(expected_epoch=1) == "refused"
    assert log.rollback(expected_epoch=9) == "refused"
    assert log.rollback(expected_epoch=2) == "accepted"
    assert log.state.epoch == 3


def test_a_rollback_latches_until_a_start() -> None:
    log = Log()
    log.start()
    log.journal("entered")
    log.route(5)
    log.rollback()
    assert log.route(5) == "refused"
    assert log.route(0) == "refused"
    assert log.journal("routed") == "refused"
    assert log.start() == "accepted"
    assert log.state.started_entry == 1
    assert log.route(5) == "accepted"


def test_a_rollback_keeps_what_is_pinned_and_what_is_shadowed() -> None:
    log = Log()
    log.route(100, shadow=100)
    log.pin("a")
    log.rollback()
    bucket = bucket_of("hal9/route", b"a")
    assert log.state.route.owner(bucket, "a") == "hierarchical"
    assert log.state.route.owner(bucket, "b") == "flat"
    assert log.state.route.shadow_bound == 10_000


def test_a_pin_holds_a_key_where_it_was_and_the_first_one_stands() -> None:
    log = Log()
    log.pin("a")
    log.route(100)
    log.pin("a", "b")
    assert log.state.route.pins == MappingProxyType({"a": "flat", "b": "hierarchical"})


def test_the_rollback_of_a_phase_goes_back_to_the_route_from_before_it() -> None:
    log = Log()
    log.start()
    log.route(0, shadow=100, phase="shadow")
    log.route(1, phase="canary")
    log.route(25, phase="canary", step=1)
    log.route(50, phase="ramp-up")
    assert log.rollback(phase="ramp-up") == "accepted"
    assert log.state.route.percentage == 25
    assert log.rollback(phase="canary") == "accepted"
    assert log.state.route.percentage == 0


@given(logs, phases)
def test_a_rollback_never_gives_hierarchical_more(log: list[AnyControl], phase: Phase | None) -> None:
    state = ControlState(MIGRATION)
    for offset, command in enumerate(log):
        fold(state, offset, encode(command))
    before = state.route.bound
    back = Rollback(
        id="now", migration=MIGRATION, actor="x", at_ms=0, expected_epoch=state.epoch, trigger="manual", phase=phase
    )
    fold(state, len(log), encode(back))
    assert state.route.bound <= before


def test_a_scope_this_version_does_not_know_is_refused_not_widened() -> None:
    log = Log()
    log.route(5)
    assert log.rollback(scope={"bucket": 3}) == "refused"
    assert "layer" in log.state.refusals[-1][1]


def test_a_freeze_stops_promotion_only_and_a_start_lifts_it() -> None:
    log = Log()
    log.start()
    log.route(5)
    assert log.freeze(reason="no telemetry") == "accepted"
    assert log.route(10) == "refused"
    assert log.route(5) == "accepted"
    assert log.start() == "accepted"
    assert log.state.frozen is None
    assert log.route(10) == "accepted"
    assert log.freeze(expected_epoch=log.state.epoch + 1) == "refused"


def test_a_start_while_a_migration_is_under_way_is_refused() -> None:
    log = Log()
    assert log.start(expected_epoch=1) == "refused"
    assert log.start() == "accepted"
    assert log.start() == "refused"
    log.journal("finished")
    assert log.start() == "accepted"


def test_the_journal_is_compare_and_set_so_only_one_orchestrator_walks() -> None:
    log = Log()
    log.start()
    assert log.journal("entered", expected_entry=0, actor="one") == "accepted"
    assert log.journal("entered", expected_entry=0, actor="two") == "refused"
    assert log.journal("waiting", expected_entry=1, actor="two") == "accepted"
    assert [e.actor for e in log.state.journal] == ["one", "two"]


def test_settled_everywhere_needs_every_partition_and_a_later_epoch_does() -> None:
    log = Log()
    log.route(1)
    log.route(5)
    assert log.settled(0, 3) == "refused"
    log.settled(0, 1)
    assert not log.state.settled_everywhere(1, 2)
    log.settled(1, 2)
    assert log.state.settled_everywhere(1, 2)
    assert not log.state.settled_everywhere(2, 2)
    log.settled(0, 2)
    assert log.state.settled_everywhere(2, 2)
    assert not log.state.settled_everywhere(2, 3)


def test_the_first_settled_of_a_partition_and_epoch_stands() -> None:
    log = Log()
    log.route(1)
    log.settled(0, 1)
    log.settled(0, 1)
    assert log.state.settled[0][1].id == "r2"


def test_backfill_only_grows_until_a_start() -> None:
    log = Log()
    log.backfill(10)
    log.backfill(5)
    assert log.state.backfill == 10
    log.start()
    assert log.state.backfill == 0


def test_a_percentage_is_a_bound_over_the_buckets() -> None:
    log = Log()
    log.route(0.01)
    assert log.state.route == Route(1)
    log.route(33.33)
    assert log.state.route == Route(3333)
    assert repr(log.state) == "<ControlState epoch 2, 33.33 %, phase None>"
