"""What people decide is counted; what services decide, and what was refused, is not."""

from hal9.control.reducer import ControlState, fold
from hal9.telemetry.metrics import Metrics
from schemas.base import encode
from schemas.control import Rollback, Route
from services.orchestrator.app import interventions


def test_accepted_commands_of_people_are_counted() -> None:
    metrics, state = Metrics(), ControlState("m")
    heard = interventions(metrics)
    for offset, (expected, actor) in enumerate([(0, "ana@desk"), (0, "bob@desk"), (1, "orchestrator-1a2b")]):
        record = Route(id=f"r{offset}", migration="m", actor=actor, at_ms=1, expected_epoch=expected, percentage=5.0)
        heard(offset, fold(state, offset, encode(record)))
    back = Rollback(id="b", migration="m", actor="ana@desk", at_ms=1, expected_epoch=2, trigger="manual", reason="")
    heard(3, fold(state, 3, encode(back)))
    assert b"hal9_manual_interventions_total 2.0" in metrics.render()
