"""The router's rules, one at a time, on a quiet stage."""

import pytest

from hal9 import wire
from hal9.keys import partition_of
from schemas.base import decode
from schemas.reports import quarantined_decoder
from schemas.state import marker_decoder
from simulation.cast import DEADLINE_MS
from simulation.stage import BEGINNING_MS, Stage, headers

KEY = b"a0"  # in the lower half of the buckets


def test_a_request_is_dispatched_with_its_position_and_its_owner() -> None:
    stage = Stage("router")
    stage.ask(KEY, "mut", b"x", name="one", headers=[("colour", b"red"), ("term", b"99"), ("primary", b"hierarchical")])
    stage.run()
    (record,) = stage.records("dispatched")
    assert (record.key, record.value) == (KEY, b"x")
    assert headers(record) == {
        "colour": "red",
        "id": "one",
        "operation": "mut",
        "deadline-ms": str(BEGINNING_MS + DEADLINE_MS),
        "position": "0:0",
        "epoch": "0",
        "primary": "flat",
        "after-seal": "0",
        "term": "0",
    }


def test_the_answer_of_the_owner_is_the_answer_of_the_user() -> None:
    stage = Stage("router", "flat", "hierarchical")
    stage.ask(KEY, "mut", b"x", name="one")
    stage.ask(KEY, "err", b"y", name="two")
    stage.run()
    assert stage.answers() == [("one", "ok"), ("two", "error", "refused")]
    assert headers(stage.records("responses")[0])["served-by"] == "flat"


@pytest.mark.parametrize(
    ("asked", "code"),
    [
        ({"headers": [(wire.DEADLINE, b"soon")]}, "bad-deadline"),
        ({"headers": [(wire.DEADLINE, b"%d" % (BEGINNING_MS + 60_001))]}, "bad-deadline"),
        ({"headers": [(wire.DEADLINE, b"%d" % (BEGINNING_MS - 1))]}, "expired"),
        ({"operation": "No Such"}, "bad-operation"),
        ({"value": b"x" * (256 * 1024 + 1)}, "too-large"),
        ({"headers": [("h", b"x" * 9000)]}, "bad-headers"),
        ({"key": None}, "bad-key"),
        ({"key": b""}, "bad-key"),
        ({"key": b"\0seal/9"}, "bad-key"),
        ({"key": b"\xff\xfe"}, "bad-key"),
        ({"key": b"k" * 257}, "bad-key"),
    ],
)
def test_what_cannot_be_accepted_is_rejected_with_a_code_and_executed_by_nobody(
    asked: dict[str, object], code: str
) -> None:
    stage = Stage("router", "flat", "hierarchical")
    stage.ask(**{"key": KEY, "operation": "mut", **asked}, name="bad")  # type: ignore[arg-type]
    stage.ask(KEY, "mut", b"x", name="good")
    stage.run()
    assert sorted(stage.answers()) == [("bad", "rejected", code), ("good", "ok")]
    assert len(stage.records("neurons.changes")) == 1


def test_a_rejection_is_answered_only_when_it_was_read_back_from_dispatched() -> None:
    stage = Stage("router").run()
    stage.held.add("dispatched")
    stage.ask(KEY, "No Such", name="bad")
    stage.run()
    assert stage.answers() == []
    stage.held.clear()
    stage.run()
    assert stage.answers() == [("bad", "rejected", "bad-operation")]


def test_nothing_after_a_foreign_claim_confirms_an_own_record() -> None:
    stage = Stage("router").run()
    stage.held.add("dispatched")
    stage.ask(KEY, "mut", b"x", name="one", headers=[(wire.DEADLINE, b"%d" % (stage.now_ms + 10))])
    stage.now_ms += 20  # the zombie finds it expired, the successor did not
    (zombie,) = stage.runtimes
    stage.run()
    stage.held.clear()
    log = stage.logs["dispatched", 0]
    claim = log.append(wire.CLAIM + b"successor", b"", ())
    fields = [(wire.ID, b"one"), (wire.OPERATION, b"mut"), (wire.DEADLINE, b"9"), (wire.POSITION, b"0:0")]
    fields += [(wire.EPOCH, b"0"), (wire.PRIMARY, b"flat"), (wire.TERM, b"%d" % claim.offset)]
    log.append(KEY, b"x", fields)
    for name in zombie.sending():
        zombie.land(name, stage.now_ms)
    for name in zombie.acks():
        zombie.deliver_ack(name, stage.now_ms)
    zombie.feed("dispatched", 10, stage.now_ms)  # claim, the successor's dispatch and the own rejection in one batch
    assert zombie.restarts == ["another router claimed the partition"]
    assert ("responses", 0) not in zombie.sending()


def test_a_repeated_id_gets_the_answer_of_the_first_and_is_not_dispatched() -> None:
    stage = Stage("router", "flat", "hierarchical")
    stage.ask(KEY, "mut", b"x", name="one")
    stage.ask(KEY, "mut", b"x", name="one")  # before the first has an answer
    stage.run()
    stage.ask(KEY, "mut", b"x", name="one")  # after
    stage.run()
    assert set(stage.answers()) == {("one", "ok")}
    assert len(stage.records("dispatched")) == 1


