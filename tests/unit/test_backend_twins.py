"""Second runs by flat: on the same state, unseen by everybody but the router."""

import json
from typing import Any

import pytest

from hal9 import wire
from hal9.backend import Refused
from hal9.backend.store import NOTHING
from hal9.backend.twins import Twin, TwinQueue
from simulation.stage import Stage, headers

KEY = b"a0"
EVERYBODY = ("router", "flat", "hierarchical", "migrator")


class Moody:
    """Draws: no run is like another; `fail` fails every second time."""

    read_only = frozenset({"read"})

    def __init__(self) -> None:
        self.runs = 0

    def __call__(self, state: Any, operation: str, value: bytes) -> Any:  # noqa: ARG002  a handler's
        self.runs += 1
        if operation == "fail" and self.runs % 2 == 0:
            raise Refused("moody")
        number = (state or {}).get("n", 0) + 1 if operation != "read" else (state or {}).get("n", 0)
        return {"n": number, "drawn": self.runs}, b"%d %d" % (number, self.runs)


def twinned(owner: int) -> tuple[Stage, dict[str, list[dict[str, str]]]]:
    stage = Stage(*EVERYBODY, handler=Moody())
    stage.flag("twin=100", "shadow=100", f"percentage={owner}")
    stage.run()
    for name, operation in (("one", "add"), ("two", "add"), ("three", "read"), ("four", "fail")):
        stage.ask(KEY, operation, name=name)
        stage.run()
    stage.pass_time(100)
    found: dict[str, list[dict[str, str]]] = {}
    for record in stage.records("responses.flat"):
        found.setdefault(headers(record)["role"], []).append(
            {**headers(record), "value": (record.value or b"").decode()}
        )
    return stage, found


@pytest.mark.parametrize(("owner", "role"), [(0, "primary"), (100, "shadow")])
def test_flat_runs_a_twin_on_the_same_state_in_whatever_role_it_ran_first(owner: int, role: str) -> None:
    stage, found = twinned(owner)
    assert sorted(found) == sorted([role, "twin"])
    assert {headers(r)["role"] for r in stage.records("responses.hierarchical")} == {"primary", "shadow"} - {role}
    first = {h["id"]: h for h in found[role]}
    second = {h["id"]: h for h in found["twin"]}
    assert sorted(first) == sorted(second) == ["four", "one", "three", "two"]
    for name in ("one", "two", "three"):
        assert second[name]["state-version"] == first[name]["state-version"]
        assert second[name]["value"].split()[0] == first[name]["value"].split()[0], "on the same state"
        assert second[name]["value"] != first[name]["value"], "it was run, not copied"
    diffs = {name: [f["path"] for f in json.loads(h["state-diff"])] for name, h in second.items() if "state-diff" in h}
    assert diffs == {"one": ["drawn"], "two": ["drawn"]}


def test_a_twin_changes_no_state_and_writes_nothing_but_its_response() -> None:
    stage, found = twinned(0)
    assert len(found["twin"]) == 4
    assert [headers(r)["version"] for r in stage.records("neurons.changes")] == ["1", "2", "3"]
    assert stage.records("units.changes") == []
    with_twins = {
        log: len(stage.records(log)) for log in ("dispatched", "responses", "neurons.changes", "units.replica")
    }
    assert with_twins == {"dispatched": 4, "responses": 4, "neurons.changes": 3, "units.replica": 3}


def test_twins_are_left_out_when_too_much_waits() -> None:
    queue = TwinQueue(3)
    twin = Twin(wire.Dispatched("x", "add", 1, 0, 0, "flat", None, 0, None, None), b"k", b"", NOTHING, None, False, 0)
    for busy in (0, 0, 1, 2):
        queue.add(twin, busy)
    assert (len(queue), queue.dropped) == (2, 2)
    assert len(queue.take()) == 2
    assert len(queue) == 0
