"""Reads beside the owner of their key: fallback, and by operation."""

from dataclasses import replace
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hal9 import wire
from hal9.backend.core import BackendCore
from hal9.backend.freshness import HELD_MS, Freshness
from hal9.backend.reads import Read
from hal9.backend.store import NOTHING, Held
from hal9.testing.runtime import MemoryRuntime
from schemas.base import FLAT, HIERARCHICAL, SYSTEMS, System
from schemas.telemetry import Outcome
from services.router.core import RouterCore
from services.router.protection import Protection
from simulation.applied import answered
from simulation.stage import Stage, headers

KEY = b"a0"
ALL = ("router", "flat", "hierarchical", "migrator")
DEADLINE_MS = 10_000


class Scene(Stage):
    """A stage on which `read` is read-only at both systems."""

    def __init__(self, *services: str) -> None:
        self.protection = Protection()
        self.protection.read_only = frozenset({"read"})
        super().__init__(*(services or ALL), protection=self.protection)
        self.run()

    def of(self, service: str) -> RouterCore:
        return cast("RouterCore", self.held_by(service).core)

    def held_by(self, service: str) -> MemoryRuntime:
        return next(r for r in reversed(self.runtimes) if r.alive and r.name.startswith(service))

    def crash(self, service: str) -> None:
        self.held_by(service).crash()

    def request(self, operation: str, name: str) -> "Scene":
        deadline = (wire.DEADLINE, b"%d" % (self.now_ms + DEADLINE_MS))
        self.ask(KEY, operation, name.encode(), name=name, headers=[deadline])
        self.run()
        return self

    def answer(self, name: str) -> dict[str, str] | None:
        found = [headers(r) for r in self.records("responses") if headers(r)["id"] == name]
        return found[0] if found else None

    def shown(self, name: str) -> list[str]:
        return next(answered(r.value) for r in self.records("responses") if headers(r)["id"] == name)

    def asked(self, name: str) -> list[tuple[str, str]]:
        found = [headers(r) for r in self.records("dispatched") if headers(r)["id"] == name]
        return [(h["primary"], next((m for m in ("fallback", "aligned") if m in h), "")) for h in found]

    def outcome(self) -> Outcome:
        return self.of("router").config.book.take(self.now_ms + 1_000, [0])[-1]

    def serve_by(self, system: System) -> None:
        self.flag(f"reads.read={system}")
        self.run()