def test_an_id_of_another_key_is_another_request() -> None:
    stage = Stage("router", "flat", "hierarchical")
    stage.ask(KEY, "mut", b"x", name="one")
    stage.ask(b"a1", "mut", b"x", name="one")
    stage.run()
    assert len(stage.records("dispatched")) == 2


def test_after_the_window_an_id_is_a_new_request() -> None:
    stage = Stage("router", "flat", "hierarchical")
    stage.ask(KEY, "mut", b"x", name="one")
    stage.run().pass_time(60_001)
    stage.ask(KEY, "mut", b"x", name="one")
    stage.run()
    assert len(stage.records("dispatched")) == 2


def test_a_successor_knows_the_ids_of_the_window() -> None:
    stage = Stage("router", "flat", "hierarchical")
    stage.ask(KEY, "mut", b"x", name="one")
    stage.run()
    assert stage.runtimes[0].commit()
    stage.runtimes[0].crash()
    stage.start("router")
    stage.ask(KEY, "mut", b"x", name="one")
    stage.run()
    assert stage.answers() == [("one", "ok"), ("one", "ok")]
    assert len(stage.records("dispatched")) == 1


def test_a_request_times_out_at_its_deadline_and_a_late_answer_is_not_a_second_one() -> None:
    stage = Stage("router", "hierarchical")
    stage.ask(KEY, "mut", b"x", name="one", headers=[(wire.DEADLINE, b"%d" % (stage.now_ms + 50))])
    stage.run()
    assert stage.pass_time(49).answers() == []
    assert stage.pass_time(1).answers() == [("one", "timeout", "deadline")]
    stage.start("flat")
    stage.run()
    assert len(stage.records("responses.flat")) == 1
    assert stage.answers() == [("one", "timeout", "deadline")]


def test_a_misplaced_request_is_moved_with_its_identity_and_its_deadline() -> None:
    right = partition_of(KEY, 2)
    stage = Stage("router", partition=1 - right, partitions=2)
    position = stage.ask(KEY, "mut", b"x", headers=[("term", b"9"), ("rejected", b"no")])
    stage.run()
    (moved,) = stage.records("requests", right)
    assert headers(moved) == {
        "operation": "mut",
        "id": f"hal9.requests-{1 - right}-{position}",
        "deadline-ms": str(BEGINNING_MS + DEADLINE_MS),
    }
    assert stage.records("dispatched") == []
    assert stage.answers() == []


def test_a_misplaced_request_is_moved_even_when_expired_for_an_earlier_copy_may_have_been_executed() -> None:
    right = partition_of(KEY, 2)
    stage = Stage("router", partition=1 - right, partitions=2)
    stage.ask(KEY, "mut", b"x", name="one", headers=[("deadline-ms", b"%d" % (BEGINNING_MS - 1))])
    stage.run()
    (moved,) = stage.records("requests", right)
    assert headers(moved)["deadline-ms"] == str(BEGINNING_MS - 1)
    assert stage.answers() == []


def test_a_successor_continues_what_was_dispatched_and_skips_its_position() -> None:
    stage = Stage("router", "hierarchical")
    stage.ask(KEY, "mut", b"x", name="one")
    stage.run()
    stage.runtimes[0].crash()  # before any commit
    stage.start("router")
    stage.run()
    assert len(stage.records("dispatched")) == 1
    stage.start("flat")
    stage.run()
    assert stage.answers() == [("one", "ok")]


def test_a_successor_answers_a_rejection_that_was_not_answered() -> None:
    stage = Stage("router").run()
    stage.held.add("responses")
    stage.ask(KEY, "No Such", name="bad")
    stage.run()
    stage.runtimes[0].crash()
    stage.runtimes[0].outgoing.clear()
    stage.held.clear()
    stage.start("router")
    assert stage.run().answers() == [("bad", "rejected", "bad-operation")]


def test_an_old_rejection_answered_again_does_not_carry_the_commit_past_unread_requests() -> None:
    stage = Stage("router").run()
    stage.held.add("responses")
    for name in ("one", "two"):
        stage.ask(KEY, "mut", b"x", name=name)
    bad = stage.ask(KEY, "No Such", name="bad")
    stage.run()
    stage.runtimes[0].crash()
    successor = stage.start("router")
    for _ in range(3):  # claim, its acknowledgement, the end of `responses`: it serves, and has read no request
        for log in successor.sending():
            if log[0] == "dispatched":
                successor.land(log, stage.now_ms)
        for log in successor.acks():
            successor.deliver_ack(log, stage.now_ms)
        if "dispatched" in successor.readable():
            successor.feed("dispatched", 100, stage.now_ms)
        if successor.asks:
            successor.answer(stage.now_ms)
    assert ("responses", 0) in successor.sending()
    assert successor.core.commits()["requests"].offset < bad


