"""What the router makes of shadows and twins: counts, divergences, latencies."""

from typing import Any

import msgspec
import pytest

from hal9.compare import RuleBook
from hal9.compare.loading import parse
from hal9.stats.sketch import bucket
from hal9.wire import Request, Response
from schemas.base import FLAT, HIERARCHICAL, System, decode
from schemas.reports import Divergence, divergence_decoder
from schemas.telemetry import Outcome
from services.router.comparison import Comparer, Report, judged
from services.router.core import RouterCore
from services.router.entry import Entry
from services.router.keybook import Key
from services.router.outcomes import MAX_NOISE, OutcomeBook
from services.router.reported import state_fields
from services.router.twins import MAX_TWINS, Twins
from simulation.stage import Stage

pack = msgspec.msgpack.encode
DEADLINE_MS = 10_000


class Bench:
    """A comparer, and requests to it."""

    def __init__(self, rules: RuleBook | None = None, *, twins: bool = True) -> None:
        self.book = OutcomeBook("r")
        book = rules or RuleBook()
        made = Twins("hal9", self.book, book, judged)
        self.comparer = Comparer(3, self.book, book, 2_000, made)
        self.found: list[Divergence] = []
        self._position, self._bound = 0, 10_000 if twins else 0

    def ask(self, owner: System = FLAT, operation: str = "ask") -> Entry:
        self._position += 1
        request = Request(f"id-{self._position}", operation, DEADLINE_MS, None, [])
        entry = Entry(self._position, b"n", Key("n", 0, 0, None), request, b"", 0.0, 0)
        entry.owner, entry.epoch, entry.received_ms = owner, 4, 100.0
        self.comparer.expect(entry, HIERARCHICAL if owner == FLAT else FLAT, self._bound)
        return entry

    def answer(self, entry: Entry, value: Any, *, version: int = 1) -> None:
        read = Response(entry.position, entry.epoch, b"primary", "ok", None, version, None, 0, pack(value))
        self._take(self.comparer.primary(entry, read, 500.0))

    def response(
        self,
        entry: Entry,
        value: Any,
        *,
        role: bytes = b"shadow",
        error: bytes | None = None,
        version: int = 1,
        diff: bytes | None = None,
        now_ms: float = 500.0,
    ) -> None:
        system: System = FLAT if role == b"twin" or entry.owner == HIERARCHICAL else HIERARCHICAL
        status = "ok" if error is None else "error"
        read = Response(entry.position, entry.epoch, role, status, error, version, diff, 0, pack(value))
        self._take(self.comparer.shadow(system, read, now_ms))

    def _take(self, reports: Any) -> None:
        self.found += [decode(divergence_decoder, value) for _, value in list[Report](reports)]

    def outcome(self) -> Outcome:
        (outcome,) = self.book.take(1_000, [])
        return outcome


def noise(outcome: Outcome) -> dict[tuple[str, str, str], tuple[int, int, int]]:
    return {(n.operation, n.kind, n.path): (n.both, n.shadow, n.twin) for n in outcome.noise}


def test_a_pair_is_counted_by_the_fields_in_which_shadow_and_twin_differ() -> None:
    bench = Bench()
    for shadow, twin in [((1, 0), (2, 0)), ((1, 0), (0, 0)), ((0, 5), (0, 0)), ((0, 0), (1, 0)), ((0, 0), (0, 0))]:
        entry = bench.ask()
        bench.answer(entry, {"noise": [0.0, 0], "sum": 0})
        bench.response(entry, {"noise": [0.0, twin[0]], "sum": twin[1]}, role=b"twin")
        bench.response(entry, {"noise": [0.0, shadow[0]], "sum": shadow[1]})
    outcome = bench.outcome()
    assert outcome.pairs == {"ask": 5}
    assert noise(outcome) == {("ask", "value", "noise.*"): (1, 1, 1), ("ask", "value", "sum"): (0, 1, 0)}
    assert (outcome.twin_ok, outcome.shadow_ok) == (5, {"hierarchical": 5})
    assert len(bench.comparer) == len(bench.comparer.twins) == 0


