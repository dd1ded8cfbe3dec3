"""Responses of native systems on the wrong partition: sent on once, never taken for another request's answer."""

from hal9 import wire
from hal9.keys import partition_of
from schemas.base import decode
from schemas.reports import quarantined_decoder
from simulation.stage import Stage, headers

KEY = b"a0"
AT = partition_of(KEY, 2)


def respond(stage: Stage, position: str, value: bytes, *, role: bytes = b"primary") -> None:
    """What a native system answers, on this stage's partition."""
    fields = [(wire.ID, b"one"), (wire.POSITION, position.encode()), (wire.EPOCH, b"0"), (wire.STATUS, b"ok")]
    stage.logs["responses.flat", stage.partition].append(KEY, value, [*fields, (wire.ROLE, role)], stage.now_ms)


def test_a_response_goes_on_to_the_partition_of_its_position_as_it_is() -> None:
    stage = Stage("router", partition=1 - AT, partitions=2).run()
    respond(stage, f"{AT}:7", b"<x>")
    respond(stage, f"{AT}:8", b"<y>", role=b"shadow")
    stage.run()
    primary, shadow = stage.records("responses.flat", AT)
    assert (primary.key, primary.value, headers(primary)["position"]) == (KEY, b"<x>", f"{AT}:7")
    assert (shadow.value, headers(shadow)["role"]) == (b"<y>", "shadow")
    assert headers(primary) == headers(stage.records("responses.flat")[0])
    assert stage.answers() == []


def test_at_the_right_partition_it_is_the_answer_and_goes_nowhere_else() -> None:
    stage = Stage("router", partition=AT, partitions=2).run()
    position = stage.ask(KEY, "mut", b"x", name="one")
    stage.run()
    respond(stage, f"{AT}:{position}", b"<x>")
    stage.run()
    assert stage.answers() == [("one", "ok")]
    assert stage.records("responses.flat", 1 - AT) == []


def test_it_is_not_taken_for_the_answer_to_the_request_that_has_the_same_offset_here() -> None:
    stage = Stage("router", partition=AT, partitions=2).run()
    position = stage.ask(KEY, "mut", b"x", name="mine")
    stage.run()
    respond(stage, f"{1 - AT}:{position}", b"somebody else's")
    stage.run()
    assert stage.answers() == []
    assert len(stage.records("responses.flat", 1 - AT)) == 1


def test_the_response_log_is_committed_past_it_only_when_it_is_stored_elsewhere() -> None:
    stage = Stage("router", partition=1 - AT, partitions=2).run()
    stage.held.add("responses.flat")
    respond(stage, f"{AT}:7", b"<x>")
    stage.run()
    (runtime,) = stage.runtimes
    assert not runtime.core.idle()
    runtime.commit()
    assert stage.groups["router"].committed["responses.flat"].offset == 0
    runtime.crash()
    stage.held.clear()
    stage.start("router")
    stage.run()
    assert {record.value for record in stage.records("responses.flat", AT)} == {b"<x>"}
    assert stage.runtimes[1].core.idle()


def test_a_position_on_no_partition_is_quarantined() -> None:
    stage = Stage("router", partition=0, partitions=2).run()
    respond(stage, "2:0", b"<x>")
    stage.run()
    (found,) = stage.logs["quarantine", 0]
    assert decode(quarantined_decoder, found.value).reason == "bad-response"
