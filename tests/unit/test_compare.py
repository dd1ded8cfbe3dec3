"""What counts as the same: trees, rules, redaction, dates."""

import math
from fractions import Fraction
from itertools import permutations
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hal9.compare import RuleBook, Tolerance, differences, tree_differences
from hal9.compare.loading import parse
from hal9.compare.multiset import unmatched
from hal9.compare.trees import MAX_FIELDS, MAX_PER_CLASS
from schemas.reports import FieldDifference

pack = msgspec.msgpack.encode
NONE = RuleBook()
UNTIL_MS = 1_798_761_600_000  # 2027-01-01


def rules(text: str, key: bytes = b"") -> RuleBook:
    return parse("rules:\n" + text, "rules.yaml", key=key)


def different(a: Any, b: Any, book: RuleBook = NONE, operation: str = "ask", now_ms: float = 0.0) -> list[str]:
    return [f.path for f in differences(pack(a), pack(b), book, operation, now_ms)]


def only(fields: list[FieldDifference]) -> FieldDifference:
    (field,) = fields
    return field


scalars = st.one_of(
    st.none(), st.booleans(), st.integers(-(2**63), 2**64 - 1), st.floats(), st.text(max_size=4), st.binary(max_size=4)
)
keys = st.one_of(st.text(max_size=3), st.integers(-5, 5), st.just(math.nan), st.booleans(), st.floats(width=32))
trees = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(keys, inner, max_size=4),
    max_leaves=12,
)
EVERYWHERE = rules("""
- {path: "**.a", tolerance: {relative: 0.01, absolute: 0.5}}
- {path: "**.b", multiset: true}
- {path: "*", multiset: true}
- {path: "**.c", ignore: true, until: 2027-01-01}
- {path: "**.d", redact: true}
""")


# ---------------------------------------------------------------------- trees
@given(trees)
def test_a_value_says_the_same_as_its_copy(tree: Any) -> None:
    copy = msgspec.msgpack.decode(pack(tree))
    assert tree_differences(msgspec.msgpack.decode(pack(tree)), copy, NONE) == []
    assert tree_differences(msgspec.msgpack.decode(pack(tree)), copy, EVERYWHERE, of="answer") == []


@given(trees, trees, st.sampled_from([NONE, EVERYWHERE]))
def test_the_verdict_does_not_depend_on_which_system_is_which(a: Any, b: Any, book: RuleBook) -> None:
    there = tree_differences(a, b, book, of="answer")
    back = tree_differences(b, a, book, of="answer")
    assert {f.path for f in there} == {f.path for f in back}


@given(trees, trees)
def test_rules_that_loosen_nothing_change_no_verdict(a: Any, b: Any) -> None:
    exact = parse("rules: []", "-", Tolerance(0.0, 0.0))
    named = parse('rules: [{path: "**", tolerance: {relative: 0, absolute: 0}}]', "-", Tolerance(0.0, 0.0))
    assert bool(differences(pack(a), pack(b), exact)) == bool(differences(pack(a), pack(b), named))


@pytest.mark.parametrize(
    ("a", "b", "paths"),
    [
        ({"a": 1, "b": 2}, {"a": 1, "b": 3}, ["b"]),
        ({"a": [1, {"x": 1}]}, {"a": [1, {"x": 2}]}, ["a.1.x"]),
        ({"a": 1}, {}, ["a"]),
        ({}, {"a": None}, ["a"]),
        ({"a": "(missing)"}, {}, ["a"]),
        ([1, 2], [1, 2, 3], [""]),
        ([1], [True], ["0"]),
        ([[1, 0]], [[True, 0]], ["0.0"]),
        ({"a": 1}, {"a": True}, ["a"]),
        ({"a": 1}, {"a": 1.0}, []),
        ({1: "x"}, {True: "x"}, ["True", "1"]),
        ({math.nan: 1, "x": 2}, {math.nan: 1, "x": 2}, []),
        ({math.nan: 1}, {math.nan: 2}, ["nan"]),
        ({"a": math.nan}, {"a": math.nan}, []),
        ({"a": 1.0}, {"a": 1.0 + 1e-12}, []),
        ({"a": 1.0}, {"a": 1.0 + 1e-6}, ["a"]),
        ({"a": math.inf}, {"a": 1.7e308}, ["a"]),
        ({"a.b": 1, "c*": 1}, {"a.b": 2, "c*": 2}, [r"a\.b", r"c\*"]),
        ([None], [False], ["0"]),
        (2**53, 2**53 + 1, [""]),
    ],
)
def test_what_differs_is_named_by_its_path(a: Any, b: Any, paths: list[str]) -> None:
    assert different(a, b) == paths


