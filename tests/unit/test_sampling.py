"""How many divergences are written: the first ones of each class always, a flood of one hides no other."""

import msgspec

from hal9.compare import RuleBook
from hal9.wire import Request, Response
from schemas.base import FLAT, HIERARCHICAL, decode
from schemas.reports import DivergenceKind, FieldDifference, divergence_decoder
from services.router.comparison import Comparer, judged
from services.router.entry import Entry
from services.router.keybook import Key
from services.router.outcomes import OutcomeBook
from services.router.sampling import MAX_BUCKETS, MAX_NAMED, Sampling
from services.router.twins import Twins

pack = msgspec.msgpack.encode


def field(path: str, rule: str = "exact") -> FieldDifference:
    return FieldDifference(path=path, flat=1, hierarchical=2, rule=rule)


def admitted(
    sampling: Sampling,
    count: int,
    *paths: str,
    kind: DivergenceKind = "value",
    at_ms: float = 0.0,
    spread_ms: float = 0.0,
) -> int:
    """Of `count` divergences in these fields, evenly over some time."""
    fields = [field(path) for path in paths]
    return sum(sampling.admits("ask", kind, fields, at_ms + n * spread_ms / count) for n in range(count))


def test_of_each_class_a_burst_and_then_so_many_a_second_are_written() -> None:
    sampling = Sampling(rate=20, burst=100)
    assert admitted(sampling, 5_000, "out.3") == 100
    assert admitted(sampling, 5_000, "out.7", spread_ms=10_000) in range(199, 202), "another index is the same class"
    assert admitted(sampling, 500, "sum") == 100
    assert admitted(sampling, 500, "sum", kind="state") == 100


def test_a_flood_of_one_class_hides_no_other_beside_it_or_within_the_same_answers() -> None:
    sampling = Sampling(rate=20, burst=100)
    admitted(sampling, 10_000, "out.1")
    assert admitted(sampling, 10, "seldom") == 10
    assert admitted(sampling, 50, "out.2", "seldom") == 50
    assert admitted(sampling, 50, "out.2") == 0
    assert [sampling.admits("tell", "value", [field("out.1")], 0.0) for _ in range(3)] == [True] * 3
    assert [sampling.admits("ask", "value", [field("out.1", "rounding")], 0.0) for _ in range(3)] == [True] * 3
    assert [sampling.admits("ask", "missing", [], 0.0) for _ in range(3)] == [True] * 3


def test_what_is_left_out_is_counted_once_and_under_each_of_its_classes() -> None:
    sampling = Sampling(rate=1, burst=2)
    admitted(sampling, 12, "out.0", "out.1", "sum")
    taken = sampling.take()
    assert taken.divergences == 10
    assert taken.named == {("ask", "value", "out.*", "exact"): 10, ("ask", "value", "sum", "exact"): 10}
    assert (sampling.take().divergences, taken.beyond) == (0, 0)


def test_rate_zero_writes_all() -> None:
    sampling = Sampling(rate=0)
    assert admitted(sampling, 10_000, "x") == 10_000
    assert sampling.take().divergences == 0


def test_a_class_for_every_request_is_bounded_and_hides_neither_another_operation_nor_another_kind() -> None:
    sampling = Sampling(rate=20, burst=100)
    written = sum(admitted(sampling, 1, f"by_user.u{n}") for n in range(20_000))
    assert written == MAX_BUCKETS + 100
    assert admitted(sampling, 1, "by_user.u5") == 1, "what has a bucket keeps it"
    assert admitted(sampling, 1, "new") == 0
    assert admitted(sampling, 10, "new", kind="state") == 10
    assert [sampling.admits("tell", "value", [field("new")], 0.0) for _ in range(10)] == [True] * 10
    left_out = sampling.take()
    assert len(left_out.named) == MAX_NAMED
    assert sum(left_out.named.values()) + left_out.beyond == left_out.divergences == 20_000 - written + 1


def test_operations_without_end_are_bounded_too() -> None:
    sampling = Sampling(rate=20, burst=100)
    written = sum(sampling.admits(f"op-{n}", "status", [field("status")], 0.0) for n in range(20_000))
    assert written == 2 * MAX_BUCKETS + 100, "of their own, of operation and kind, of all"


def test_classes_that_nobody_saw_for_a_while_make_room() -> None:
    sampling = Sampling(rate=20, burst=1)
    for n in range(MAX_BUCKETS + 200):
        admitted(sampling, 1, f"by_user.u{n}")
    assert admitted(sampling, 2, "new", at_ms=59_000) == 1, "the bucket of its operation and kind"
    assert [admitted(sampling, 2, path, at_ms=61_000) for path in ("new", "newer")] == [1, 1], "one each of their own"


def test_left_out_ones_stay_in_all_counts_and_what_is_written_is_a_sample() -> None:
    book = OutcomeBook("r", Sampling(rate=1, burst=5))
    comparer = Comparer(0, book, RuleBook(), 2_000, Twins("hal9", book, RuleBook(), judged))
    written = []
    for position in range(300):
        entry = Entry(
            position, b"n", Key("n", 0, 0, None), Request(f"id-{position}", "ask", 10_000, None, []), b"", 100.0, 0
        )
        entry.owner, entry.epoch = FLAT, 4
        comparer.expect(entry, HIERARCHICAL, 0)
        value = pack({"x": position, "y": 1})
        written += comparer.primary(entry, Response(position, 4, b"primary", "ok", None, 1, None, 0, value), 500.0)
        other = pack({"x": -1, "y": 1 + (position == 250)})
        shadow = Response(position, 4, b"shadow", "ok", None, 1, None, 0, other)
        written += comparer.shadow(HIERARCHICAL, shadow, 500.0)
    found = [decode(divergence_decoder, value) for _, value in written]
    assert [one.id for one in found] == [*(f"id-{n}" for n in range(5)), "id-250"], "the first, and the first of y"
    (outcome, *_) = book.take(1_000, [])
    assert outcome.comparisons[4].divergent == 300
    assert book.divergences == {"value": 300}
    assert outcome.divergences_left_out == 294
    assert [(one.path, one.count) for one in outcome.left_out] == [("x", 294)]
    assert book.take(2_000, [])[0].divergences_left_out == 0
