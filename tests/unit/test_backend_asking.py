"""A handler that is somewhere else: asked ahead, executed when the answer comes, on the state that was asked about."""

from collections.abc import Sequence
from typing import Any

from hal9 import wire
from hal9.backend.core import BackendCore
from hal9.backend.execution import run
from hal9.backend.handler import Item, Missing, Outcome, as_batch
from hal9.log.effects import Call
from schemas.base import encode
from simulation.applied import AppliedHandler, answered
from simulation.history import change_of
from simulation.stage import Stage, headers

KEYS = (b"a0", b"a1", b"c0")
EVERYBODY = ("router", "flat", "hierarchical", "migrator")


class Elsewhere:
    """Keeps what it was asked; `hangs` names values that take too long."""

    def __init__(self) -> None:
        self.handler = as_batch(AppliedHandler())
        self.asked: list[list[Item]] = []
        self.reached = True
        self.hangs: set[bytes] = set()

    def __call__(self, call: Call) -> Sequence[Outcome]:
        items = list(call.items)
        self.asked.append(items)
        if not self.reached:
            return [Missing.UNREACHED] * len(items)
        if any(value in self.hangs for _, _, value in items):
            return [Missing.SLOW] * len(items)
        return run(self.handler, items)


def staged(*services: str) -> tuple[Stage, Elsewhere]:
    elsewhere = Elsewhere()
    return Stage(*services, calling=elsewhere, remote=True).run(), elsewhere


def dispatch(stage: Stage, position: int, key: bytes, value: bytes, deadline_ms: int = 60_000) -> None:
    fields = [
        (wire.ID, b"i%d" % position),
        (wire.OPERATION, b"mut"),
        (wire.DEADLINE, b"%d" % (stage.now_ms + deadline_ms)),
        (wire.POSITION, b"0:%d" % position),
        (wire.EPOCH, b"0"),
        (wire.PRIMARY, b"flat"),
        (wire.AFTER_SEAL, b"0"),
        (wire.TERM, b"0"),
    ]
    stage.logs["dispatched", 0].append(key, value, fields)


def responses(stage: Stage) -> list[tuple[str, str, str]]:
    found = [headers(record) for record in stage.records("responses.flat")]
    return [(h["id"], h["status"], h.get("error", "")) for h in found]


def states(stage: Stage) -> list[Any]:
    return [change_of("neurons.changes", record).state for record in stage.records("neurons.changes")]


def flat(stage: Stage) -> BackendCore:
    core = next(r for r in stage.runtimes if r.name.startswith("flat")).core
    assert isinstance(core, BackendCore)
    return core