@pytest.mark.parametrize(
    ("a", "b", "same"),
    [
        (b'{"a": 1, "b": [2]}', b'{"b":[2],"a":1}', True),
        (b'{"a": 1}', b'{"a": 2}', False),
        (b"1", b"49", False),  # 49 is what msgpack reads in the first
        (b"49", b"1", False),
        (b"7", b"8", False),
        (b"no tree", b"no tree ", False),
        (b"", None, True),
        (b"", pack(None), False),
        (pack({"a": 1}), b'{"a": 1}', False),
        (b'{"a": 1e400}', b'{"a": 1e400 }', False),
        (b"[" * 3000, b"[" * 3000 + b" ", False),
        (b'{"a": 1' + b"0" * 400 + b"}", b'{"a": 1.5}', False),
    ],
)
def test_values_are_trees_of_one_format_or_bytes(a: bytes | None, b: bytes | None, same: bool) -> None:
    assert (differences(a, b, NONE) == []) == same
    assert (differences(b, a, NONE) == []) == same


def test_several_not_a_numbers_as_keys_are_told_apart() -> None:
    def two(first: int, second: int) -> bytes:
        return pack({float("nan"): first, float("nan"): second})

    assert differences(two(1, 2), two(1, 2), NONE) == []
    assert [f.path for f in differences(two(1, 2), two(3, 2), NONE)] == ["nan"]
    assert [f.path for f in differences(two(1, 2), two(1, 3), NONE)] == ["nan#2"]


def test_a_digit_is_shown_as_the_number_that_it_is() -> None:
    found = only(differences(b"7", b"8", NONE))
    assert (found.flat, found.hierarchical) == (7, 8)


def test_a_noisy_list_does_not_hide_another_field() -> None:
    a, b = ({"noise": [[i + by] * 3 for i in range(80)], "z": by, "y": {"x": by}} for by in (0.0, 0.5))
    found = different(a, b)
    assert {"z", "y.x"} <= set(found)
    assert len([path for path in found if path.startswith("noise")]) == MAX_PER_CLASS
    wide = ({f"k{i}": by for i in range(500)} for by in (1, 2))
    assert len(different(*wide)) == MAX_FIELDS


def test_deep_trees_are_compared_to_their_end() -> None:
    def nested(leaf: int) -> Any:
        tree: Any = leaf
        for _ in range(400):
            tree = [tree]
        return tree

    assert different(nested(1), nested(1)) == []
    assert len(different(nested(1), nested(2))) == 1


# ---------------------------------------------------------------------- tolerances
finite = st.floats(allow_nan=False, allow_infinity=False, width=64)
numbers = st.one_of(finite, st.integers(-(2**70), 2**70))


@given(numbers, numbers, st.floats(0, 0.99), st.floats(0, 1e9))
def test_a_tolerance_is_never_looser_than_it_says(a: float, b: float, relative: float, absolute: float) -> None:
    book = parse(f"rules: [{{path: x, tolerance: {{relative: {relative!r}, absolute: {absolute!r}}}}}]", "-")
    if not tree_differences({"x": a}, {"x": b}, book, of="answer"):
        apart = abs(Fraction(a) - Fraction(b))
        allowed = max(Fraction(absolute), Fraction(relative) * max(abs(Fraction(a)), abs(Fraction(b))))
        assert apart <= allowed * (1 + Fraction(1, 2**50)) + Fraction(5e-324), "beyond what rounding explains"


@given(finite, st.floats(0, 1e9))
def test_what_lies_within_an_absolute_tolerance_passes(a: float, absolute: float) -> None:
    book = parse(f"rules: [{{path: x, tolerance: {{absolute: {absolute!r}}}}}]", "-")
    b = a + absolute / 2
    if abs(a - b) <= absolute:
        assert tree_differences({"x": a}, {"x": b}, book, of="answer") == []


def test_a_tolerance_holds_for_its_place_alone() -> None:
    book = rules("- {path: outputs.*, tolerance: {absolute: 1}, name: near}\n")
    a = {"outputs": [1.0, 2.0, 3], "deep": {"outputs": [1.0]}}
    b = {"outputs": [1.5, 3.5, 4], "deep": {"outputs": [1.5]}}
    found = differences(pack(a), pack(b), book)
    assert [(f.path, f.rule) for f in found] == [
        ("outputs.1", "near: rel 0 abs 1"),
        ("deep.outputs.0", "rel 1e-09 abs 1e-12"),
    ]


def test_a_rule_may_be_for_one_index() -> None:
    book = rules("- {path: x.1, tolerance: {absolute: 1}}\n")
    assert different({"x": [0.0, 0.0, 0.0]}, {"x": [0.5, 0.5, 0.5]}, book) == ["x.0", "x.2"]


