"""The migrator's rules, one at a time, on a quiet stage."""

from typing import Any

import pytest

from hal9 import wire
from hal9.errors import Poison
from schemas.base import FLAT, HIERARCHICAL, decode, encode
from schemas.control import Backfill, Pin
from schemas.control import decoder as control_decoder
from schemas.reports import quarantined_decoder
from schemas.state import seal_decoder
from services.migrator.core import MigratorCore
from simulation.history import change_of
from simulation.stage import Stage, headers

LOW, HIGH = b"a0", b"a1"  # in the lower and in the upper half of the buckets


def migrator(stage: Stage) -> MigratorCore:
    core = next(r for r in reversed(stage.runtimes) if r.name.startswith("migrator")).core
    assert isinstance(core, MigratorCore)
    return core


def copies(stage: Stage, log: str) -> list[Any]:
    return [change_of(log, record).state for record in stage.records(log)]


def seals(stage: Stage, log: str) -> list[tuple[int, bool, int]]:
    found = (decode(seal_decoder, record.value) for record in stage.marks(log, wire.SEAL))
    return [(seal.route.epoch, seal.forced, seal.source) for seal in found]


def backfill(stage: Stage, percentage: float) -> None:
    record = Backfill(id="b", migration="hal9", actor="test", at_ms=stage.now_ms, percentage=percentage)
    stage.logs["control", 0].append(b"hal9", encode(record), (), stage.now_ms)


def test_a_change_is_copied_with_its_version_position_and_answer() -> None:
    stage = Stage("router", "flat", "migrator").run()
    stage.ask(LOW, "mut", b"x", name="one")
    stage.run()
    (source,), (copy,) = stage.records("neurons.changes"), stage.records("units.replica")
    assert copy.value == source.value
    assert headers(copy) == headers(source)  # the terms are both 0: each log's first claim


def test_what_is_copied_is_mapped_and_the_way_back_too() -> None:
    stage = Stage(
        "router",
        "flat",
        "hierarchical",
        "migrator",
        to_unit=lambda s: {**s, "unit": 1},
        to_neuron=lambda s: {**s, "n": 1},
    ).run()
    stage.ask(LOW, "mut", b"x")
    stage.run()
    assert copies(stage, "units.replica") == [{"applied": ["x"], "unit": 1}]
    stage.route(50)
    stage.run()
    stage.ask(LOW, "mut", b"y")
    stage.run()
    assert copies(stage, "neurons.replica") == [{"applied": ["x", "y"], "n": 1}]


def test_both_seals_are_copied_behind_the_changes_and_then_it_is_settled() -> None:
    stage = Stage("router", "flat", "hierarchical", "migrator").run()
    stage.ask(LOW, "mut", b"x")
    stage.run()
    epoch = stage.route(50)
    stage.run()
    (flat,), (hierarchical,) = stage.marks("neurons.changes", wire.SEAL), stage.marks("units.changes", wire.SEAL)
    assert seals(stage, "units.replica") == [(epoch, False, flat.offset)]
    assert seals(stage, "neurons.replica") == [(epoch, False, hierarchical.offset)]
    assert stage.records("units.replica")[0].offset < stage.marks("units.replica", wire.SEAL)[0].offset
    settled = stage.settled()[epoch]
    assert (settled.seals, settled.forced) == ({FLAT: flat.offset, HIERARCHICAL: hierarchical.offset}, [])


def test_nothing_is_settled_before_the_copies_were_read_back() -> None:
    stage = Stage("router", "flat", "hierarchical", "migrator").run()
    stage.held.add("neurons.replica")
    stage.route(50)
    stage.run()
    assert stage.settled() == {}
    stage.held.clear()
    assert list(stage.run().settled()) == [1]


def test_the_seal_of_a_slow_system_is_forced_after_three_seconds_and_not_before() -> None:
    stage = Stage("router", "flat", "migrator").run()
    stage.route(50)
    stage.run().pass_time(2_999)
    assert seals(stage, "units.changes") == []
    stage.pass_time(1)
    assert seals(stage, "units.changes") == [(1, True, -1)]
    assert stage.settled()[1].forced == [HIERARCHICAL]