def test_it_is_asked_in_batches_of_different_keys_and_each_key_in_order() -> None:
    stage, elsewhere = staged("flat")
    for number in range(9):
        dispatch(stage, number, KEYS[number % 3], b"%d" % (number // 3))
    stage.run()
    assert [len(items) for items in elsewhere.asked] == [3, 3, 3]
    assert states(stage)[-3:] == [{"applied": ["0", "1", "2"]}] * 3
    assert responses(stage) == [(f"i{number}", "ok", "") for number in range(9)]
    assert flat(stage).asking is not None


def test_while_it_is_not_reached_nothing_is_applied_and_nothing_is_answered() -> None:
    stage, elsewhere = staged("flat")
    elsewhere.reached = False
    for number, key in enumerate(KEYS):
        dispatch(stage, number, key, b"x")
    stage.run().pass_time(300).pass_time(300)
    assert responses(stage) == []
    assert stage.records("neurons.changes") == []
    assert [len(items) for items in elsewhere.asked] == [3, 1, 1], "one request alone is the probe"
    assert flat(stage).commits()["dispatched"].offset == 0
    elsewhere.reached = True
    stage.pass_time(300)
    assert sorted(responses(stage)) == [("i0", "ok", ""), ("i1", "ok", ""), ("i2", "ok", "")]
    assert [len(items) for items in elsewhere.asked[3:]] == [1, 2], "and then more and more again"


def test_what_could_not_be_asked_until_its_deadline_is_given_up_and_never_applied() -> None:
    stage, elsewhere = staged("flat")
    elsewhere.reached = False
    dispatch(stage, 0, b"a0", b"x", deadline_ms=1_000)
    dispatch(stage, 1, b"a0", b"y")
    stage.run().pass_time(900)
    assert responses(stage) == []
    stage.pass_time(300)
    assert responses(stage) == [("i0", "timeout", "handler-unreachable")]
    elsewhere.reached = True
    stage.pass_time(300)
    assert responses(stage)[1:] == [("i1", "ok", "")]
    assert states(stage) == [None, {"applied": ["y"]}], "a version that changes nothing says so"


def test_a_request_that_hangs_its_handler_ends_alone_in_a_batch_and_fails_alone() -> None:
    stage, elsewhere = staged("flat")
    elsewhere.hangs = {b"bad"}
    for number, value in enumerate((b"good", b"bad", b"fine")):
        dispatch(stage, number, KEYS[number], value)
    stage.run()
    assert sorted(responses(stage)) == [("i0", "ok", ""), ("i1", "error", "handler-timeout"), ("i2", "ok", "")]
    assert [[value for _, _, value in items] for items in elsewhere.asked][:2] == [
        [b"good", b"bad", b"fine"],
        [b"good"],
    ]
    assert [b"bad"] in [[value for _, _, value in items] for items in elsewhere.asked]
    assert [state for state in states(stage) if state] == [{"applied": ["good"]}, {"applied": ["fine"]}]


def test_a_seal_waits_for_what_was_asked_before_its_marker() -> None:
    stage, _ = staged(*EVERYBODY)
    stage.held.add("calls")
    stage.ask(b"a0", "mut", b"x", name="one")
    stage.run()
    epoch = stage.route(100)
    stage.run()
    assert stage.marks("neurons.changes", wire.SEAL) == []
    stage.held.clear()
    stage.run()
    kinds = [(record.key or b"")[:5] for record in stage.logs["neurons.changes", 0]]
    assert kinds == [b"\0clai", b"a0", b"\0seal"]
    assert epoch in stage.settled()
    assert stage.answers() == [("one", "ok")]


def test_a_call_left_open_across_a_forced_seal_is_not_executed_and_the_new_owner_answers() -> None:
    stage, _ = staged(*EVERYBODY)
    stage.held.add("calls")
    stage.ask(b"a0", "mut", b"x", name="one")
    stage.run()
    stage.route(100)
    stage.run().pass_time(3_100)
    assert stage.marks("neurons.changes", wire.SEAL), "the migrator forced it"
    stage.held.clear()
    stage.run()
    assert stage.answers() == [("one", "ok")]
    valid = [change_of("units.changes", record).state for record in stage.records("units.changes")]
    assert valid == [{"applied": ["x"]}]
    assert flat(stage).store.states[b"a0"].state == {"applied": ["x"]}, "replicated, once"


def test_a_result_on_a_state_that_has_gone_by_is_thrown_away_and_asked_for_again() -> None:
    stage, elsewhere = staged("flat")
    stage.held.add("calls")
    dispatch(stage, 9, b"a0", b"y")
    stage.run()
    replicated = [(wire.VERSION, b"1"), (wire.EPOCH, b"0"), (wire.TERM, b"0"), (wire.ORIGIN, b"hierarchical")]
    stage.logs["neurons.replica", 0].append(b"a0", encode({"state": {"applied": ["x"]}}), replicated, stage.now_ms)
    stage.run()
    stage.held.clear()
    stage.run()
    assert [items[0][0] for items in elsewhere.asked] == [None, {"applied": ["x"]}]
    assert states(stage) == [{"applied": ["x", "y"]}]
    assert [answered(record.value) for record in stage.records("responses.flat")] == [["x", "y"]]


def test_shadows_are_asked_about_beside_the_primaries_and_are_incomparable_when_that_fails() -> None:
    stage, elsewhere = staged(*EVERYBODY)
    stage.route(0, shadow=100)
    stage.run()
    stage.ask(b"a0", "mut", b"x", name="one")
    stage.run()
    found = headers(stage.records("responses.hierarchical")[0])
    assert (found["role"], found["status"]) == ("shadow", "ok")
    elsewhere.hangs = {b"y"}
    stage.ask(b"a0", "mut", b"y", name="two")
    stage.run()
    found = headers(stage.records("responses.hierarchical")[1])
    assert (found["role"], found["error"]) == ("shadow", "incomparable")