def test_a_marker_stands_for_all_older_epochs_and_says_what_moved() -> None:
    stage = Stage("router")
    stage.route(50)
    stage.route(25)
    stage.run()
    (record,) = stage.marks("dispatched", wire.MARKER)
    marker = decode(marker_decoder, record.value)
    assert (marker.route.epoch, marker.route.bound) == (2, 2500)
    assert (marker.moved.bounds, marker.moved.epochs) == ([2500, 10_000], [2, 0])


def test_a_key_that_moved_waits_while_a_request_from_before_is_in_flight() -> None:
    stage = Stage("router", "hierarchical", "migrator")
    stage.ask(KEY, "mut", b"x", name="old")
    stage.run()
    stage.route(50)
    stage.run()
    stage.ask(KEY, "mut", b"y", name="new")
    stage.ask(b"a1", "mut", b"z", name="other")  # did not move
    stage.run()
    dispatched = [headers(record)["id"] for record in stage.records("dispatched")]
    assert dispatched == ["old", "other"]


def test_what_is_unanswered_when_its_epoch_settled_goes_to_the_new_owner_at_its_old_position() -> None:
    stage = Stage("router", "hierarchical", "migrator")
    old = stage.ask(KEY, "mut", b"x", name="old")
    stage.run()
    epoch = stage.route(50)
    stage.ask(KEY, "mut", b"y", name="new")
    stage.run().pass_time(3000)  # flat never comes: its seal is forced
    again = [headers(record) for record in stage.records("dispatched")][1:]
    assert [(h["id"], h["position"], h["primary"], h["after-seal"]) for h in again] == [
        ("old", f"0:{old}", "hierarchical", str(epoch)),
        ("new", f"0:{old + 1}", "hierarchical", str(epoch)),
    ]
    assert stage.answers() == [("old", "ok"), ("new", "ok")]
    assert stage.settled()[epoch].forced == ["flat"]


def test_an_answer_of_the_old_owner_goes_out_at_once() -> None:
    stage = Stage("router", "flat", "hierarchical")
    stage.held.add("responses.flat")
    stage.ask(KEY, "mut", b"x", name="old")
    stage.run()
    stage.route(50)
    stage.run()
    stage.held.clear()
    stage.run()
    assert stage.answers() == [("old", "ok")]
    assert stage.settled() == {}


def test_a_response_that_cannot_be_read_is_quarantined_and_the_next_one_counts() -> None:
    stage = Stage("router", "hierarchical")
    stage.ask(KEY, "mut", b"x", name="one")
    stage.logs["responses.flat", 0].append(KEY, b"", [("position", b"nonsense")])
    stage.run()
    (record,) = stage.records("quarantine", 0)
    assert decode(quarantined_decoder, record.value).reason == "bad-response"
    stage.start("flat")
    assert stage.run().answers() == [("one", "ok")]


def test_a_response_of_another_epoch_or_system_does_not_count() -> None:
    stage = Stage("router")
    stage.ask(KEY, "mut", b"x", name="one")
    stage.run()
    fields = [(wire.POSITION, b"0:0"), (wire.ROLE, b"primary"), (wire.STATUS, b"ok")]
    stage.logs["responses.flat", 0].append(KEY, b"", [*fields, (wire.EPOCH, b"7")])
    stage.logs["responses.hierarchical", 0].append(KEY, b"", [*fields, (wire.EPOCH, b"0")])
    assert stage.run().answers() == []
    stage.logs["responses.flat", 0].append(KEY, b"", [*fields, (wire.EPOCH, b"0")])
    assert stage.run().answers() == [("one", "ok")]


def test_a_router_is_idle_when_everything_is_answered_and_commits_past_it() -> None:
    stage = Stage("router", "flat", "hierarchical")
    router = stage.runtimes[0]
    stage.held.add("responses")
    stage.ask(KEY, "mut", b"x", name="one")
    stage.run()
    assert not router.core.idle()
    assert router.core.commits()["requests"].offset == 0
    stage.held.clear()
    stage.run()
    assert router.core.idle()
    assert router.core.commits()["requests"].offset == 1


def test_a_response_passed_over_is_committed_only_when_a_later_own_record_was_read_back() -> None:
    # Superseded without knowing it, a router passes over answers to what its successor dispatched.
    stage = Stage("router").run()
    core = stage.runtimes[0].core
    stage.held.add("dispatched")
    stage.route(50)
    stage.ask(KEY, "mut", b"x", name="one")
    fields = [(wire.POSITION, b"0:0"), (wire.ROLE, b"primary"), (wire.STATUS, b"ok"), (wire.EPOCH, b"0")]
    stage.logs["responses.flat", 0].append(KEY, b"", fields)
    stage.run()
    assert core.commits()["responses.flat"].offset == 0
    stage.held.clear()
    stage.run()
    assert core.commits()["responses.flat"].offset == 0  # what was read back was sent before
    stage.ask(KEY, "mut", b"y", name="two")
    stage.run()
    assert core.commits()["responses.flat"].offset == 1
