"""The bytes of an answer, told apart once: what they find to be the same, trees find to be the same."""

import math
import struct

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hal9.compare import RuleBook, Tolerance, differences, tree_differences
from hal9.compare.layout import PATIENCE, Layout, Unlaid
from hal9.compare.loading import parse

ENDS_MS = 1_893_456_000_000
RULES = """
rules:
  - {path: "**.t", ignore: true, until: 2030-01-01}
  - {path: "w.**", tolerance: {relative: 1.0e-3, absolute: 0}}
  - {path: "exact.*", tolerance: {relative: 0, absolute: 0}}
  - {path: "secret", redact: true}
"""
NONE = "rules: []"
names = st.sampled_from(["a", "b", "t", "w", "exact", "secret", "naïve"])
leaves = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63), 2**64 - 1),
    st.floats(width=64),
    st.text(max_size=4),
    st.binary(max_size=3),
)
trees = st.dictionaries(
    names,
    st.recursive(
        leaves, lambda below: st.lists(below, max_size=4) | st.dictionaries(names, below, max_size=3), max_leaves=8
    ),
    min_size=1,
    max_size=5,
)
changes = st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), max_size=3)


def changed(value: bytes, bytes_at: list[tuple[int, int]]) -> bytes:
    """Some of its bytes are others, so some of its floats a little, and its form, too."""
    found = bytearray(value)
    for at, byte in bytes_at:
        found[at % len(found)] = byte
    return bytes(found)


@pytest.mark.parametrize("rules", [NONE, RULES])
@settings(max_examples=1_000, deadline=None)
@given(made=trees, first=changes, second=changes)
def test_what_bytes_find_to_be_the_same_trees_do(
    rules: str, made: dict[str, object], first: list[tuple[int, int]], second: list[tuple[int, int]]
) -> None:
    book = parse(rules, "rules")
    value = msgpack.packb(made)
    try:
        layout = Layout(value, book.matcher("answer", ""), book.tolerance.relative, 0.0)
    except Unlaid:
        return
    a, b = changed(value, first), changed(value, second)
    if layout.same(a, b):
        left, right = msgpack.unpackb(a, strict_map_key=False), msgpack.unpackb(b, strict_map_key=False)
        assert tree_differences(left, right, book, of="answer") == []
        assert differences(a, b, parse(rules, "rules")) == []


def answer(**fields: object) -> bytes:
    """One answer."""
    found: bytes = msgpack.packb({"w": [math.sqrt(2), 1e300, -0.25], "n": 7, "name": "x", **fields})
    return found


@pytest.mark.parametrize(
    ("a", "b", "same"),
    [
        (answer(), answer(), True),
        (answer(f=1.0), answer(f=math.nextafter(1.0, 2.0)), True),
        (answer(f=1.0), answer(f=1.0 + 1e-8), False),
        (answer(f=0.0), answer(f=-0.0), True),
        (answer(f=0.0), answer(f=5e-324), False),
        (answer(f=math.inf), answer(f=struct.unpack(">d", b"\x7f\xf0\0\0\0\0\0\1")[0]), False),
        (answer(n=8), answer(n=8), True),
        (answer(n=8), answer(n=9), False),
        (answer(n=8), answer(n=False), False),
        (answer(name="y"), answer(name="y"), True),
        (answer(name="y"), answer(name="z"), False),
        (answer(name=b"y").replace(b"\xc4\x01y", b"\xa2yy"), answer(name="yy"), True),
    ],
)
def test_other_values_of_the_same_form(a: bytes, b: bytes, same: bool) -> None:
    book = RuleBook()
    layout = Layout(a, book.matcher("answer", ""), book.tolerance.relative, 0.0)
    assert layout.same(a, b) is same
    assert layout.same(b, a) is same


def test_what_a_rule_ignores_may_be_anything_of_its_form() -> None:
    book = parse(RULES, "rules")
    layout = Layout(answer(t=1), book.matcher("answer", ""), book.tolerance.relative, 0.0)
    assert layout.same(answer(t=2), answer(t=3))
    assert not layout.same(answer(t=2), answer(t=3, n=4)[: len(answer(t=2))])
    assert not layout.same(answer(t=1, n=8), answer(t=2, n=7))