@pytest.mark.parametrize("order", ["asw", "aws", "saw", "swa", "was", "wsa"])
@pytest.mark.parametrize("owner", [FLAT, HIERARCHICAL])
def test_primary_shadow_and_twin_may_answer_in_any_order(order: str, owner: System) -> None:
    bench = Bench()
    entry = bench.ask(owner)
    flat, hierarchical, twin = {"x": 1, "y": 1}, {"x": 2, "y": 1}, {"x": 1, "y": 2}
    primary, shadow = (flat, hierarchical) if owner == FLAT else (hierarchical, flat)
    for who in order:
        match who:
            case "a":
                bench.answer(entry, primary)
            case "s":
                bench.response(entry, shadow)
            case "w":
                bench.response(entry, twin, role=b"twin")
    assert noise(bench.outcome()) == {("ask", "value", "x"): (0, 1, 0), ("ask", "value", "y"): (0, 0, 1)}
    assert [(f.flat, f.hierarchical) for f in bench.found[0].fields] == [(1, 2)]


def test_what_could_not_be_compared_makes_no_pair() -> None:
    bench = Bench()
    for version, twin_version, error in [(2, 1, None), (1, 2, None), (1, 1, b"incomparable")]:
        entry = bench.ask()
        bench.answer(entry, 1)
        bench.response(entry, 2, version=version, error=error)
        bench.response(entry, 3, role=b"twin", version=twin_version)
    late = bench.ask()
    bench.answer(late, 1)
    bench.response(late, 2)
    list(bench.comparer.expire(DEADLINE_MS + 2_000))
    bench.response(late, 2, role=b"twin")
    gone = bench.ask()
    list(bench.comparer.abandon(gone, 1.0))
    bench.response(gone, 2, role=b"twin")
    assert bench.outcome().pairs == {}
    assert len(bench.comparer.twins) == 0


def test_a_twin_of_an_earlier_dispatch_says_nothing_of_a_later_one() -> None:
    bench = Bench()
    entry = bench.ask()
    bench.response(entry, 3, role=b"twin")
    entry.epoch = 5
    bench.comparer.expect(entry, HIERARCHICAL, 10_000)
    bench.answer(entry, 1)
    bench.response(entry, 2)
    early = Response(entry.position, 4, b"twin", "ok", None, 1, None, 3, pack(1))
    list(bench.comparer.shadow(FLAT, early, 500.0))
    assert len(bench.comparer.twins) == 1
    bench.response(entry, 1, role=b"twin")
    assert noise(bench.outcome()) == {("ask", "value", ""): (0, 1, 0)}


def test_the_time_a_record_needs_to_be_read_back_is_not_the_shadows() -> None:
    stage = Stage("router", "flat", "hierarchical", "migrator")
    stage.route(0, shadow=100)
    stage.run()
    stage.held.add("dispatched")
    stage.ask(b"a0", "read", name="one")
    stage.run().pass_time(300)
    stage.held = {"responses.hierarchical"}
    stage.run().pass_time(50)
    stage.held = set()
    stage.run()
    core = stage.runtimes[0].core
    assert isinstance(core, RouterCore)
    outcomes = core.config.book.take(stage.now_ms + 2_000, [])
    (sketch,) = [o.shadow_latency_us["hierarchical"] for o in outcomes if o.shadow_latency_us]
    assert sketch == {bucket(50_000): 1}


def test_a_difference_of_the_state_is_found_beside_one_of_the_answer() -> None:
    bench = Bench()
    entry = bench.ask()
    bench.answer(entry, {"x": 1})
    bench.response(
        entry, {"x": 2}, diff=b'[{"path": "memory.n", "flat": 1, "hierarchical": 2, "rule": "exact"}, "bias"]'
    )
    bench.response(entry, {"x": 2}, role=b"twin", diff=b"[]")
    assert [(d.kind, [f.path for f in d.fields]) for d in bench.found] == [
        ("value", ["x"]), ("state", ["memory.n", "bias"]),
    ]  # fmt: skip
    outcome = bench.outcome()
    assert outcome.comparisons[4].divergent == 1
    assert bench.book.divergences == {"value": 1, "state": 1}
    assert noise(outcome) == {
        ("ask", "value", "x"): (1, 0, 0),
        ("ask", "state", "memory.n"): (0, 1, 0),
        ("ask", "state", "bias"): (0, 1, 0),
    }


