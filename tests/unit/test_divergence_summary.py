"""Divergences by class: counted, sampled, judged by the twins, and what could be ruled."""

from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from hal9.compare import differences
from hal9.compare.loading import parse
from hal9.compare.proposals import as_yaml, proposals
from hal9.compare.summary import MAX_CLASSES, SAMPLES, Summary
from schemas.reports import Divergence, DivergenceKind, FieldDifference
from schemas.telemetry import Comparisons, FieldNoise, LeftOut, Outcome

pack = msgspec.msgpack.encode
DAY_MS = 86_400_000


def divergence(
    number: int,
    *fields: tuple[str, Any, Any],
    kind: DivergenceKind = "value",
    rule: str = "exact",
    operation: str = "ask",
) -> Divergence:
    found = [FieldDifference(path=path, flat=a, hierarchical=b, rule=rule) for path, a, b in fields]
    return Divergence(
        id=f"id-{number}",
        position=f"0:{number}",
        operation=operation,
        epoch=number % 3,
        primary="flat",
        kind=kind,
        fields=found,
        at_ms=1_000 + number,
    )


def outcome(seq: int, pairs: int, *noise: FieldNoise, equal: int = 0, divergent: int = 0) -> Outcome:
    compared = {0: Comparisons(equal=equal, divergent=divergent, incomparable=1)}
    return Outcome(router="r", seq=seq, at_ms=seq * 1000, comparisons=compared, pairs={"ask": pairs}, noise=list(noise))


def noise(path: str, both: int, shadow: int, twin: int, kind: DivergenceKind = "value") -> FieldNoise:
    return FieldNoise(operation="ask", kind=kind, path=path, both=both, shadow=shadow, twin=twin)


def test_fields_that_differ_by_an_index_alone_are_one_class() -> None:
    summary = Summary()
    for n in range(30):
        summary.divergence("k", divergence(n, (f"out.{n % 7}", 1.0, 1.0 + n / 1000), (f"out.{n % 5}", 1.0, 2.0)))
    summary.divergence("k", divergence(40, ("out.0", 1, 2), ("sum", 1, 2)))
    summary.divergence("k", divergence(41, kind="missing"))
    summary.outcome(outcome(1, 0, equal=90, divergent=32))
    found = {one.path: one for one in summary.classes.values()}
    assert {path: (one.count, one.alone) for path, one in found.items()} == {
        "out.*": (31, 30), "sum": (1, 0), "": (1, 1),
    }  # fmt: skip
    assert (found["out.*"].first_ms, found["out.*"].last_ms, found["out.*"].epochs) == (1_000, 1_040, {0, 1, 2})
    assert len(found["out.*"].samples) == SAMPLES
    assert (summary.divergences, summary.comparisons, summary.incomparable) == (32, 122, 1)


@given(st.permutations(range(40)))
def test_the_samples_do_not_depend_on_the_order_of_reading(order: list[int]) -> None:
    one, other = Summary(), Summary()
    for n in range(40):
        one.divergence("k", divergence(n, ("x", n, 0)))
    for n in order:
        other.divergence("k", divergence(n, ("x", n, 0)))
    (a,), (b,) = one.classes.values(), other.classes.values()
    assert [s.found.id for s in a.samples] == [s.found.id for s in b.samples]


def test_the_samples_are_spread_over_all_that_was_read() -> None:
    summary = Summary()
    for n in range(1_000):
        summary.divergence("k", divergence(n, ("x", n, 0)))
    (one,) = summary.classes.values()
    numbers = sorted(int(s.found.id.removeprefix("id-")) for s in one.samples)
    assert numbers[0] < 400
    assert numbers[-1] > 600


def test_memory_is_bounded_whatever_is_read() -> None:
    summary = Summary()
    for n in range(MAX_CLASSES + 100):
        summary.divergence("k", divergence(n, (f"user-{n}", 1, 2)))
    assert len(summary.classes) == MAX_CLASSES
    assert (summary.beyond, summary.divergences) == (100, MAX_CLASSES + 100)


def test_what_routers_counted_and_did_not_write_is_counted_in() -> None:
    summary = Summary()
    for n in range(30):
        summary.divergence("k", divergence(n, ("x.3", 1.0, 1.0 + 1e-8)))
    more = [
        LeftOut(operation="ask", kind="value", path="x.*", rule="exact", count=470),
        LeftOut(operation="ask", kind="value", path="unseen", rule="exact", count=20),
    ]
    told = msgspec.structs.replace(
        outcome(1, 0, equal=500, divergent=500), divergences_left_out=475, left_out=more, left_out_beyond=3
    )
    for one in (told, told):
        summary.outcome(one)
    counted = {one.path: (one.count, one.written, one.left_out) for one in summary.classes.values()}
    assert counted == {"x.*": (500, 30, 470), "unseen": (20, 0, 20)}
    assert (summary.divergences, summary.written, summary.left_out, summary.beyond) == (505, 30, 475, 3)
    (rounding,) = proposals(summary, "ana")
    assert rounding.rule["tolerance"] == {"relative": 2e-8}, "and none for what no sample shows"
    assert rounding.hides == 500
    assert "hides 500 divergences, 30 of the 30 that were written whole" in rounding.rule["reason"]


