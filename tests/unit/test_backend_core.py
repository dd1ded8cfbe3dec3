"""A system's rules, one at a time, on a quiet stage."""

from typing import Any

import pytest

from hal9 import wire
from hal9.backend.core import BackendCore
from hal9.testing.runtime import MemoryRuntime
from simulation.applied import answered
from simulation.history import change_of
from simulation.stage import Stage, headers

KEY = b"a0"  # in the lower half of the buckets
EVERYBODY = ("router", "flat", "hierarchical", "migrator")


def system(stage: Stage, name: str) -> MemoryRuntime:
    return next(r for r in reversed(stage.runtimes) if r.name.startswith(name))


def states(stage: Stage, log: str = "neurons.changes") -> list[Any]:
    return [change_of(log, record).state for record in stage.records(log)]


def dispatch(stage: Stage, position: int, value: bytes, *, epoch: int = 0, after: int = 0, term: int = 0) -> None:
    fields = [
        (wire.ID, value),
        (wire.OPERATION, b"mut"),
        (wire.DEADLINE, b"%d" % (stage.now_ms + 60_000)),
        (wire.POSITION, b"0:%d" % position),
        (wire.EPOCH, b"%d" % epoch),
        (wire.PRIMARY, b"flat"),
        (wire.AFTER_SEAL, b"%d" % after),
        (wire.TERM, b"%d" % term),
    ]
    stage.logs["dispatched", 0].append(KEY, value, fields)


def test_a_change_carries_version_position_and_answer() -> None:
    stage = Stage("router", "flat")
    stage.ask(KEY, "mut", b"x", name="one")
    stage.ask(KEY, "err", b"y", name="two")
    stage.run()
    first, second = (headers(record) for record in stage.records("neurons.changes"))
    assert first == {
        "version": "1", "epoch": "0", "term": "0", "origin": "flat", "position": "0:0", "answer-status": "ok",
    }  # fmt: skip
    assert (second["version"], second["answer-status"], second["answer-error"]) == ("2", "error", "refused")
    assert states(stage) == [{"applied": ["x"]}, {"applied": ["x"]}]


def test_a_position_is_applied_once_and_answered_again_from_what_is_kept() -> None:
    stage = Stage("flat").run()
    dispatch(stage, 0, b"x")
    dispatch(stage, 1, b"y")
    dispatch(stage, 0, b"x")
    stage.run()
    assert states(stage)[-1] == {"applied": ["x", "y"]}
    assert [answered(record.value) for record in stage.records("responses.flat")] == [["x"], ["x", "y"], ["x"]]


def test_a_successor_answers_from_the_log_what_was_applied() -> None:
    stage = Stage("flat")
    dispatch(stage, 0, b"x")
    stage.run()
    stage.runtimes[0].crash()
    stage.start("flat")
    stage.run()
    assert len(stage.records("neurons.changes")) == 1
    assert [answered(record.value) for record in stage.records("responses.flat")] == [["x"], ["x"]]


def test_a_position_whose_answer_is_forgotten_is_answered_timeout_and_never_executed() -> None:
    stage = Stage("flat").run()
    dispatch(stage, 0, b"x")
    dispatch(stage, 1, b"y")
    stage.run().pass_time(76_000)
    dispatch(stage, 0, b"x")
    stage.run()
    assert headers(stage.records("responses.flat")[-1])["status"] == "timeout"
    assert states(stage)[-1] == {"applied": ["x", "y"]}


def test_a_read_too_is_answered_only_when_the_changes_it_rests_on_were_read_back() -> None:
    stage = Stage("router", "flat").run()
    stage.held.add("neurons.changes")
    stage.ask(KEY, "mut", b"x", name="change")
    stage.ask(KEY, "read", name="read")
    stage.run()
    assert stage.records("responses.flat") == []
    stage.held.clear()
    stage.run()
    assert stage.answers() == [("change", "ok"), ("read", "ok")]


