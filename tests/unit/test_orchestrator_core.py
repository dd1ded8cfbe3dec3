"""The walk: every step journalled before it is taken, resumed from any prefix of the log, never promoted on silence."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hal9.control.plan import Plan, parse
from hal9.control.reducer import ControlState, Outcome, fold
from schemas.base import SYSTEMS, encode
from schemas.control import AnyControl, Freeze, Journal, Pin, Rollback, Settled, Start
from schemas.control import Route as RouteRecord
from schemas.reports import Quarantined
from schemas.telemetry import Arm, Comparisons, Status
from schemas.telemetry import Outcome as RouterOutcome
from services.orchestrator.core import Append, Hold, Returning, begin, decide
from services.orchestrator.evidence import Evidence

PLAN = parse(
    """
name: test
phases:
  - phase: shadow
    shadow: 100
    gates: {min_requests: 20, min_comparisons: 20, soak_s: 2}
  - phase: canary
    steps: [1, 5, 10, 25]
    gates: {min_requests: 20, min_comparisons: 20, soak_s: 2}
""",
    "test",
)
PARTITIONS = 3
TICK_MS = 500
WALK = [
    ("start", None),
    ("journal", ("shadow", 0, "entered")),
    ("journal", ("shadow", 0, "routed")),
    ("route", 0),
    ("journal", ("shadow", 0, "waiting")),
    ("journal", ("shadow", 0, "passed")),
]
for _index, _percentage in enumerate([1, 5, 10, 25]):
    WALK += [
        ("journal", ("canary", _index, "entered")),
        ("backfill", _percentage),
        ("journal", ("canary", _index, "routed")),
        ("route", _percentage),
        ("journal", ("canary", _index, "waiting")),
        ("journal", ("canary", _index, "passed")),
    ]
WALK += [("journal", ("canary", 3, "finished"))]


class World:
    """A control log, and services that do their part one partition at a time."""

    def __init__(self, log: list[bytes] | None = None) -> None:
        self.log: list[bytes] = []
        self.state = ControlState("hal9")
        self.accepted: list[AnyControl] = []
        self.now_ms = 1_000_000
        self.instances: list[Instance] = []
        self.backfilled = dict.fromkeys(range(PARTITIONS), 0.0)
        self.marked = dict.fromkeys(range(PARTITIONS), 0)
        self.seq = self.numbered = 0
        self.settles = self.reports = True
        self.failing = self.differing = self.flat_failing = 0
        self.dead: set[str] = set()
        for value in log or []:
            self.fold(value)
        if self.accepted:
            self.now_ms = self.accepted[-1].at_ms

    def fold(self, value: bytes) -> Outcome:
        self.log.append(value)
        outcome = fold(self.state, len(self.log) - 1, value)
        if outcome.verdict == "accepted" and outcome.record is not None:
            self.accepted.append(outcome.record)
        return outcome

    def append(self, kind: type[Any], **fields: Any) -> Outcome:
        self.numbered += 1
        name = f"w{self.numbered}/{len(self.log)}"
        return self.fold(encode(kind(id=name, migration="hal9", actor="world", at_ms=self.now_ms, **fields)))

    def rollback(self, **fields: Any) -> Outcome:
        return self.append(Rollback, **({"expected_epoch": self.state.epoch, "trigger": "manual"} | fields))

    def tick(self) -> None:
        """Half a second passes: every service moves by one partition and says so."""
        self.now_ms += TICK_MS
        for p in range(PARTITIONS):
            if self.backfilled[p] < self.state.backfill:
                self.backfilled[p] = self.state.backfill
                break
        for p in range(PARTITIONS):
            self.marked[p] = self.state.epoch
            behind = max(self.state.settled.get(p, {}), default=0) < self.state.epoch
            if behind and self.settles:
                self.append(Settled, partition=p, epoch=self.state.epoch, seals={"flat": 1, "hierarchical": 1})
                break
        for status in self.statuses():
            for instance in self.instances:
                instance.evidence.status(status, self.now_ms)
        if self.reports and self.now_ms % 1000 == 0:
            outcome = self.outcome()
            for instance in self.instances:
                instance.evidence.outcome(outcome, self.now_ms)

    def statuses(self) -> list[Status]:
        services = [
            Status(instance="r", service="router", at_ms=0, epochs=dict(self.marked)),
            Status(instance="m", service="migrator", at_ms=0, backfilled=dict(self.backfilled)),
            *(Status(instance=s, service=s, at_ms=0) for s in SYSTEMS),
            *(Status(instance=i.name, service="orchestrator", at_ms=0) for i in self.instances if i.alive),
        ]
        return [status for status in services if status.instance not in self.dead]

    def outcome(self) -> RouterOutcome:
        self.seq += 1
        epoch, moved = self.state.epoch, self.state.route.bound > 0
        arms = [Arm(system="flat", epoch=epoch, ok=10 - self.flat_failing, error=self.flat_failing)]
        if moved:
            arms.append(Arm(system="hierarchical", epoch=epoch, ok=10 - self.failing, timeout=self.failing))
        compared = {
            epoch: Comparisons(equal=10 - self.differing, one_sided=self.differing, both_failed=50, incomparable=9)
        }
        return RouterOutcome(router="r", seq=self.seq, at_ms=self.now_ms - 1000, arms=arms, comparisons=compared)

    def walked(self) -> list[tuple[str, object]]:
        """What the orchestrators wrote, in order."""
        said: list[tuple[str, object]] = []
        for record in self.accepted:
            match record:
                case Start():
                    said.append(("start", None))
                case Journal():
                    said.append(("journal", (record.phase, record.step, record.state)))
                case Settled() | Pin() | Freeze():
                    pass
                case Rollback():
                    said.append(("rollback", record.trigger))
                case _:
                    said.append((type(record).__name__.lower(), record.percentage))
        return said

    def run(self, ticks: int = 400) -> "World":
        """Let everybody act in turn until nothing more is to be done."""
        for _ in range(ticks):
            self.tick()
            for instance in self.instances:
                if instance.alive:
                    instance.act()
            if self.state.journal and self.state.journal[-1].state == "finished":
                break
        return self


def enough(world: World) -> list[Arm]:
    return [Arm(system=system, epoch=world.state.epoch, ok=500) for system in SYSTEMS]


def agreed(world: World) -> dict[int, Comparisons]:
    return {world.state.epoch: Comparisons(equal=500)}


class Instance:
    """One orchestrator: folds the log by itself, acts on what it has folded."""

    def __init__(self, world: World, name: str) -> None:
        self.world, self.name, self.alive = world, name, True
        self.state = ControlState("hal9")
        self.evidence = Evidence(world.now_ms)
        self.held: list[str] = []
        self.refused = 0
        self.ways: list[tuple[bool, bool]] = []
        world.instances.append(self)

    def catch_up(self) -> None:
        for offset in range(self.state.position, len(self.world.log)):
            fold(self.state, offset, self.world.log[offset])

    def act(self, limit: int = 20) -> None:
        """Decide and append until there is nothing to append."""
        for _ in range(limit):
            self.catch_up()
            if not self.once():
                return
        pytest.fail(f"{self.name} appends without end: {self.world.walked()[-5:]}")

    def once(self) -> bool:
        """One decision on what was folded so far; whether it was an append."""
        if self.state.plan is None:
            start = begin(self.state, PLAN, PARTITIONS, self.world.now_ms, self.name)
            self.refused += self.world.fold(encode(start)).verdict != "accepted"
            return True
        [action] = decide(self.state, PLAN, self.evidence, self.world.now_ms, self.name)
        match action:
            case Append():
                self.refused += self.world.fold(encode(action.record)).verdict != "accepted"
                return True
            case Hold():
                if self.held[-1:] != [action.why]:
                    self.held.append(action.why)
            case Returning():
                self.ways.append((action.way.acknowledged, action.way.safe))
        return False


def walked_to(entry: tuple[str, int, str]) -> tuple[World, Instance]:
    """A walk that has just written `entry`, its orchestrator with it."""
    world = World()
    instance = Instance(world, "one")
    for _ in range(400):
        world.tick()
        for _ in range(20):
            instance.catch_up()
            if world.walked()[-1:] == [("journal", entry)]:
                return world, instance
            if not instance.once():
                break
    pytest.fail(f"never came to {entry}: {world.walked()}")


def test_the_walk_goes_through_every_step_and_journals_before_it_acts() -> None:
    world = World()
    one = Instance(world, "one")
    world.run()
    assert world.walked() == WALK
    assert (world.state.route.percentage, world.state.epoch, world.state.frozen, one.refused) == (25, 5, None, 0)
    assert world.state.route.shadow_bound == 10_000
    one.act()
    assert one.held[-1] == "the plan is done"


WHOLE = World()
Instance(WHOLE, "first")
WHOLE.run()


@pytest.mark.parametrize("length", range(1, len(WHOLE.log)))
def test_after_a_crash_at_any_point_of_the_log_the_walk_is_the_same(length: int) -> None:
    world = World(WHOLE.log[:length])
    Instance(world, "second")
    world.run()
    assert world.walked() == WALK


def test_nobody_walks_in_the_place_of_an_orchestrator_that_was_not_listened_for() -> None:
    world = World(WHOLE.log[:10])
    second = Instance(world, "second")
    for _ in range(3):
        world.tick()
        second.act()
    assert len(world.walked()) == sum(record.actor == "first" for record in world.accepted)
    assert second.held == ["standing by: first walks"]


@given(st.lists(st.integers(0, 2), min_size=60, max_size=60), st.integers(0, 40))
def test_of_several_orchestrators_one_walks_and_the_others_stand_by(turns: list[int], killed_at: int) -> None:
    world = World()
    instances = [Instance(world, name) for name in ("one", "two", "three")]
    for number, turn in enumerate(turns):
        if number == killed_at:
            instances[0].alive = False
        if number % 3 == 0:
            world.tick()
        chosen = instances[turn]
        if chosen.alive:
            chosen.once()
        for instance in instances[: turn + 1]:  # the others lag behind
            instance.catch_up()
    world.run()
    # A backfill has no compare-and-set and needs none: asked for twice it is done once.
    walked = world.walked()
    assert [said for said, before in zip(walked, [None, *walked], strict=False) if said != before] == WALK


def test_one_that_stands_by_takes_over_when_the_heartbeat_of_the_other_stops() -> None:
    world, one = walked_to(("canary", 1, "routed"))
    two = Instance(world, "two")
    for _ in range(20):
        world.tick()
        two.act()
    assert two.held == ["standing by: one walks"]
    one.alive = False
    world.run()
    assert world.walked() == WALK
    assert {record.actor for record in world.accepted if isinstance(record, Journal)} == {"one", "two"}


@pytest.mark.parametrize("length", range(2, len(WHOLE.log), 3))
def test_after_a_rollback_at_any_point_nothing_is_promoted_and_the_way_back_is_watched(length: int) -> None:
    world = World(WHOLE.log[:length])
    world.settles = False
    second = Instance(world, "second")
    assert world.rollback().verdict == "accepted"
    before = world.walked()
    world.marked = dict.fromkeys(range(PARTITIONS), 0)
    second.act()
    for _ in range(4):
        world.tick()
        second.act()
    world.settles = True
    for _ in range(6):
        world.tick()
        second.act()
    assert world.walked() == before
    assert second.ways[0] == (False, False)
    assert (True, False) in second.ways
    assert second.ways[-1] == (True, True)


def test_errors_of_hierarchical_fail_the_step_and_roll_back() -> None:
    world, one = walked_to(("canary", 1, "waiting"))
    world.failing = 4
    world.run(30)
    assert world.walked()[-2:] == [("journal", ("canary", 1, "failed")), ("rollback", "gate")]
    rollback = next(r for r in world.accepted if isinstance(r, Rollback))
    assert rollback.evidence["hierarchical"]["failed"] > 0
    assert (world.state.route.percentage, one.ways[-1]) == (0, (True, True))


def test_divergences_beyond_the_bound_fail_the_step() -> None:
    world, _ = walked_to(("canary", 0, "waiting"))
    world.differing = 2
    world.run(30)
    assert world.walked()[-2:] == [("journal", ("canary", 0, "failed")), ("rollback", "gate")]


def test_a_failed_shadow_phase_moves_nothing_back_because_nothing_was_moved() -> None:
    world, one = walked_to(("shadow", 0, "waiting"))
    world.differing = 2
    world.run(30)
    assert world.walked()[-1] == ("journal", ("shadow", 0, "failed"))
    assert one.held[-1] == "shadow step 0 (0 %): failed its gates, nothing was moved"
    assert begin(world.state, PLAN, PARTITIONS, 0, "x").expected_epoch == world.state.epoch
    assert world.append(Start, expected_epoch=world.state.epoch, partitions=PARTITIONS, plan={}).verdict == "accepted"


@pytest.mark.parametrize("length", range(1, len(WHOLE.log)))
def test_a_crash_between_a_failed_gate_and_its_rollback_does_not_lose_the_rollback(length: int) -> None:
    last = WHOLE.accepted[length - 1]
    if not (isinstance(last, Journal) and last.state == "waiting" and last.phase == "canary"):
        return
    world = World(WHOLE.log[:length])
    entry = {"phase": last.phase, "step": last.step, "percentage": last.percentage, "state": "failed"}
    assert world.append(Journal, expected_entry=len(world.state.journal), **entry).verdict == "accepted"
    Instance(world, "second")
    world.run(20)
    assert (world.walked()[-1], world.state.route.percentage) == (("rollback", "gate"), 0)


def test_when_flat_is_just_as_sick_the_step_waits_and_does_not_roll_back() -> None:
    world, one = walked_to(("canary", 1, "waiting"))
    world.failing = world.flat_failing = 4
    world.run(30)
    assert world.walked()[-1] == ("journal", ("canary", 1, "waiting"))
    assert "flat fails too" in one.held[-1]


def test_when_flat_is_sick_in_the_shadow_phase_nothing_moves() -> None:
    world, one = walked_to(("shadow", 0, "waiting"))
    world.flat_failing = 4
    world.run(30)
    assert world.walked()[-1] == ("journal", ("shadow", 0, "waiting"))
    assert "flat failed" in one.held[-1]


def test_silence_is_not_success() -> None:
    world, one = walked_to(("canary", 1, "waiting"))
    world.reports = False
    world.run(200)
    assert world.walked()[-1] == ("journal", ("canary", 1, "waiting"))
    assert "fewer than 20" in one.held[-1]


def test_silence_after_enough_evidence_does_not_let_the_soak_go_on() -> None:
    world, one = walked_to(("canary", 1, "waiting"))
    settled_ms = world.now_ms
    first_s = -(-settled_ms // 1000)
    plenty = RouterOutcome(router="r", seq=9999, at_ms=first_s * 1000, arms=enough(world), comparisons=agreed(world))
    one.evidence.outcome(plenty, world.now_ms)
    world.reports = False
    world.run(200)
    assert world.walked()[-1] == ("journal", ("canary", 1, "waiting"))
    assert f"canary step 1 (5 %): soaked for {first_s + 1 - settled_ms / 1000:.1f} of 2 s" in one.held  # nothing else
    assert "no router reports results" in one.held[-1]


def test_errors_of_an_earlier_epoch_are_not_blamed_on_the_step() -> None:
    world, one = walked_to(("canary", 1, "waiting"))
    stale = [Arm(system="hierarchical", epoch=world.state.epoch - 1, error=500)]
    for number in range(8):
        one.evidence.outcome(
            RouterOutcome(router="late", seq=number, at_ms=world.now_ms + 500 * number, arms=stale), world.now_ms
        )
    world.run()
    assert world.walked() == WALK


def test_a_quarantined_record_beyond_the_bound_fails_the_step_and_what_users_sent_does_not_count() -> None:
    world, one = walked_to(("canary", 1, "waiting"))
    users = Quarantined(service="router", topic="requests", partition=0, offset=1, reason="bad-key", at_ms=world.now_ms)
    one.evidence.quarantined(users)
    ours = Quarantined(service="migrator", topic="neurons.changes", partition=0, offset=1, reason="schema", at_ms=1)
    one.evidence.quarantined(ours)  # long before this walk began
    world.run(2)
    assert world.walked()[-1] == ("journal", ("canary", 1, "waiting"))
    one.evidence.quarantined(
        Quarantined(**{f: getattr(ours, f) for f in ours.__struct_fields__} | {"at_ms": world.now_ms, "offset": 2})
    )
    world.run(20)
    assert world.walked()[-1] == ("rollback", "gate")


def test_while_frozen_nothing_is_promoted_and_a_start_walks_on_without_lowering_the_route() -> None:
    world, one = walked_to(("canary", 2, "waiting"))
    world.append(Freeze, expected_epoch=world.state.epoch, trigger="silence", reason="no telemetry")
    world.run(40)
    assert world.walked()[-1] == ("journal", ("canary", 2, "waiting"))
    assert one.held[-1] == "frozen: no telemetry"
    world.append(Start, expected_epoch=world.state.epoch, partitions=PARTITIONS, plan=PLAN.tree())
    began = len(world.walked())
    world.run()
    routes = [said for said in world.walked()[began:] if said[0] == "route"]
    skipped = [
        said for said in world.walked()[began:] if said in [("journal", ("canary", i, "passed")) for i in (0, 1)]
    ]
    assert routes == [("route", 10), ("route", 10), ("route", 25)]
    assert len(skipped) == 2
    assert world.state.route.percentage == 25


def test_a_regression_rolls_back_even_while_frozen() -> None:
    world, _ = walked_to(("canary", 2, "waiting"))
    world.append(Freeze, expected_epoch=world.state.epoch, trigger="silence")
    world.failing = 5
    world.run(40)
    assert world.walked()[-1] == ("rollback", "gate")


def test_a_pin_makes_a_new_epoch_and_the_step_goes_on_once_it_is_settled() -> None:
    world, one = walked_to(("canary", 1, "waiting"))
    for _ in range(3):
        world.tick()
    world.settles = False
    world.append(Pin, keys=["a"])
    world.run(20)
    assert world.walked()[-1] == ("journal", ("canary", 1, "waiting"))
    assert "3 of 3 partitions have not settled" in one.held[-1]
    world.settles = True
    world.run()
    assert world.walked() == WALK


def test_a_pin_moves_no_key_so_the_evidence_from_before_it_stays() -> None:
    world, one = walked_to(("canary", 1, "waiting"))
    feed_a_whole_soak(world, one)
    world.append(Pin, keys=["a"])
    for partition in range(PARTITIONS):
        world.append(Settled, partition=partition, epoch=world.state.epoch, seals={"flat": 1})
    one.act()
    assert ("journal", ("canary", 1, "passed")) in world.walked()


def test_no_soak_begins_before_every_partition_has_settled() -> None:
    world, one = walked_to(("canary", 1, "routed"))
    world.settles = False
    for _ in range(10):
        world.tick()
        one.act()
    assert world.walked()[-1] == ("route", 5)
    for partition in range(PARTITIONS):
        assert one.held[-1] == f"canary step 1 (5 %): {PARTITIONS - partition} of 3 partitions have not settled"
        world.append(Settled, partition=partition, epoch=world.state.epoch, seals={"flat": 1})
        one.act()
    assert world.walked()[-1] == ("journal", ("canary", 1, "waiting"))


def feed_a_whole_soak(world: World, one: Instance) -> None:
    """Good outcomes of the two seconds after now, from a router that is alive."""
    first_s = -(-world.now_ms // 1000)
    for second in range(first_s, first_s + 2):
        world.now_ms = second * 1000 + 1000
        one.evidence.outcome(
            RouterOutcome(
                router="r", seq=9000 + second, at_ms=second * 1000, arms=enough(world), comparisons=agreed(world)
            ),
            world.now_ms,
        )


def test_a_pin_between_journal_and_route_costs_one_refusal() -> None:
    world, one = walked_to(("canary", 1, "routed"))
    world.append(Pin, keys=["a"])
    one.once()
    assert one.refused == 1
    world.run()
    assert world.walked() == WALK


def test_a_route_that_somebody_else_changed_is_theirs_to_take_back() -> None:
    world, one = walked_to(("canary", 1, "waiting"))
    world.append(RouteRecord, expected_epoch=world.state.epoch, percentage=2.0)
    world.run(40)
    assert one.held[-1] == "canary step 1 (5 %): the route was changed to 2 % by somebody else"
    world.append(RouteRecord, expected_epoch=world.state.epoch, percentage=5.0)
    world.run()
    assert world.state.route.percentage == 25


@pytest.mark.parametrize("missing", ["r", "m", "flat", "hierarchical"])
def test_no_step_begins_without_a_heartbeat_of_every_service(missing: str) -> None:
    world, one = walked_to(("canary", 0, "passed"))
    world.dead.add(missing)
    for _ in range(6):  # until its last heartbeat is old
        world.tick()
    world.run(20)
    assert world.walked()[-1] == ("journal", ("canary", 0, "passed"))
    assert "no heartbeat of" in one.held[-1]
    world.dead.clear()
    world.run()
    assert world.walked() == WALK


def test_a_step_waits_for_every_partition_to_be_backfilled() -> None:
    world, one = walked_to(("canary", 1, "entered"))
    world.dead.add("m")
    for _ in range(6):
        world.tick()
    world.run(20)
    assert world.walked()[-1] == ("backfill", 5)
    assert one.held[-1] == "canary step 1 (5 %): 3 of 3 partitions are not backfilled to it"


def test_a_rollback_that_lands_between_decision_and_append_wins() -> None:
    world, one = walked_to(("canary", 1, "routed"))
    world.rollback()
    one.once()  # decided on what it had folded: the route
    assert world.state.route.percentage == 0
    assert one.refused == 1
    one.act()
    assert one.ways


def test_without_a_plan_there_is_nothing_to_do() -> None:
    evidence = Evidence(0)
    state = ControlState("hal9")
    assert decide(state, None, evidence, 0, "me") == [Hold("no migration is started")]
    state.plan = {"name": "from a newer version"}
    assert decide(state, None, evidence, 0, "me") == [Hold("the plan of the start cannot be walked")]


def test_a_journal_of_another_plan_is_not_walked_on() -> None:
    world, _ = walked_to(("canary", 3, "entered"))
    short = Plan(name="short", phases=PLAN.phases[:1])
    evidence = Evidence(0)
    assert decide(world.state, short, evidence, 10_000, "me") == [Hold("the journal does not fit the plan")]
