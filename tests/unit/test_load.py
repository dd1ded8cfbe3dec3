"""Overload: a partition pauses, then refuses, and memory stays bounded; a hot key starves nobody."""

from collections import Counter
from typing import cast

from hypothesis import given
from hypothesis import strategies as st

from hal9 import wire
from hal9.backend.queues import Queues, Task
from services.router.core import RouterCore
from services.router.load import Budget, Load, LoadPolicy
from services.router.protection import Protection, ProtectionPolicy
from simulation.cast import DEADLINE_MS
from simulation.stage import Stage

HOT, COLD = b"a0", b"a1"
LATE_MS = 3_000


def staged(*services: str, **bounds: float) -> tuple[Stage, RouterCore, Protection]:
    policy = LoadPolicy(**{"count": 8, "bytes": 10_000, **bounds})  # type: ignore[arg-type]
    protection = Protection(ProtectionPolicy(load=policy))
    stage = Stage("router", *services, protection=protection).run()
    return stage, cast("RouterCore", stage.runtimes[0].core), protection


def dispatched(stage: Stage) -> Counter[bytes]:
    return Counter(record.key or b"" for record in stage.records("dispatched") if record.value is not None)


def test_a_full_partition_pauses_and_goes_on_when_there_is_room() -> None:
    stage, core, _ = staged("hierarchical")
    for number in range(8):
        stage.ask(COLD, "mut", b"x", name=f"i{number}")
    stage.run()
    stage.ask(COLD, "mut", b"x", name="late")
    stage.run()
    assert not core.wants("requests")
    assert dispatched(stage).total() == 8
    stage.start("flat")
    stage.run()
    assert len(stage.answers()) == 9
    assert {answer[1] for answer in stage.answers()} == {"ok"}


def test_it_pauses_for_bytes_as_well() -> None:
    stage, core, _ = staged("hierarchical", count=1_000)
    stage.ask(COLD, "mut", b"x" * 6_000)
    stage.run()
    assert core.wants("requests")
    stage.ask(COLD, "mut", b"x" * 6_000)
    stage.run()
    assert not core.wants("requests")


def test_answers_on_their_way_count_as_bytes_until_they_are_stored() -> None:
    stage, core, _ = staged("flat")
    stage.held.add("responses")
    stage.ask(COLD, "mut", b"x" * 50)
    stage.run()
    assert (core.load.open, core.load.bytes) == (0, len(stage.records("responses.flat")[0].value or b""))
    stage.held.clear()
    stage.run()
    assert core.load.bytes == 0


def test_what_a_chunk_carries_beyond_twice_the_bound_is_rejected_and_everything_is_answered() -> None:
    stage, core, _ = staged("hierarchical")
    for number in range(30):
        stage.ask(COLD, "mut", b"x", name=f"i{number}")
    stage.run()
    assert core.load.open == 16
    assert Counter(stage.answers()).total() == 14
    assert {answer[1:] for answer in stage.answers()} == {("rejected", "overload")}
    stage.pass_time(DEADLINE_MS)
    assert Counter(answer[1] for answer in stage.answers()) == {"rejected": 14, "timeout": 16}
    (outcome, *_) = core.config.book.take(stage.now_ms + 1_000, [0])
    assert outcome.overload == {"full": 14}