def test_an_own_change_found_void_is_not_answered_and_the_partition_is_rebuilt() -> None:
    stage = Stage("router", "flat").run()
    stage.held.add("neurons.changes")
    stage.ask(KEY, "mut", b"x", name="one")
    stage.run()
    stage.logs["neurons.changes", 0].append(wire.CLAIM + b"somebody", b"", ())
    stage.held.clear()
    stage.run()
    assert len(system(stage, "flat").restarts) == 1
    assert states(stage) == [{"applied": ["x"]}, {"applied": ["x"]}]  # the void one, and the one of the new term
    assert stage.answers() == [("one", "ok")]
    core = system(stage, "flat").core
    assert isinstance(core, BackendCore)
    assert core.store.states[KEY].state == {"applied": ["x"]}
    assert core.idle()


def test_a_zombie_that_sees_the_claim_of_its_successor_stops() -> None:
    stage = Stage("flat").run()
    stage.start("flat")
    dispatch(stage, 0, b"x")
    stage.run()
    assert [runtime.alive for runtime in stage.runtimes] == [False, True]
    assert {headers(r)["term"] for r in stage.records("neurons.changes")} >= {"1"}


def test_a_state_is_appended_again_when_a_void_record_lies_after_it() -> None:
    stage = Stage("flat").run()
    dispatch(stage, 0, b"x")
    stage.run()
    stage.logs["neurons.changes", 0].append(wire.CLAIM + b"next", b"", ())
    log = stage.logs["neurons.changes", 0]
    log.append(KEY, b"", [("version", b"1"), ("epoch", b"0"), ("term", b"0"), ("position", b"0:0")])
    stage.run()
    log.compact(log.end)
    (record,) = stage.records("neurons.changes")
    assert headers(record)["version"] == "1"
    assert states(stage) == [{"applied": ["x"]}]


def test_a_seal_is_sent_when_all_that_precedes_its_marker_was_executed() -> None:
    stage = Stage("router", "flat").run()
    stage.route(50)
    stage.run()
    assert len(stage.marks("neurons.changes", wire.SEAL)) == 1
    stage.route(0)
    stage.ask(KEY, "mut", b"x", name="waits")  # flat owns it again, but only after the seal that hierarchical owes
    stage.run()
    stage.route(50)
    stage.run()
    sealed = [record.key for record in stage.marks("neurons.changes", wire.SEAL)]
    assert [key.split(b"/")[1] for key in sealed if key] == [b"1", b"2"]


def test_each_seal_has_its_own_key_so_that_compaction_keeps_the_one_that_counts() -> None:
    stage = Stage(*EVERYBODY).run()
    stage.held.add("units.changes")
    stage.route(50)
    stage.run().pass_time(3_000)  # hierarchical is slow: its seal is forced, and its own comes too
    stage.held.clear()
    stage.run()
    seals = stage.marks("units.changes", wire.SEAL)
    assert len(seals) == 2
    stage.logs["units.changes", 0].compact(100)
    assert stage.marks("units.changes", wire.SEAL) == seals


def test_a_request_of_a_moved_key_waits_for_the_seal_and_others_flow_on() -> None:
    stage = Stage("router", "flat", "hierarchical")
    stage.ask(KEY, "mut", b"x", name="before")
    stage.run()
    stage.route(50)
    stage.ask(KEY, "mut", b"y", name="moved")
    stage.ask(b"a1", "mut", b"z", name="other")
    stage.run()
    assert stage.answers() == [("before", "ok"), ("other", "ok")]
    stage.start("migrator")
    stage.run()
    assert stage.answers()[-1] == ("moved", "ok")
    assert states(stage, "units.changes") == [{"applied": ["x", "y"]}]


def test_what_a_seal_voids_already_is_passed_over_without_an_answer() -> None:
    stage = Stage("router", "flat", "hierarchical", "migrator").run()
    stage.route(50)
    stage.run()
    dispatch(stage, 5, b"late", epoch=0, term=0)
    stage.run()
    assert stage.records("neurons.changes") == []
    assert stage.records("responses.flat") == []


