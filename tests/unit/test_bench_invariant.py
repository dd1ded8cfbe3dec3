"""The bench of the invariant: a seed is one script, and a rollback that a service decided is lifted."""

from types import SimpleNamespace
from typing import Any

from bench.invariant import FAULTS, Change, Run, script
from hal9.control.reducer import ControlState, Outcome, fold
from hal9.settings import Settings
from schemas.base import encode
from schemas.control import AnyControl, Rollback, Route


class Control:
    """Follower and writer in one."""

    def __init__(self) -> None:
        self.state = ControlState("hal9")

    async def append(self, record: AnyControl) -> Outcome:
        return fold(self.state, self.state.position, encode(record))


async def test_a_rollback_by_a_service_is_lifted_before_the_next_change() -> None:
    control: Any = Control()
    who: Any = {"migration": "hal9", "actor": "router", "at_ms": 1}
    await control.append(Route(id="r", expected_epoch=0, percentage=50.0, **who))
    await control.append(Rollback(id="b", expected_epoch=1, trigger="breaker", **who))
    nothing: Any = SimpleNamespace()
    run = Run(nothing, Settings(), nothing, seed=1)
    outcome = await run._decided(control, control, 0, Change(70.0, "flat"))
    assert (outcome.verdict, control.state.route.percentage, run.told.latched) == ("accepted", 70.0, 1)
    assert control.state.flags.prefixes == {"counter-1": "flat"}


def test_a_seed_is_one_script_of_ways_up_and_down() -> None:
    first, second = (script(50, 7, FAULTS, ("kill", "freeze")) for _ in range(2))
    assert first == second
    assert all((change.percentage >= 50) == (number % 2 == 0) for number, change in enumerate(first))
    befallen = {(change.fault.service, change.fault.kind) for change in first if change.fault is not None}
    assert befallen == {(service, kind) for service in FAULTS for kind in ("kill", "freeze")}
    assert {change.prefix for change in first} == {None, "flat", "hierarchical"}