def test_the_seals_of_a_dead_system_are_forced_at_once_the_lowest_epoch_first() -> None:
    stage = Stage("router", "flat", "migrator").run()
    for percentage in (50, 25):
        stage.route(percentage)
        stage.run()
    migrator(stage).dead = frozenset({HIERARCHICAL})
    stage.pass_time(1)
    assert seals(stage, "units.changes") == [(1, True, -1), (2, True, -1)]
    assert sorted(stage.settled()) == [1, 2]


def test_no_seal_is_forced_before_its_marker_is_in_dispatched() -> None:
    stage = Stage("flat", "migrator").run()
    stage.route(50)
    migrator(stage).dead = frozenset({HIERARCHICAL})
    stage.run().pass_time(5_000)
    assert seals(stage, "units.changes") == []


def test_the_first_seal_of_an_epoch_counts_also_when_it_was_forced() -> None:
    stage = Stage("router", "flat", "hierarchical", "migrator").run()
    stage.held.add("units.changes")
    stage.route(50)
    stage.run().pass_time(3_000)
    own, forced = (list(r.outgoing["units.changes", 0]) for r in stage.runtimes if ("units.changes", 0) in r.outgoing)
    assert len(own) == len(forced) == 1
    stage.held.clear()
    stage.run()
    first = stage.marks("units.changes", wire.SEAL)[0]
    assert seals(stage, "neurons.replica") == [(1, decode(seal_decoder, first.value).forced, first.offset)]


def test_what_was_written_before_the_migrator_came_is_copied_when_it_is_asked_for() -> None:
    stage = Stage("router", "flat")
    stage.ask(LOW, "mut", b"low")
    stage.ask(HIGH, "mut", b"high")
    stage.run()
    stage.start("migrator")
    stage.run().pass_time(100)
    assert copies(stage, "units.replica") == []
    backfill(stage, 50)
    stage.run().pass_time(100)
    assert copies(stage, "units.replica") == [{"applied": ["low"]}]
    assert migrator(stage).backfilled == 50


def test_the_cold_keys_that_move_are_copied_before_the_seal() -> None:
    stage = Stage("router", "flat", "hierarchical")
    stage.ask(LOW, "mut", b"low")
    stage.run()
    stage.start("migrator")
    stage.run()
    stage.route(50)
    stage.ask(LOW, "mut", b"more", name="one")
    stage.run().pass_time(100)
    (copy,), (seal,) = stage.records("units.replica"), stage.marks("units.replica", wire.SEAL)
    assert copy.offset < seal.offset
    assert stage.answers()[-1] == ("one", "ok")
    assert copies(stage, "units.changes") == [{"applied": ["low", "more"]}]


def test_cold_keys_that_a_prefix_moves_are_copied_before_the_seal_wherever_their_buckets_lie() -> None:
    stage = Stage("router", "flat", "hierarchical")
    stage.ask(HIGH, "mut", b"high")
    stage.run()
    stage.start("migrator")
    stage.run()
    stage.flag(f"prefixes.{HIGH.decode()}=hierarchical")
    stage.ask(HIGH, "mut", b"more", name="one")
    stage.run().pass_time(100)
    (copy,), (seal,) = stage.records("units.replica"), stage.marks("units.replica", wire.SEAL)
    assert copy.offset < seal.offset
    assert stage.answers()[-1] == ("one", "ok")
    assert copies(stage, "units.changes") == [{"applied": ["high", "more"]}]


def test_a_newer_change_is_not_overwritten_by_the_backfill() -> None:
    stage = Stage("router", "flat")
    stage.ask(LOW, "mut", b"x")
    stage.run()
    stage.start("migrator")
    stage.run()
    stage.ask(LOW, "mut", b"y")
    stage.run()
    backfill(stage, 100)
    stage.run().pass_time(100)
    assert copies(stage, "units.replica") == [{"applied": ["x", "y"]}]


