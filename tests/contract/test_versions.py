"""Services of this version and of the one before or after it, side by side.

What the first release wrote is read for ever; what a later one adds is passed over, and a kind of decision that is not
known here freezes promotion: it neither crashes a service nor is skipped in silence.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgpack
import msgspec
import pytest

from hal9 import wire
from hal9.backend.store import read_change
from hal9.control.reducer import ControlState, fold
from hal9.liveness import Liveness
from hal9.log.effects import Send
from hal9.log.validity import Validity
from schemas import control, reports, state, telemetry
from schemas.base import decode, encode
from services.router import headers as router_headers

FIRST = Path(state.__file__).parent / "golden" / "first"
"""Golden bytes as the first release had them: never generated again."""
ENTRIES: dict[str, dict[str, Any]] = {
    entry["file"].removesuffix(".bin"): entry for entry in json.loads((FIRST / "index.json").read_text("utf-8"))
}
STRUCTS: dict[str, msgspec.msgpack.Decoder[Any]] = {
    "marker": state.marker_decoder,
    "claim": msgspec.msgpack.Decoder(state.Claim),
    "seal": state.seal_decoder,
    "seal-copied": state.seal_decoder,
    "neuron": state.envelope_decoder,
    "unit": state.envelope_decoder,
    "deleted": state.envelope_decoder,
    "divergence": reports.divergence_decoder,
    "quarantined": reports.quarantined_decoder,
    "outcome": telemetry.outcome_decoder,
    "status": telemetry.status_decoder,
    "validation": telemetry.validation_decoder,
    **dict.fromkeys(("start", "route", "rollback", "pin", "settled", "freeze", "backfill", "journal"), control.decoder),
}
FUTURE = {"fnord": {"nested": [1, None, {"x": b"\xff"}]}, "zzz": -1}


def record(name: str, *more: tuple[str, bytes]) -> Send:
    entry = ENTRIES[name]
    value = None if entry["null"] else (FIRST / entry["file"]).read_bytes()
    written = [(key, str(held).encode()) for key, held in entry["headers"].items()]
    found = Send(entry["topic"].removeprefix("hal9."), entry["key"].encode(), value, [*written, *more])
    found.offset = found.timestamp = 7
    return found


def later(value: bytes) -> bytes:
    """The same record as a later version may write it."""
    tree = msgpack.unpackb(value, strict_map_key=False)
    return bytes(msgpack.packb({**tree, **FUTURE}))


# ---------------------------------------------------------------------- what the first release wrote
@pytest.mark.parametrize("name", STRUCTS)
def test_a_value_of_the_first_release_is_read(name: str) -> None:
    raw = (FIRST / f"{name}.bin").read_bytes()
    found = decode(STRUCTS[name], raw)
    told = msgpack.unpackb(encode(found), strict_map_key=False)
    was = msgpack.unpackb(raw, strict_map_key=False)
    assert {key: told.get(key) for key in was} == was, "nothing that it said is lost"


PARSED: dict[str, Callable[[Send], object]] = {
    "dispatched": wire.parse_dispatched,
    "dispatched-rejected": wire.parse_dispatched,
    "response": wire.parse_response,
    "response-shadow": wire.parse_response,
    "neuron": read_change,
    "unit": read_change,
    "deleted": read_change,
    "tombstone": read_change,
    "request": lambda r: wire.parse_request(r, "hal9.requests", 0, 1_760_000_000_000, wire.Limits()),
}


@pytest.mark.parametrize("name", PARSED)
def test_headers_of_the_first_release_and_unknown_ones_are_read(name: str) -> None:
    # Of a request they are a user's, and passed on; beside a log's own they are nobody's.
    first, more = (PARSED[name](record(name, *headers)) for headers in ([], [("x-fnord", b"\x00\xff")]))
    if isinstance(first, wire.Request) and isinstance(more, wire.Request):
        assert list(more.passed_on) == [*first.passed_on, ("x-fnord", b"\x00\xff")]
        more.passed_on = first.passed_on
    assert repr(more) == repr(first)


def test_unknown_headers_of_a_request_are_passed_on() -> None:
    found = router_headers.of_user(record("dispatched", ("x-fnord", b"1")))
    assert ("x-fnord", b"1") in found


# ---------------------------------------------------------------------- what a later one may write
@pytest.mark.parametrize("name", STRUCTS)
def test_fields_that_are_not_known_are_passed_over(name: str) -> None:
    raw = (FIRST / f"{name}.bin").read_bytes()
    assert decode(STRUCTS[name], later(raw)) == decode(STRUCTS[name], raw)


def test_a_marker_and_a_seal_with_unknown_fields_count() -> None:
    for name, judge in (("marker", Validity()), ("seal", Validity(system="flat", salt="hal9/route"))):
        mark = record(name)
        mark.value = later(mark.value or b"")
        mark.key = b"\0" + (mark.key or b"").lstrip(b"\0 ")
        assert judge.feed(mark) == name


def test_a_heartbeat_with_unknown_fields_is_heard() -> None:
    status = decode(telemetry.status_decoder, later((FIRST / "status.bin").read_bytes()))
    alive = Liveness(0.0)
    alive.fold(status, 10.0)
    assert [heard.instance for heard in alive.living(20.0)] == [status.instance]


def test_a_decision_of_a_kind_that_is_not_known_freezes_promotion_and_leaves_the_way_back() -> None:
    folded = ControlState("hal9")
    who = {"migration": "hal9", "actor": "someone", "at_ms": 1}
    future = {"type": "teleport", "id": "t1", **who, **FUTURE}
    assert fold(folded, 0, encode(future)).verdict == "unknown"
    assert folded.unknown == [0]
    assert "teleport" in (folded.frozen or "")
    up = {"type": "route", "id": "r1", "expected_epoch": 0, "percentage": 10.0, **who}
    assert fold(folded, 1, encode(up)).verdict == "refused"
    back = {"type": "rollback", "id": "b1", "expected_epoch": 0, "trigger": "manual", **who, **FUTURE}
    assert fold(folded, 2, encode(back)).verdict == "accepted"


def test_settled_of_the_first_release_has_no_times() -> None:
    found = decode(control.decoder, (FIRST / "settled.bin").read_bytes())
    assert isinstance(found, control.Settled)
    assert found.took_ms == {}