def test_an_outcome_that_comes_twice_counts_once() -> None:
    summary = Summary()
    for seq in (1, 2, 2, 1, 3):
        summary.outcome(outcome(seq, 10, noise("x", 1, 0, 0), equal=5))
    assert (summary.pairs["ask"], summary.comparisons) == (30, 15)


def test_noise_and_divergence_are_told_apart_and_the_divergence_comes_first() -> None:
    summary = Summary()
    for n in range(100):
        summary.divergence("k", divergence(n, ("took", n, n + 5 + n % 2 * 1000)))
    for n in range(20):
        summary.divergence("k", divergence(200 + n, ("sum", n, n + 1)))
    summary.divergence("k", divergence(300, ("seldom", "a", "b")))
    summary.outcome(outcome(1, 400, noise("took", 90, 10, 12), noise("sum", 0, 20, 0), noise("seldom", 0, 1, 0)))
    assert [(one.path, finding.verdict) for one, finding in summary.sorted()] == [
        ("sum", "divergence"), ("seldom", "insufficient"), ("took", "noise"),
    ]  # fmt: skip
    (proposed,) = proposals(summary, "ana")
    assert proposed.rule["path"] == "took"
    assert proposed.rule["ignore"] is True
    assert (proposed.hides, proposed.whole) == (100, 100)
    assert proposed.rule["owner"] == "ana"
    assert proposed.rule["until"] == "1970-01-31"
    assert "hides 100 divergences" in proposed.rule["reason"]


def proposed(*values: tuple[Any, Any], twins: FieldNoise | None = None) -> tuple[list[dict[str, Any]], str]:
    """Rules for what `differences` finds in these answers."""
    summary = Summary()
    for n, (a, b) in enumerate(values):
        fields = differences(pack(a), pack(b), parse("", "-"), "ask")
        found = divergence(n)
        summary.divergence("k", msgspec.structs.replace(found, fields=fields))
    if twins is not None:
        summary.outcome(outcome(1, 1_000, twins))
    listed = proposals(summary, "ana")
    return [p.rule for p in listed], as_yaml(listed)


def test_rounding_is_proposed_as_a_tolerance_that_hides_it_all_though_it_is_no_noise() -> None:
    values = [({"out": [x, x * 3]}, {"out": [x * (1 + 3e-8), x * 3 * (1 - 1e-8)]}) for x in (0.1, 7.0, 1e9)]
    (rule,), text = proposed(*values, twins=noise("out.*", 0, 900, 0))
    assert rule["tolerance"] == {"relative": 5e-8}
    assert rule["reason"].startswith("divergence:")
    book = parse(text, "proposed.yaml")
    assert [differences(pack(a), pack(b), book, "ask") for a, b in values] == [[], [], []]
    assert all(differences(pack(a), pack(b), book, "tell") for a, b in values)


def test_another_order_is_proposed_as_a_multiset() -> None:
    values = [({"near": ["a", "b", "c"]}, {"near": ["c", "b", "a"]}), ({"near": [1, 2]}, {"near": [2, 1]})]
    (rule,), text = proposed(*values)
    assert (rule["path"], rule["multiset"]) == ("near", True)
    book = parse(text, "proposed.yaml")
    assert [differences(pack(a), pack(b), book, "ask") for a, b in values] == [[], []]


def test_a_real_difference_gets_no_rule() -> None:
    values = [({"sum": n}, {"sum": n + 1}) for n in range(50)]
    assert proposed(*values, twins=noise("sum", 0, 50, 0))[0] == []
    assert proposed(*values)[0] == []


def test_proposals_name_their_place_so_that_it_is_found_again() -> None:
    summary = Summary()
    for n in range(60):
        summary.divergence("k", divergence(n, ("memory.at", n, "x"), kind="state"))
        summary.divergence("k", divergence(n, ("state.at", n, "x")))
        summary.divergence("k", divergence(n, (r"a\.b", n, "x")))
    many = [
        noise(path, 60, 0, 0, kind)
        for path, kind in (("memory.at", "state"), ("state.at", "value"), (r"a\.b", "value"))
    ]  # type: ignore[arg-type]
    summary.outcome(outcome(1, 100, *many))
    book = parse(as_yaml(proposals(summary, "ana")), "proposed.yaml")
    assert {(rule.of, rule.segments) for rule in book.rules} == {
        ("state", ("memory", "at")), ("answer", ("state", "at")), ("answer", ("a.b",)),
    }  # fmt: skip
