"""The audit of the demo: which lessons are due, and what it finds when answers and logs do not fit."""

from dataclasses import dataclass, field

from hal9 import wire
from hal9.control.route import Route, Spans
from hal9.demo.audit import Taught, learning
from hal9.demo.trail import Trail
from hal9.log.effects import Headers
from schemas.base import FLAT, HIERARCHICAL, encode
from schemas.state import Claim, Marker


@dataclass
class Line:
    """A record of a log."""

    offset: int
    key: bytes | None
    value: bytes | None
    headers: Headers = field(default_factory=list)
    timestamp: int = 0


def claim(offset: int) -> Line:
    return Line(offset, wire.CLAIM + b"1", encode(Claim(instance="router-1")))


def marker(offset: int, epoch: int, at_ms: int) -> Line:
    value = encode(Marker(route=Route().mark(epoch), moved=Spans().wire()))
    return Line(offset, wire.MARKER + b"%d" % epoch, value, [(wire.TERM, b"0")], at_ms)


def dispatched(offset: int, key: str, name: str, position: bytes, term: bytes = b"0") -> Line:
    headers = {
        wire.ID: name.encode(),
        wire.OPERATION: b"learn",
        wire.DEADLINE: b"1",
        wire.POSITION: position,
        wire.EPOCH: b"0",
        wire.PRIMARY: b"flat",
        wire.TERM: term,
    }
    return Line(offset, key.encode(), b"", list(headers.items()))


def change(offset: int, key: str, position: bytes, status: bytes = b"ok", term: bytes = b"0") -> Line:
    headers = {
        wire.VERSION: b"1",
        wire.EPOCH: b"0",
        wire.TERM: term,
        wire.ORIGIN: b"flat",
        wire.POSITION: position,
        wire.ANSWER_STATUS: status,
    }
    return Line(offset, key.encode(), b"", list(headers.items()))


def trail() -> Trail:
    """Requests a to d of one neuron at positions 9, 7, 8, 6; all but d changed something that counts."""
    found = Trail("hal9")
    lines = [
        dispatched(i + 1, "n", name, b"0:%d" % at)
        for i, (name, at) in enumerate(zip("abcd", (9, 7, 8, 6), strict=True))
    ]
    found.dispatched(0, [claim(0), *lines])
    changes = [change(1, "n", b"0:9"), change(2, "n", b"0:7"), change(3, "n", b"0:8"), change(4, "n", b"0:6", b"error")]
    found.changes(FLAT, 0, [claim(0), *changes])
    return found


def taught(name: str, status: str) -> Taught:
    return Taught(name, "n", name.encode(), status)


def test_due_is_what_was_answered_ok_and_what_timed_out_and_is_held_in_the_order_of_positions() -> None:
    asked = [taught("a", "ok"), taught("b", "timeout"), taught("c", "ok"), taught("d", "timeout")]
    learnt = learning([*asked, taught("never-seen", "timeout")], trail())
    assert learnt.due == [("n", b"b"), ("n", b"c"), ("n", b"a")]
    assert learnt.findings == []


def test_what_was_answered_ok_must_be_in_a_change_log() -> None:
    learnt = learning([taught("d", "ok")], trail())
    assert learnt.due == [("n", b"d")], "it is missed in the stores too"
    assert learnt.findings == ["1 learn requests were answered ok and are in no change log: n (id d)"]


def test_what_was_answered_ok_must_have_been_dispatched() -> None:
    assert "not in `dispatched`" in learning([taught("x", "ok")], trail()).findings[0]


def test_what_was_refused_must_have_changed_nothing() -> None:
    learnt = learning([taught("a", "error"), taught("b", "rejected"), taught("d", "error")], trail())
    assert learnt.due == []
    assert learnt.findings[0].startswith("2 learn requests were answered error or rejected, and changed state")


def test_void_records_do_not_count() -> None:
    found = Trail("hal9")
    found.dispatched(0, [claim(0), claim(1), dispatched(2, "n", "a", b"0:1", term=b"0")])
    found.changes(HIERARCHICAL, 0, [claim(0), claim(1), change(2, "n", b"0:1", term=b"0")])
    assert found.positions == {}
    assert found.applied == {}


def test_a_repeated_id_has_the_position_that_was_served() -> None:
    found = Trail("hal9")
    found.dispatched(0, [claim(0), dispatched(1, "n", "a", b"0:4"), dispatched(2, "n", "a", b"0:9")])
    assert found.positions == {("n", "a"): (0, 4)}


def test_a_rollback_is_acknowledged_when_the_last_partition_has_its_marker() -> None:
    found = Trail("hal9")
    found.dispatched(0, [claim(0), marker(1, 1, 100), marker(2, 2, 200), marker(3, 3, 300)])
    found.dispatched(1, [claim(0), marker(1, 3, 250)])
    assert found.acknowledged_at_ms(2) == 250
    assert found.acknowledged_at_ms(4) is None


def test_what_cannot_be_read_is_a_finding() -> None:
    found = Trail("hal9")
    found.dispatched(0, [claim(0), Line(1, b"n", b"", [(wire.TERM, b"0")])])
    assert learning([], found).findings == ["1 records of the logs cannot be read"]