def test_a_failure_of_one_side_is_a_field_of_its_own() -> None:
    bench = Bench()
    entry = bench.ask()
    bench.answer(entry, 1)
    bench.response(entry, 1, error=b"boom")
    bench.response(entry, 1, role=b"twin")
    assert [(d.kind, d.fields[0].path, d.fields[0].hierarchical) for d in bench.found] == [
        ("status", "status", "error: boom")
    ]
    outcome = bench.outcome()
    assert noise(outcome) == {("ask", "status", "status"): (0, 1, 0)}
    assert outcome.comparisons[4].one_sided == 1
    assert outcome.shadow_errors == {"hierarchical": 1}


def test_the_latency_of_a_shadow_runs_from_its_dispatch_to_its_response_by_system() -> None:
    bench = Bench(twins=False)
    for owner, dispatched_ms, now_ms in [
        (FLAT, 300.0, 500.0),
        (HIERARCHICAL, 480.0, 500.0),
        (HIERARCHICAL, 0.0, 500.0),
    ]:
        entry = bench.ask(owner)
        entry.dispatched_ms = dispatched_ms
        bench.response(entry, 1, now_ms=now_ms)
    waited = bench.ask()
    bench.response(waited, 1, error=b"incomparable")
    latency = {system: sorted(sketch) for system, sketch in bench.outcome().shadow_latency_us.items()}
    assert latency == {
        "hierarchical": [bucket(200_000)],
        "flat": [bucket(20_000), bucket(400_000)],
    }, "it ran, or it is not counted; before it was read back, the time since the request was read is"


def test_rules_hold_for_answers_of_their_operation() -> None:
    rules = parse("rules: [{path: took, ignore: true, until: 2027-01-01, operations: [ask]}]", "-")
    bench = Bench(rules, twins=False)
    for operation in ("ask", "tell"):
        entry = bench.ask(operation=operation)
        bench.answer(entry, {"took": 1})
        bench.response(entry, {"took": 2})
    assert [d.operation for d in bench.found] == ["tell"]


def test_what_the_shadow_reports_is_hidden_here_too() -> None:
    rules = parse("rules: [{path: state.card.*, redact: true}]", "-")
    diff = b'[{"path": "card.no", "flat": "4929", "hierarchical": "hmac:1", "rule": "exact"}, {"path": "x", "flat": 1}]'
    card, other = state_fields(diff, rules, "ask")
    assert card.hierarchical == "hmac:1"
    assert "4929" not in repr(card)
    assert (other.path, other.flat) == ("x", 1)
    whole = b'[{"path": "card", "flat": "{\'no\': 4929}"}]'
    assert "4929" not in repr(state_fields(whole, rules, "ask"))
    assert [f.path for f in state_fields(b"nonsense", rules, "ask")] == ["(state)"]
    assert [f.path for f in state_fields(b"[" * 5000, rules, "ask")] == ["(state)"]


def test_under_pressure_twins_are_left_out_and_counted() -> None:
    bench = Bench()
    asked = [bench.ask() for _ in range(MAX_TWINS + 5)]
    assert [entry.twin for entry in asked].count(True) == MAX_TWINS
    assert bench.book.twins_dropped == 5


def test_the_fields_counted_in_one_second_are_bounded() -> None:
    book = OutcomeBook("r")
    for i in range(MAX_NOISE + 10):
        book.paired("ask", {("value", f"k{i}")}, set(), 1.0)
    for i in range(MAX_NOISE + 10):
        book.paired(f"o{i}", set(), set(), 1.0)
    (outcome,) = book.take(1_000, [])
    assert len(outcome.noise) == MAX_NOISE
    assert len(outcome.pairs) == MAX_NOISE
    assert book.twins_dropped == 10 + 11


def test_keys_with_twins_are_a_share_of_their_own() -> None:
    book = OutcomeBook("r")
    twins = Twins("hal9", book, RuleBook(), judged)
    picked = 0
    for i in range(1_000):
        entry = Entry(i, b"key-%d" % i, Key(f"key-{i}", 0, 0, None), Request("x", "ask", 1, None, []), b"", 0.0, 0)
        picked += twins.expect(entry, 2_500)
    assert 180 < picked < 320