def test_a_source_is_committed_when_its_copy_was_read_back() -> None:
    stage = Stage("router", "flat", "migrator").run()
    stage.held.add("units.replica")
    stage.ask(LOW, "mut", b"x")
    stage.run()
    (source,) = stage.records("neurons.changes")
    assert migrator(stage).commits()["neurons.changes"].offset == source.offset
    stage.held.clear()
    stage.run()
    assert migrator(stage).commits()["neurons.changes"].offset == source.offset + 1


def test_the_copy_of_a_seal_holds_the_commit_also_where_changes_are_cold() -> None:
    stage = Stage("router", "flat", "hierarchical")
    stage.route(50)
    stage.run()  # both seals lie in the change logs before the migrator comes
    (seal,) = stage.marks("neurons.changes", wire.SEAL)
    stage.held.add("units.replica")
    stage.start("migrator")
    stage.run()
    runtime = stage.runtimes[-1]
    for name in runtime.sending():  # only the claim lands, the copy of the seal does not
        runtime.land(name, stage.now_ms)
        runtime.deliver_ack(name, stage.now_ms)
    stage.run().pass_time(100)
    assert ("units.replica", 0) in runtime.sending()
    assert migrator(stage).commits()["neurons.changes"].offset <= seal.offset


def test_a_change_appended_again_holds_the_commit_while_the_copy_of_its_cold_original_is_on_its_way() -> None:
    stage = Stage("router", "flat")
    stage.ask(LOW, "mut", b"x")
    stage.run()
    stage.start("migrator")
    stage.run()
    stage.held.add("units.replica")
    backfill(stage, 100)
    stage.run().pass_time(100)  # the cold one is copied, and the copy does not land
    (cold,) = stage.records("neurons.changes")
    again = stage.logs["neurons.changes", 0].append(cold.key, cold.value, cold.headers, stage.now_ms)
    stage.run()
    assert migrator(stage).commits()["neurons.changes"].offset == again.offset
    stage.held.clear()
    stage.run()
    assert migrator(stage).commits()["neurons.changes"].offset == again.offset + 1
    assert copies(stage, "units.replica") == [{"applied": ["x"]}]


def test_a_successor_copies_nothing_twice_and_settles_what_was_left() -> None:
    stage = Stage("router", "flat", "hierarchical", "migrator").run()
    stage.ask(LOW, "mut", b"x")
    stage.run()
    stage.held.add("control")
    stage.route(50)
    stage.run()
    stage.runtimes[-1].crash()  # before any commit, and its `settled` is lost
    stage.runtimes[-1].outgoing.clear()
    stage.held.clear()
    stage.start("migrator")
    stage.run()
    assert len(stage.records("units.replica")) == 1
    assert len(seals(stage, "units.replica")) == 1
    assert list(stage.settled()) == [1]


def test_a_migrator_that_sees_another_claim_on_either_log_begins_again() -> None:
    stage = Stage("router", "flat", "migrator").run()
    stage.logs["neurons.replica", 0].append(wire.CLAIM + b"other", b"", ())
    stage.run()
    assert stage.runtimes[-1].restarts == ["another migrator claimed the partition"]
    stage.ask(LOW, "mut", b"x")
    stage.run()
    assert copies(stage, "units.replica") == [{"applied": ["x"]}]


def test_a_copy_is_appended_again_when_a_void_record_lies_after_it() -> None:
    stage = Stage("router", "flat", "migrator").run()
    stage.ask(LOW, "mut", b"x")
    stage.run()
    log = stage.logs["units.replica", 0]
    log.append(LOW, b"", [("version", b"1"), ("epoch", b"0"), ("term", b"-")])
    stage.run()
    log.compact(log.end)
    assert copies(stage, "units.replica") == [{"applied": ["x"]}]


def unmappable(state: dict[str, Any]) -> dict[str, Any]:
    if "bad" in state["applied"]:
        raise Poison("schema", "no unit can hold this")
    return state