@pytest.mark.parametrize(("b", "same"), [(6, True), (7, False), (5.5, True), (6.5, False), (10**400, False)])
def test_a_tolerance_holds_for_whole_numbers_too(b: float, same: bool) -> None:
    book = rules("- {path: x, tolerance: {absolute: 1}}\n")
    assert (tree_differences({"x": 5}, {"x": b}, book, of="answer") == []) == same
    great = rules("- {path: x, tolerance: {absolute: 0.5}}\n")
    assert tree_differences({"x": 2**60}, {"x": 2**60 + 1}, great, of="answer") != []


def test_the_first_rule_of_a_place_holds() -> None:
    book = rules("- {path: a.b, tolerance: {absolute: 1}}\n- {path: a.*, tolerance: {absolute: 100}}\n")
    assert different({"a": {"b": 0.0, "c": 0.0}}, {"a": {"b": 50.0, "c": 50.0}}, book) == ["a.b"]


def test_a_rule_holds_for_its_operations_alone() -> None:
    book = rules("- {path: x, tolerance: {absolute: 1}, operations: [ask, learn]}\n")
    assert different({"x": 0.0}, {"x": 0.5}, book, "ask") == []
    assert different({"x": 0.0}, {"x": 0.5}, book, "read") == ["x"]


def test_rules_of_the_state_do_not_hold_for_answers() -> None:
    book = rules("- {path: state.memory.**, tolerance: {absolute: 1}}\n- {path: state.x, of: answer, multiset: true}\n")
    a, b = {"memory": {"x": {"y": 1.0}}}, {"memory": {"x": {"y": 1.5}}}
    assert tree_differences(a, b, book, "ask") == []
    assert different(a, b, book) == ["memory.x.y"]
    assert different({"state": {"x": [1, 2]}}, {"state": {"x": [2, 1]}}, book) == []


# ---------------------------------------------------------------------- without order
@given(st.lists(trees, max_size=6), st.randoms())
def test_the_order_of_a_multiset_does_not_count(items: list[Any], chance: Any) -> None:
    book = rules("- {path: x, multiset: true}\n")
    shuffled = list(items)
    chance.shuffle(shuffled)
    assert tree_differences({"x": items}, {"x": shuffled}, book, of="answer") == []
    other = [*items, "one more"]
    assert len(tree_differences({"x": other}, {"x": shuffled}, book, of="answer")) == 1


@given(st.lists(finite, min_size=1, max_size=6), st.lists(finite, min_size=1, max_size=6), st.randoms())
def test_the_verdict_over_multisets_is_the_same_for_any_order(a: list[float], b: list[float], chance: Any) -> None:
    def verdict(x: list[Any], y: list[Any]) -> bool:
        return unmatched(x, y, lambda p, q: abs(p - q) <= 1, Tolerance(0.0, 1.0)) == ([], [])

    shuffled = list(a)
    chance.shuffle(shuffled)
    assert verdict(a, b) == verdict(shuffled, b) == verdict(b, a)


def test_a_pairing_is_found_though_the_first_choice_was_another() -> None:
    fits = {("a", "x"), ("a", "y"), ("b", "x")}
    same = lambda p, q: (p, q) in fits  # noqa: E731
    assert unmatched(["a", "b"], ["x", "y"], same, None) == ([], [])
    assert unmatched(["a", "b", "c"], ["x", "y", "z"], same, None) == (["c"], ["z"])


few = st.lists(st.integers(0, 8), min_size=1, max_size=6)


@given(few, few)
def test_items_are_paired_if_there_is_a_way(a: list[int], b: list[int]) -> None:
    left, right = [2 * x for x in a], [2 * y + 1 for y in b]  # none is equal to any
    wanted = len(a) == len(b) and any(
        all(abs(x - y) <= 3 for x, y in zip(left, order, strict=True)) for order in permutations(right)
    )
    assert (unmatched(left, right, lambda x, y: abs(x - y) <= 3, None) == ([], [])) == wanted  # type: ignore[operator]


def test_a_multiset_counts_repeats_and_pairs_its_items_within_their_own_rules() -> None:
    book = rules("- {path: x, multiset: true}\n- {path: x.*, tolerance: {absolute: 0.11}}\n")
    book2 = rules("- {path: x, multiset: true}\n- {path: x.*.v, tolerance: {absolute: 0.1}}\n")
    assert different({"x": [1, 1, 2]}, {"x": [1, 2, 2]}, book) == ["x"]
    assert different({"x": [1.0, 1.1]}, {"x": [1.2, 1.1]}, book) == [], "1.0 goes with 1.1, and 1.1 with 1.2"
    a = {"x": [{"k": 1, "v": 1.0}, {"k": 2, "v": 2.0}]}
    assert different(a, {"x": [{"k": 2, "v": 2.05}, {"k": 1, "v": 1.05}]}, book2) == []
    found = only(differences(pack(a), pack({"x": [{"k": 2, "v": 2.5}, {"k": 1, "v": 1.0}]}), book2))
    assert (found.path, found.rule, found.flat) == ("x", "x: multiset", "[{'k': 2, 'v': 2.0}]")