def test_a_shadow_runs_on_the_state_before_the_change_of_its_position() -> None:
    stage = Stage(*EVERYBODY)
    stage.route(0, shadow=100)
    stage.run()
    for name in ("x", "y"):
        stage.ask(KEY, "mut", name.encode(), name=name)
    stage.ask(KEY, "read", name="read")
    stage.ask(KEY, "err", name="err")
    stage.run()
    shadows = [record for record in stage.records("responses.hierarchical") if headers(record)["role"] == "shadow"]
    found = {(h := headers(record))["id"]: (h["status"], h.get("state-diff"), record.value) for record in shadows}
    primary = {headers(record)["id"]: record.value for record in stage.records("responses.flat")}
    assert {name: value for name, (_, _, value) in found.items()} == primary
    assert {name: (status, diff) for name, (status, diff, _) in found.items()} == {
        "x": ("ok", "[]"), "y": ("ok", "[]"), "read": ("ok", None), "err": ("error", None),
    }  # fmt: skip
    assert stage.records("divergences") == []
    assert stage.records("units.changes") == []


def test_a_shadow_that_gets_no_state_by_its_deadline_is_incomparable() -> None:
    stage = Stage("router", "hierarchical")
    stage.route(0, shadow=100)
    stage.run()
    stage.ask(KEY, "mut", b"x", name="one")
    stage.run().pass_time(60_000)
    (record,) = stage.records("responses.hierarchical")
    assert (headers(record)["status"], headers(record)["error"]) == ("error", "incomparable")


class Careless:
    read_only = frozenset({"read"})

    def __call__(self, state: Any, operation: str, value: bytes) -> Any:  # noqa: PLR0911  one way to be wrong per case
        match operation:
            case "raise":
                raise ZeroDivisionError("of all things")
            case "nothing":
                return None
            case "text":
                return state, "text"
            case "state":
                return [1], b""
            case "tree":
                return {"x": object()}, b""
            case "huge":
                return {"x": b"x" * (400 * 1024)}, b""
            case "long":
                return state, b"x" * (257 * 1024)
        return {"v": value.decode()}, value


@pytest.mark.parametrize(
    ("operation", "code"),
    [
        ("raise", "handler-failed"),
        ("nothing", "handler-failed"),
        ("text", "handler-failed"),
        ("state", "bad-state"),
        ("tree", "bad-state"),
        ("huge", "state-too-large"),
        ("long", "answer-too-large"),
    ],
)
def test_whatever_a_handler_does_is_an_error_that_changes_nothing(operation: str, code: str) -> None:
    stage = Stage("router", "flat", handler=Careless())
    stage.ask(KEY, "set", b"x", name="before")
    stage.ask(KEY, operation, name="bad")
    stage.ask(KEY, "set", b"y", name="after")
    stage.run()
    assert stage.answers() == [("before", "ok"), ("bad", "error", code), ("after", "ok")]
    assert states(stage) == [{"v": "x"}, {"v": "x"}, {"v": "y"}]


def test_a_commit_waits_for_the_acknowledged_response_and_for_the_seal_of_a_marker() -> None:
    stage = Stage("router", "flat").run()
    core = system(stage, "flat").core
    stage.held.add("responses.flat")
    stage.ask(KEY, "mut", b"x", name="one")
    stage.run()
    assert core.commits()["dispatched"].offset == 2
    stage.held = {"neurons.changes"}
    stage.route(50)
    stage.run()
    assert core.commits()["dispatched"].offset == 3
    stage.held.clear()
    stage.run()
    assert core.commits()["dispatched"].offset == 4


def test_a_deletion_is_a_nil_state_first_and_a_null_value_when_its_answer_is_old() -> None:
    stage = Stage("router", "flat")
    stage.ask(KEY, "mut", b"x", name="one")
    stage.ask(KEY, "del", name="two")
    stage.run()
    assert [record.value is None for record in stage.records("neurons.changes")] == [False, False]
    stage.pass_time(75_000).pass_time(1_000)
    assert len(stage.records("neurons.changes")) == 2, "a successor would read its request again"
    for _ in range(2):  # the last commit may not be stored yet
        stage.runtimes[-1].commit()
    stage.pass_time(1_000)
    last = stage.records("neurons.changes")[-1]
    assert (last.value, headers(last)["version"]) == (None, "2")


def test_records_nobody_can_read_are_quarantined_and_the_next_one_counts() -> None:
    stage = Stage("flat").run()
    stage.logs["dispatched", 0].append(KEY, b"x", [(wire.TERM, b"0"), (wire.EPOCH, b"0")])
    dispatch(stage, 0, b"x")
    stage.run()
    assert len(stage.records("quarantine", 0)) == 1
    assert len(stage.records("responses.flat")) == 1