@pytest.mark.parametrize(("name", "same"), [("w", True), ("exact", False), ("secret", True)])
def test_floats_are_close_where_their_rule_allows_it(name: str, same: bool) -> None:
    book = parse(RULES, "rules")
    a, b = answer(**{name: [1.0]}), answer(**{name: [math.nextafter(1.0, 2.0)]})
    layout = Layout(a, book.matcher("answer", ""), book.tolerance.relative, 0.0)
    assert layout.same(a, b) is same
    assert layout.same(a, a)


@pytest.mark.parametrize(
    ("field", "was", "bad"),
    [
        ("name", b"\xa1x", b"\xa1\xff"),
        ("ok", b"\xc3", b"\xc1"),
        ("t", b"\xa1x", b"\xa2x"),
        ("t", b"\xa1x", b"\xa1\xff"),
    ],
    ids=["text that is not UTF-8", "a code that does not exist", "ignored text that swallows what follows", "ignored"],
)
def test_what_cannot_be_read_is_not_the_same(field: str, was: bytes, bad: bytes) -> None:
    book = parse(RULES, "rules")
    a, b = (answer(ok=True, t="x", f=f) for f in (1.0, math.nextafter(1.0, 2.0)))
    layout = Layout(a, book.matcher("answer", ""), book.tolerance.relative, 0.0)
    named = msgpack.packb(field) + was
    assert named in a
    assert layout.same(a, b)
    broken = [value.replace(named, named[: -len(was)] + bad) for value in (a, b)]
    assert not layout.same(*broken)
    assert not layout.same(a, broken[1])
    assert differences(a, broken[1], book)


@pytest.mark.parametrize(
    "value",
    [b"\x81\xa1a", b"\x91\xc7\x01\x05x", b"\x81\x01\x02", msgpack.packb({"a": "naïve"}), b"\xc1", b"\x91\xda\xff\xff"],
    ids=["cut off", "extension", "key that is no text", "not ascii", "no code", "longer than it is"],
)
def test_bytes_that_say_too_little_have_no_layout(value: bytes) -> None:
    book = RuleBook()
    with pytest.raises((Unlaid, IndexError)):
        Layout(value, book.matcher("answer", ""), book.tolerance.relative, 0.0)


def test_lists_without_order_are_for_trees() -> None:
    book = parse('rules:\n  - {path: "w", multiset: true}', "rules")
    with pytest.raises(Unlaid):
        Layout(answer(), book.matcher("answer", ""), book.tolerance.relative, 0.0)


def test_a_layout_ends_with_the_first_of_its_rules() -> None:
    book = parse(RULES, "rules")
    node = book.matcher("answer", "")
    a, b = answer(t=1), answer(t=2)
    for _ in range(PATIENCE):
        assert differences(a, b, book) == []
    assert book.layouts.same(node, a, b, ENDS_MS - 1)
    assert not book.layouts.same(node, a, b, ENDS_MS)
    assert [d.path for d in differences(a, b, book, now_ms=ENDS_MS)] == ["t"]


def test_a_tolerance_below_that_of_the_last_bits_is_for_trees() -> None:
    book = RuleBook(tolerance=Tolerance(1e-12, 0.0))
    layout = Layout(answer(f=1.0), book.matcher("answer", ""), book.tolerance.relative, 0.0)
    assert not layout.same(answer(f=1.0), answer(f=math.nextafter(1.0, 2.0)))
    assert layout.same(answer(f=1.5), answer(f=1.5))


def test_a_layout_is_taken_of_what_is_met_often_and_judges_the_next_ones() -> None:
    book = RuleBook()
    a, b = answer(f=1.0), answer(f=math.nextafter(1.0, 2.0))
    node = book.matcher("answer", "")
    for _ in range(PATIENCE):
        assert not book.layouts.same(node, a, b, 0.0)
        assert differences(a, b, book) == []
    assert book.layouts.same(node, a, b, 0.0)
    assert [d.path for d in differences(a, answer(f=2.0), book)] == ["f"]
    assert [d.path for d in differences(a, answer(n=3, f=1.0), book)] == ["n"]