def test_what_cannot_be_mapped_is_quarantined_and_its_key_pinned_where_it_is() -> None:
    stage = Stage("router", "flat", "hierarchical", "migrator", to_unit=unmappable).run()
    stage.ask(LOW, "mut", b"bad", name="one")
    stage.run().pass_time(100)
    (record,) = stage.records("quarantine", 0)
    found = decode(quarantined_decoder, record.value)
    assert (found.service, found.reason, found.key) == ("migrator", "schema", LOW)
    pins = [decode(control_decoder, record.value) for record in stage.logs["control", 0]]
    assert [pin.keys for pin in pins if isinstance(pin, Pin)] == [[LOW.decode()]]
    stage.route(100)
    stage.ask(LOW, "mut", b"more", name="two")
    stage.run().pass_time(100)
    assert stage.answers() == [("one", "ok"), ("two", "ok")]
    assert headers(stage.records("responses")[-1])["served-by"] == "flat"


def test_a_copy_larger_than_a_system_may_hold_is_quarantined_and_its_key_pinned_where_it_is() -> None:
    stage = Stage("router", "flat", "migrator", to_unit=lambda s: {**s, "padding": "x" * 400_000}).run()
    stage.ask(LOW, "mut", b"x")
    stage.run().pass_time(100)
    (record,) = stage.records("quarantine", 0)
    assert decode(quarantined_decoder, record.value).reason == "state-too-large"
    assert copies(stage, "units.replica") == [None]
    pins = [decode(control_decoder, record.value) for record in stage.logs["control", 0]]
    assert [(pin.keys, pin.system) for pin in pins if isinstance(pin, Pin)] == [([LOW.decode()], FLAT)]


def test_a_state_that_cannot_be_mapped_bars_the_other_system_from_going_on_from_an_older_one() -> None:
    stage = Stage("router", "flat", "hierarchical", "migrator").run()
    stage.ask(LOW, "mut", b"x", name="one")
    stage.run()
    stage.held.add("control")  # the pin comes too late: the route moves the key first
    stage.ask(LOW, "odd", b"y", name="two")
    stage.run().pass_time(100)
    stage.route(50)
    stage.run()
    (_, barrier) = stage.records("units.replica")
    assert (headers(barrier)["unmapped"], headers(barrier)["version"]) == ("odd", "2")
    stage.ask(LOW, "mut", b"z", name="three")
    stage.ask(LOW, "read", name="four")
    stage.run()
    assert stage.answers()[-2:] == [("three", "error", "quarantined"), ("four", "error", "quarantined")]
    stage.held.clear()
    stage.run().pass_time(100)  # the pin arrives: the key goes back to where its state is
    stage.ask(LOW, "mut", b"z", name="five")
    stage.run()
    assert stage.answers()[-1] == ("five", "ok")
    assert copies(stage, "neurons.changes")[-1] == {"applied": ["x", "y", "z"]}
    assert copies(stage, "units.replica")[-1] == {"applied": ["x", "y", "z"]}


def test_a_successor_pins_what_its_predecessor_could_not_map() -> None:
    stage = Stage("router", "flat", "migrator").run()
    stage.ask(LOW, "odd", b"x")
    stage.run()  # no time passes: the pin is not sent
    stage.runtimes[-1].crash()
    stage.start("migrator")
    stage.run().pass_time(100)
    assert migrator(stage).unmapped.codes == {LOW: "odd"}
    pins = [decode(control_decoder, record.value) for record in stage.logs["control", 0]]
    assert [(pin.keys, pin.system) for pin in pins if isinstance(pin, Pin)] == [([LOW.decode()], FLAT)]


@pytest.mark.parametrize("value", [None, b"\xc1", b""])
def test_garbage_in_a_change_log_stops_nothing(value: bytes | None) -> None:
    stage = Stage("router", "flat", "migrator").run()
    stage.logs["neurons.changes", 0].append(HIGH, value, [("term", b"0"), ("epoch", b"0")])
    stage.ask(LOW, "mut", b"x", name="one")
    stage.run()
    assert stage.answers() == [("one", "ok")]
    assert {"applied": ["x"]} in copies(stage, "units.replica")