# ---------------------------------------------------------------------- until a date
def test_a_rule_that_ignores_is_dead_from_its_date_on_and_says_so() -> None:
    book = rules("- {path: took, ignore: true, until: 2027-01-01}\n")
    a, b = {"took": 1, "x": 1}, {"took": 2, "x": 1}
    assert different(a, b, book, now_ms=UNTIL_MS - 1) == []
    assert book.ended(UNTIL_MS - 1) == []
    found = only(differences(pack(a), pack(b), book, "ask", UNTIL_MS))
    assert (found.path, found.rule) == ("took", "exact; took: ignore ended 2027-01-01")
    assert book.ended(UNTIL_MS) == list(book.rules)


def test_after_the_end_of_a_rule_the_next_one_holds() -> None:
    book = rules("- {path: x, ignore: true, until: 2027-01-01}\n- {path: x, tolerance: {absolute: 1}}\n")
    assert different({"x": 0.0}, {"x": 5.0}, book, now_ms=UNTIL_MS - 1) == []
    assert different({"x": 0.0}, {"x": 0.5}, book, now_ms=UNTIL_MS) == []
    assert different({"x": 0.0}, {"x": 5.0}, book, now_ms=UNTIL_MS) == ["x"]


# ---------------------------------------------------------------------- redaction
SECRET = "4929-1234"


def shown(a: Any, b: Any, text: str, key: bytes = b"") -> str:
    return repr(differences(pack(a), pack(b), rules(text, key)))


@pytest.mark.parametrize(
    ("a", "b", "path"),
    [
        ({"card": SECRET}, {"card": "x"}, "card"),
        ({"card": SECRET}, {}, "card"),
        ({"card": {"no": SECRET}}, {"card": {"no": "x"}}, "card"),
        ({"card": {SECRET: 1}}, {"card": {SECRET: 2}}, "card"),
        ({"user": {"card": SECRET}}, {"user": None}, "user.card"),
        ({"user": {"card": SECRET}}, {}, "user.card"),
        ({"user": SECRET}, {"user": {"card": "x"}}, "user.card"),
        ({"users": [{"card": SECRET}]}, {"users": []}, "users.*.card"),
        ({"a": {"b": {"card": SECRET}}}, {"a": 1}, '"**.card"'),
        ([SECRET], ["x"], '"*"'),
        (SECRET, "x", '"**"'),
    ],
)
def test_values_that_are_redacted_are_shown_as_a_hash(a: Any, b: Any, path: str) -> None:
    text = f"- {{path: {path}, redact: true}}\n"
    for found in (shown(a, b, text), shown(b, a, text), shown(a, b, text, b"key")):
        assert "FieldDifference" in found
        assert SECRET not in found
        assert "sha256:" in found or "hmac:" in found


def test_what_is_no_tree_is_hidden_whole_once_a_rule_hides_part_of_an_answer() -> None:
    book = rules("- {path: card, redact: true, operations: [pay]}\n")
    broken = b'{"card": "4929-1234"'
    assert SECRET not in repr(differences(broken, b"x", book, "pay"))
    assert SECRET in repr(differences(broken, b"x", book, "ask"))


def test_a_hash_depends_on_the_key_and_tells_equal_values() -> None:
    text = "- {path: card, redact: true}\n"
    plain = shown({"card": SECRET}, {"card": "x"}, text)
    assert plain == shown({"card": SECRET}, {"card": "x"}, text)
    assert plain != shown({"card": SECRET}, {"card": "x"}, text, b"one")
    assert shown({"card": SECRET}, {"card": "x"}, text, b"two") != shown({"card": SECRET}, {"card": "x"}, text, b"one")


def test_redaction_and_tolerance_go_together_and_ignoring_needs_no_values() -> None:
    book = rules(
        "- {path: pay.*, tolerance: {absolute: 1}}\n- {path: pay, redact: true}\n"
        "- {path: id, redact: true}\n- {path: id, ignore: true, until: 2027-01-01}\n"
    )
    assert different({"pay": [1.0], "id": 1}, {"pay": [1.5], "id": 2}, book) == []
    found = only(differences(pack({"pay": [1.0]}), pack({"pay": [3.5]}), book))
    assert (found.path, found.rule) == ("pay", "pay.*: rel 0 abs 1")


@given(trees, trees)
def test_no_value_leaves_when_everything_is_redacted(a: Any, b: Any) -> None:
    book = rules('- {path: "**", redact: true}\n')
    for found in tree_differences(a, b, book, of="answer"):
        for value in (found.flat, found.hierarchical):
            assert isinstance(value, str)
            assert value.startswith(("sha256:", "(missing)"))
        assert found.path == ""