def test_a_system_that_does_not_answer_costs_no_memory_and_every_request_ends_in_an_answer() -> None:
    stage, core, _ = staged("hierarchical", count=50)
    for number in range(500):
        stage.ask(b"k%d" % (number % 40), "mut", b"x" * 20, name=f"i{number}")
    for _ in range(40):
        stage.pass_time(DEADLINE_MS // 10)
        assert core.load.open <= 100
        if core.load.open < 50:
            for number in range(10):
                stage.ask(b"k%d" % number, "mut", b"x", name=f"at{stage.now_ms}-{number}")
    stage.pass_time(DEADLINE_MS)
    statuses = Counter(answer[1:] for answer in stage.answers())
    assert statuses.total() == len(stage.records("requests"))
    assert set(statuses) == {("timeout", "deadline"), ("rejected", "overload"), ("rejected", "expired")}
    assert core.idle()
    assert (core.load.open, core.load.bytes, core.load.rejecting) == (0, 0, 0)


def test_keys_that_wait_for_their_hand_over_are_bounded_by_the_same_pause() -> None:
    stage, core, _ = staged("hierarchical", "migrator")
    stage.ask(HOT, "mut", b"x", name="old")
    stage.run()
    stage.route(50)
    stage.run()
    runtime = stage.runtimes[0]
    for number in range(100):
        stage.ask(HOT, "mut", b"x", name=f"i{number}")
    while "requests" in runtime.readable():
        runtime.feed("requests", 1, stage.now_ms)
    assert (core.waiting, core.load.open) == (7, 8)
    stage.run().pass_time(3_000)  # flat never comes: its seal is forced, and the new owner serves
    assert len(stage.answers()) == 101


def test_partitions_of_one_process_share_a_budget_and_a_lost_one_gives_its_share_back() -> None:
    budget = Budget(LoadPolicy(process_count=10))
    one, two = Load(budget.policy, budget), Load(budget.policy, budget)
    one.open = 10
    one.report()
    assert not two.takes(0)
    budget.recount([two])
    assert two.takes(0)


def test_a_key_that_holds_its_share_gets_no_more_while_others_wait_in_earnest() -> None:
    stage, core, _ = staged("hierarchical", count=40)
    for number in range(30):
        stage.ask(HOT, "mut", b"x", name=f"hot{number}")
    stage.run()
    for number in range(5):
        stage.ask(HOT, "mut", b"x", name=f"more{number}")
        stage.ask(COLD, "mut", b"x", name=f"cold{number}")
    stage.now_ms += LATE_MS  # they waited in the log
    stage.run()
    assert dispatched(stage) == {HOT: 30, COLD: 5}
    assert sorted(stage.answers()) == [(f"more{number}", "rejected", "overload") for number in range(5)]
    (outcome, *_) = core.config.book.take(stage.now_ms + 1_000, [0])
    assert outcome.overload == {"hot-key": 5}


def test_alone_or_on_time_a_key_may_fill_the_table() -> None:
    stage, _, _ = staged("hierarchical", count=40)
    for number in range(30):
        stage.ask(HOT, "mut", b"x", name=f"hot{number}")
    stage.ask(COLD, "mut", b"x")
    stage.run()
    assert dispatched(stage) == {HOT: 30, COLD: 1}
    for number in range(8):
        stage.ask(HOT, "mut", b"x", name=f"more{number}")
    stage.now_ms += LATE_MS
    stage.run()
    assert dispatched(stage) == {HOT: 38, COLD: 1}


def test_a_full_table_that_one_key_fills_and_nothing_leaves_is_read_past() -> None:
    stage, core, _ = staged("hierarchical", count=20)
    for number in range(20):
        stage.ask(HOT, "mut", b"x", name=f"hot{number}")
    stage.run()
    for number in range(50):
        stage.ask(HOT, "mut", b"x", name=f"more{number}")
    stage.ask(COLD, "mut", b"x", name="cold")
    stage.run()
    assert not core.wants("requests")
    stage.pass_time(100).pass_time(1_000)
    assert dispatched(stage) == {HOT: 20, COLD: 1}
    assert Counter(answer[1:] for answer in stage.answers()) == {("rejected", "overload"): 50}


ASKED = st.lists(st.tuples(st.sampled_from((HOT, COLD, b"a2", b"a3")), st.integers(0, 600)), max_size=60)


@given(asked=ASKED, answering=st.booleans(), size=st.integers(1, 40), wait=st.sampled_from((0, 100, LATE_MS)))
def test_whatever_comes_bounds_hold_counts_return_to_zero_and_each_request_is_answered_once(
    asked: list[tuple[bytes, int]], answering: bool, size: int, wait: int
) -> None:
    stage, core, _ = staged("hierarchical", *(["flat"] if answering else []), count=10, bytes=2_000)
    runtime = stage.runtimes[0]
    for number, (key, length) in enumerate(asked):
        stage.ask(key, "mut", b"x" * length, name=f"i{number}")
    for _ in range(200):
        if "requests" in runtime.readable():
            runtime.feed("requests", size, stage.now_ms)
        assert core.load.open <= 20
        assert core.load.bytes <= 2 * 2_000 + 600 or answering
        stage.pass_time(wait)
        if len(stage.answers()) == len(asked):
            break
        stage.pass_time(DEADLINE_MS // 4)
    assert sorted(answer[0] for answer in stage.answers()) == sorted(f"i{number}" for number in range(len(asked)))
    assert (core.load.open, core.load.bytes, core.load.rejecting) == (0, 0, 0)


def test_in_a_system_a_long_queue_of_one_key_delays_no_other_key() -> None:
    queues = Queues()
    request = wire.Dispatched("i", "mut", 0, 0, 0, "flat", None, 0, None, None)
    for offset in range(300):
        queues.add(Task(offset, b"hot%d" % (offset % 3), request, b"", changes=True))
    for offset in range(300, 310):
        queues.add(Task(offset, b"cold%d" % offset, request, b"", changes=True))
    taken: list[bytes] = []
    while len(taken) < 26:
        for key in queues.ready(2):  # rounds are smaller than the number of keys with long queues
            queues.pop(key)
            taken.append(key)
    assert sum(key.startswith(b"cold") for key in taken) == 10


@given(st.lists(st.integers(0, 5), min_size=1, max_size=200), st.integers(1, 4))
def test_a_key_waits_for_at_most_one_request_of_each_other_key(keys: list[int], limit: int) -> None:
    queues = Queues()
    request = wire.Dispatched("i", "mut", 0, 0, 0, "flat", None, 0, None, None)
    for offset, key in enumerate(keys):
        queues.add(Task(offset, b"%d" % key, request, b"", changes=True))
    waited: Counter[tuple[bytes, bytes]] = Counter()
    while ready := queues.ready(limit):
        for key in ready:
            queues.pop(key)
            for name in {b"%d" % other for other in keys} - {key}:
                waited[name, key] += 1
                assert waited[name, key] <= 1 or name not in queues._ready
            for name in list(waited):
                if name[0] == key:
                    waited[name] = 0
    assert len(queues) == 0