def test_a_read_that_the_owner_does_not_answer_is_answered_by_the_other_system_with_its_staleness() -> None:
    scene = Scene().request("mut", "one")
    scene.crash("flat")
    scene.request("read", "look")
    assert scene.pass_time(DEADLINE_MS // 2 - 1).answer("look") is None  # type: ignore[attr-defined]
    scene.pass_time(1)
    assert scene.asked("look") == [("flat", ""), ("hierarchical", "fallback")]
    assert scene.answer("look") == {
        "id": "look",
        "status": "ok",
        "epoch": "0",
        "served-by": "hierarchical",
        "fallback": "1",
        "state-version": "1",
        "stale-versions": "0",
        "stale-ms": "0",
    }
    assert scene.shown("look") == ["one"]


def test_it_counts_as_a_timeout_of_the_owner_and_not_as_the_others_success() -> None:
    scene = Scene().request("mut", "one")
    scene.of("router").config.book.take(scene.now_ms + 1, [0])
    scene.crash("flat")
    scene.request("read", "look").pass_time(DEADLINE_MS // 2)
    outcome = scene.outcome()
    assert [(a.system, a.ok, a.timeout) for a in outcome.arms if a.timeout or a.system == HIERARCHICAL] == [
        (FLAT, 0, 1)
    ]
    assert outcome.fallbacks == {HIERARCHICAL: 1}


def test_what_the_other_system_does_not_show_is_counted_and_timed() -> None:
    scene = Scene().request("mut", "one")
    scene.held.add("units.replica")
    scene.request("mut", "two").pass_time(100)
    scene.request("mut", "three")
    scene.crash("flat")
    scene.request("read", "look").pass_time(DEADLINE_MS // 2)
    answer = scene.answer("look")
    assert answer is not None
    assert (answer["state-version"], answer["stale-versions"], answer["stale-ms"]) == ("1", "2", "5100")
    assert scene.shown("look") == ["one"]


def test_the_first_answer_counts_also_if_it_is_the_owners() -> None:
    scene = Scene().request("mut", "one")
    scene.held.add("responses.flat")
    scene.request("read", "look")
    scene.held.add("responses.hierarchical")
    scene.pass_time(DEADLINE_MS // 2)
    assert scene.asked("look") == [("flat", ""), ("hierarchical", "fallback")]
    scene.held.discard("responses.flat")
    scene.run()
    scene.held.clear()
    scene.run()
    answer = scene.answer("look")
    assert answer is not None
    assert (answer["served-by"], "fallback" in answer) == ("flat", False)
    assert len(scene.answers()) == 2
    assert scene.outcome().fallbacks == {}


def test_a_request_that_changes_state_is_never_asked_for_elsewhere() -> None:
    scene = Scene().request("mut", "one")
    scene.crash("flat")
    scene.protection.tripped = frozenset({FLAT})
    scene.request("mut", "two").pass_time(DEADLINE_MS)
    assert scene.asked("two") == [("flat", "")]
    assert ("two", "timeout", "deadline") in scene.answers()


def test_while_the_owners_breaker_is_open_reads_go_to_the_other_system_alone_and_its_arm_counts_nothing() -> None:
    scene = Scene().request("mut", "one")
    scene.of("router").config.book.take(scene.now_ms + 1, [0])
    scene.protection.tripped = frozenset({FLAT})
    scene.request("read", "look")
    assert scene.asked("look") == [("hierarchical", "fallback")]
    assert scene.shown("look") == ["one"]
    outcome = scene.outcome()
    assert [a for a in outcome.arms if a.timeout or a.system != FLAT] == []
    assert outcome.fallbacks == {HIERARCHICAL: 1}


def test_nothing_is_redirected_while_both_breakers_are_open_or_one_does_not_hold_it_for_read_only() -> None:
    scene = Scene().request("mut", "one")
    scene.protection.tripped = frozenset(SYSTEMS)
    assert scene.request("read", "look").asked("look") == [("flat", "")]
    scene.protection.tripped, scene.protection.read_only = frozenset({FLAT}), frozenset()
    assert scene.request("read", "again").asked("again") == [("flat", "")]


def test_a_key_that_was_never_copied_is_no_unknown_key_the_owner_is_asked() -> None:
    scene = Scene("router", "flat", "hierarchical").request("mut", "one")  # no migrator
    scene.protection.tripped = frozenset({FLAT})
    scene.request("read", "look")
    assert scene.asked("look") == [("hierarchical", "fallback"), ("flat", "")]
    answer = scene.answer("look")
    assert answer is not None
    assert (answer["status"], answer["served-by"]) == ("ok", "flat")


def test_an_error_of_a_system_that_shows_everything_is_an_answer() -> None:
    scene = Scene().request("mut", "one").request("del", "gone")
    scene.protection.tripped = frozenset({FLAT})
    scene.request("read", "look")
    assert scene.shown("look") == []
    assert scene.asked("look") == [("hierarchical", "fallback")]


@pytest.mark.parametrize("committed", [False, True])
def test_a_successor_goes_on_with_a_read_that_had_fallen_back(committed: bool) -> None:
    scene = Scene().request("mut", "one")
    scene.crash("flat")
    scene.crash("hierarchical")
    scene.request("read", "look").pass_time(DEADLINE_MS // 2)
    assert scene.asked("look") == [("flat", ""), ("hierarchical", "fallback")]
    if committed:
        assert scene.held_by("router").commit()
    scene.crash("router")
    scene.start("router")
    scene.run()
    (entry,) = scene.of("router").in_flight.values()
    assert (entry.owner, entry.epoch) == (FLAT, 0)
    scene.start("flat")
    scene.run()
    answer = scene.answer("look")
    assert answer is not None
    assert answer["served-by"] == "flat"


def test_a_successor_forwards_a_fallback_that_its_predecessor_did_not_get_to_forward() -> None:
    scene = Scene().request("mut", "one")
    scene.held = {"responses.flat", "responses"}
    scene.request("read", "look").pass_time(DEADLINE_MS // 2)
    assert scene.asked("look") == [("flat", ""), ("hierarchical", "fallback")]
    gone = scene.held_by("router")
    assert gone.commit()
    gone.crash()
    scene.runtimes.remove(gone)  # and with it what it had sent
    scene.held = {"responses.flat"}
    scene.start("router")
    scene.run()
    answer = scene.answer("look")
    assert answer is not None
    assert (answer["served-by"], answer["fallback"]) == ("hierarchical", "1")


@pytest.mark.parametrize("answers", [True, False])
def test_a_successor_asks_the_owner_of_a_read_that_was_asked_for_elsewhere_alone(answers: bool) -> None:
    scene = Scene().request("mut", "one")
    scene.crash("hierarchical")
    scene.protection.tripped = frozenset({FLAT})
    scene.request("read", "look")
    scene.crash("router")
    scene.start("router")
    scene.run()
    (entry,) = scene.of("router").in_flight.values()
    assert entry.owner == FLAT
    if answers:
        scene.start("hierarchical")
        scene.run()
    else:
        scene.pass_time(DEADLINE_MS // 2)
        assert scene.asked("look") == [("hierarchical", "fallback"), ("flat", "")]
    assert scene.shown("look") == ["one"]


def held_up(*, copied: bool = True) -> Scene:
    """Flat does not answer a change, the key is on its way to hierarchical, the migrator is away: requests wait."""
    scene = Scene(*(ALL if copied else ALL[:3])).request("mut", "one")
    for service in ("flat", "migrator") if copied else ("flat",):
        scene.crash(service)
    scene.request("mut", "two")
    scene.route(100.0)
    scene.run()
    scene.request("mut", "three").request("read", "look")
    assert (scene.asked("look"), scene.of("router").waiting) == ([], 2)
    return scene


def test_a_read_that_waits_for_its_key_to_be_handed_over_is_answered_by_the_system_that_holds_nothing_up() -> None:
    scene = held_up()
    assert scene.pass_time(DEADLINE_MS // 2 - 1).answer("look") is None  # type: ignore[attr-defined]
    scene.pass_time(1)
    assert scene.asked("look") == [("hierarchical", "fallback")]
    answer = scene.answer("look")
    assert answer is not None
    assert (answer["served-by"], answer["fallback"], answer["state-version"]) == ("hierarchical", "1", "1")
    assert (answer["stale-versions"], answer["stale-ms"]) == ("1", "5000"), "what was dispatched, not what waits"
    assert scene.shown("look") == ["one"]
    assert (scene.asked("three"), scene.of("router").waiting) == ([], 1), "a change waits on"
    outcome = scene.outcome()
    assert [arm for arm in outcome.arms if arm.timeout] == [], "nobody was asked who did not answer"
    assert outcome.fallbacks == {HIERARCHICAL: 1}


def test_nothing_is_asked_of_a_system_whose_breaker_is_open_while_a_key_is_handed_over() -> None:
    scene = held_up()
    scene.protection.tripped = frozenset({HIERARCHICAL})
    assert scene.pass_time(DEADLINE_MS // 2).asked("look") == []  # type: ignore[attr-defined]


def test_a_waiting_read_that_is_not_answered_elsewhere_waits_on_and_overtakes_no_change() -> None:
    scene = held_up(copied=False)
    scene.pass_time(DEADLINE_MS // 2)
    assert scene.asked("look") == [("hierarchical", "fallback")]
    scene.pass_time(DEADLINE_MS // 4 + 1)
    assert (scene.answer("look"), len(scene.asked("look"))) == (None, 1), "it is asked for elsewhere once"
    scene.start("flat")
    scene.start("migrator")
    scene.run().pass_time(1)
    answer = scene.answer("look")
    assert answer is not None
    assert (answer["served-by"], "fallback" in answer) == ("hierarchical", False)
    assert scene.shown("look") == ["one", "two", "three"]


def test_a_waiting_read_that_was_not_answered_elsewhere_goes_to_its_owner_whatever_the_breakers_say_by_then() -> None:
    scene = held_up(copied=False)
    scene.pass_time(DEADLINE_MS // 2)
    scene.protection.tripped = frozenset({HIERARCHICAL})
    scene.start("flat")
    scene.start("migrator")
    scene.run().pass_time(1)
    assert scene.asked("look") == [("hierarchical", "fallback"), ("hierarchical", "")]
    assert [a for a in scene.outcome().arms if a.timeout] == [], "it was answered, if not with a state"


@pytest.mark.parametrize("answers", [True, False])
def test_a_successor_goes_on_with_a_waiting_read_that_was_asked_for_elsewhere(answers: bool) -> None:
    scene = held_up(copied=answers)
    scene.crash("hierarchical")
    scene.pass_time(DEADLINE_MS // 2)
    assert scene.held_by("router").commit()
    scene.crash("router")
    scene.start("router")
    scene.run()
    core = scene.of("router")
    assert ([e.request.id for e in core.in_flight.values()], core.waiting) == (["two", "look"], 1)
    scene.start("hierarchical")
    scene.run()
    if answers:
        assert scene.shown("look") == ["one"]
        return
    scene.pass_time(DEADLINE_MS // 4)
    assert len(scene.asked("look")) == 1, "the owner is not asked while a change waits before it"
    assert scene.held_by("router").commit()
    scene.crash("router")
    scene.start("router")
    scene.start("flat")
    scene.start("migrator")
    scene.run().pass_time(100)
    assert scene.shown("look") == ["one", "two", "three"]


def test_a_read_by_operation_waits_for_every_change_before_it_so_that_one_reads_ones_own_writes() -> None:
    scene = Scene()
    scene.serve_by(HIERARCHICAL)
    scene.request("mut", "one")
    scene.held.add("units.replica")
    scene.request("mut", "two").request("read", "look")
    assert scene.asked("look") == [("hierarchical", "aligned")]
    assert scene.pass_time(200).answer("look") is None  # type: ignore[attr-defined]
    scene.held.clear()
    scene.run()
    answer = scene.answer("look")
    assert answer is not None
    assert (answer["served-by"], "fallback" in answer) == ("hierarchical", False)
    assert scene.shown("look") == ["one", "two"]
    assert [(a.system, a.ok) for a in scene.outcome().arms if a.system == HIERARCHICAL] == [(HIERARCHICAL, 1)]


def test_a_read_by_operation_that_takes_too_long_is_served_by_the_owner() -> None:
    scene = Scene()
    scene.serve_by(HIERARCHICAL)
    scene.request("mut", "one")
    scene.held.add("units.replica")
    scene.request("mut", "two").request("read", "look").pass_time(DEADLINE_MS // 2)
    assert scene.asked("look") == [("hierarchical", "aligned"), ("flat", "")]
    assert scene.shown("look") == ["one", "two"]
    answer = scene.answer("look")
    assert answer is not None
    assert answer["served-by"] == "flat"
    assert [a.timeout for a in scene.outcome().arms if a.system == HIERARCHICAL] == [1]


def test_an_owner_asked_second_has_its_time_too_and_then_the_read_falls_back() -> None:
    scene = Scene()
    scene.serve_by(HIERARCHICAL)
    scene.request("mut", "one")
    scene.held.add("units.replica")
    scene.request("mut", "two")
    scene.crash("flat")
    scene.request("read", "look").pass_time(DEADLINE_MS // 2)
    assert scene.pass_time(DEADLINE_MS // 4 - 1).answer("look") is None  # type: ignore[attr-defined]
    scene.pass_time(1)
    assert scene.asked("look") == [("hierarchical", "aligned"), ("flat", ""), ("hierarchical", "fallback")]
    assert scene.shown("look") == ["one"]


def test_the_named_system_serves_its_own_keys_as_ever() -> None:
    scene = Scene()
    scene.serve_by(FLAT)
    assert scene.request("mut", "one").request("read", "look").asked("look") == [("flat", "")]


def test_an_operation_that_is_not_read_only_at_both_is_ignored_in_the_route_and_counted() -> None:
    scene = Scene()
    scene.flag(f"reads.mut={HIERARCHICAL}")
    scene.run()
    assert scene.request("mut", "one").asked("one") == [("flat", "")]
    assert scene.outcome().reads_ignored == 1


def test_a_key_that_the_named_system_does_not_hold_is_read_at_the_owner() -> None:
    scene = Scene("router", "flat", "hierarchical")
    scene.serve_by(HIERARCHICAL)
    scene.request("read", "look")
    assert scene.asked("look") == [("hierarchical", "aligned"), ("flat", "")]
    assert scene.shown("look") == []


def test_a_system_that_starts_again_knows_what_its_store_does_not_show() -> None:
    scene = Scene().request("mut", "one")
    scene.serve_by(HIERARCHICAL)
    scene.held.add("units.replica")
    scene.request("mut", "two")
    assert scene.held_by("hierarchical").commit()
    scene.crash("hierarchical")
    scene.start("hierarchical")
    scene.run()
    scene.request("read", "look")
    assert scene.answer("look") is None
    scene.held.clear()
    scene.run()
    assert scene.shown("look") == ["one", "two"]


def test_reads_that_nobody_waits_for_are_given_up() -> None:
    scene = Scene().request("mut", "one")
    scene.serve_by(HIERARCHICAL)
    scene.held.add("units.replica")
    scene.request("mut", "two").request("read", "look")
    core = cast("BackendCore", scene.held_by("hierarchical").core)
    assert (len(core.beside.reads), core.idle()) == (1, True)
    scene.pass_time(DEADLINE_MS)
    assert len(core.beside.reads) == 0


def test_one_read_too_many_is_asked_of_its_owner_and_what_it_waits_for_is_read_on() -> None:
    scene = Scene().request("mut", "one")
    scene.serve_by(HIERARCHICAL)
    core = cast("BackendCore", scene.held_by("hierarchical").core)
    core.config = replace(core.config, backlog=1)
    scene.held.add("units.replica")
    scene.request("mut", "two").request("read", "look").request("read", "again")
    assert len(core.beside.reads) == 1
    assert core.wants("dispatched")
    assert scene.shown("again") == ["one", "two"], "by its owner"


def test_a_system_refuses_what_may_change_its_state_and_what_it_never_held() -> None:
    request = wire.Dispatched("i", "read", 0, 0, 0, FLAT, None, 0, None, None, fallback=True)
    read = Read(KEY, request, b"", 0, held=Held(1, {}, 0, 0))
    assert read.refusal({"read"}) is None
    assert read.refusal({"look"}) == "not-read-only"
    assert Read(KEY, request, b"", 0, held=NOTHING).refusal({"read"}) == "not-held"


def test_what_a_system_made_is_missing_to_its_successor_until_it_was_read_back() -> None:
    freshness = Freshness()
    freshness.dispatched(KEY, 3, 10, 0.0)
    freshness.applied(KEY, 3, own=1)
    assert (freshness.stale(KEY, 5.0), freshness.oldest()) == ((0, 0), 10)
    freshness.proven(0)
    assert freshness.oldest() == 10
    freshness.proven(1)
    assert freshness.oldest() is None


EVENTS = st.lists(st.tuples(st.booleans(), st.sampled_from((b"a", b"b")), st.integers(0, 6)), max_size=40)


@given(EVENTS)
def test_freshness_is_what_was_dispatched_and_is_not_shown(events: list[tuple[bool, bytes, int]]) -> None:
    freshness, model = Freshness(), list[tuple[bytes, int, int]]()
    for offset, (dispatched, key, position) in enumerate(events):
        if dispatched:
            freshness.dispatched(key, position, offset, float(offset))
            model.append((key, position, offset))
        else:
            freshness.applied(key, position)
            model = [m for m in model if m[0] != key or m[1] > position]
        for name in (b"a", b"b"):
            missing = [m for m in model if m[0] == name]
            assert freshness.newest(name) == max((m[1] for m in missing), default=None)
            age = offset - min(m[2] for m in missing) if missing else 0
            assert freshness.stale(name, float(offset)) == (len({m[1] for m in missing}), age)
        assert freshness.oldest() == min((m[2] for m in model), default=None)
    freshness.expire(len(events) + HELD_MS)
    assert freshness.oldest() is None
