"""The file of rules is read strictly: what is wrong is named with its line and the nearest right word."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from hal9.backend import Backend
from hal9.compare import RuleBook, matcher, paths
from hal9.compare.loading import load, parse
from hal9.compare.paths import Wild
from hal9.errors import ConfigError
from hal9.settings import Settings
from hal9.settings.sections import Comparison
from services.router import app as router

GOOD = """
rules:
  - path: outputs.*
    operations: [activate, process]
    tolerance: {relative: 1e-6, absolute: 1.0e-9}
    name: rounding
    owner: ana@example
    reason: a matrix product is not a dot
  - path: neighbours
    multiset: true
  - path: took_ms
    ignore: true
    until: 2027-01-31
  - path: state.memory.**
    redact: true
"""


def test_a_file_says_what_holds_where() -> None:
    book = parse(GOOD, "rules.yaml")
    one, two, three, four = book.rules
    assert (one.segments, one.of, one.action) == (("outputs", Wild.ONE), "answer", "tolerance")
    assert (one.tolerance.relative, one.tolerance.absolute) == (1e-6, 1e-9)
    assert (one.operations, one.label) == (frozenset({"activate", "process"}), "rounding")
    assert (two.action, two.until_ms, two.label) == ("multiset", None, "neighbours")
    assert (three.action, three.until_ms) == ("ignore", 1_801_353_600_000)
    assert (four.of, four.segments, four.path) == ("state", ("memory", Wild.ANY), "memory.**")


def test_the_example_of_the_page_can_be_used_as_it_is() -> None:
    page = (Path(__file__).parents[2] / "docs" / "comparison.md").read_text(encoding="utf-8")
    text = page.partition("```yaml\n")[2].partition("```")[0]
    assert {rule.action for rule in parse(text, "docs/comparison.md").rules} == {
        "tolerance", "multiset", "ignore", "redact",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("rules:\n- path: x\n  tolerence: {absolute: 1}", ":3: unknown word 'tolerence'; nearest is 'tolerance'"),
        ("rule: []", ":1: unknown word 'rule'; nearest is 'rules'"),
        ("rules:\n- path: x\n  tolerance: {relatve: 1}", ":3: unknown word 'relatve'; nearest is 'relative'"),
        ("rules:\n- path: x\n  of: stat\n  multiset: true", ":3: of: 'stat'; nearest is 'state'"),
        ("rules:\n- path: x", ":2: a rule has one of tolerance, multiset, ignore, redact; this one has none"),
        ("rules:\n- path: x\n  multiset: true\n  redact: true", ":2: a rule has one of .* has multiset and redact"),
        ("rules:\n- multiset: true", ":2: a rule needs a path"),
        ("rules:\n- path: x\n  ignore: true", ":2: ignore needs until"),
        ("rules:\n- path: x\n  ignore: true\n  until: soon", ":4: until: 'soon': expected a date"),
        ("rules:\n- path: x\n  redact: true\n  until: 2027-01-31", ":4: until: a redaction does not end"),
        ("rules:\n- path: x\n  multiset: 'no'", ":3: multiset: 'no': expected true"),
        ("rules:\n- path: x\n  redact: false", ":3: redact: false says nothing"),
        ("rules:\n- path: x\n  tolerance: {}", ":3: tolerance: expected relative or absolute"),
        ("rules:\n- path: x\n  tolerance: {relative: 1}", ":3: relative: '1': expected a number, 0 or more, below 1"),
        ("rules:\n- path: x\n  tolerance: {absolute: -1}", ":3: absolute: '-1': expected a number, 0 or more"),
        ("rules:\n- path: x\n  tolerance: {absolute: nan}", ":3: absolute: 'nan'"),
        ("rules:\n- path: a..b\n  multiset: true", ":2: path: 'a..b' has an empty segment"),
        ("rules:\n- path: a*\n  multiset: true", ":2: path: 'a\\*': a star stands for a whole segment"),
        ("rules:\n- path: x\n  multiset: true\n  operations: [Ask]", ":4: operations: 'Ask': expected"),
        ("rules:\n- path: x\n  multiset: true\n  operations: []", ":4: operations: none"),
        ("rules:\n- path: x\n  path: y\n  multiset: true", ":3: path is given twice"),
        ("rules:\n- path:\n  multiset: true", ":2: path: expected text"),
        ("rules:\n- text", ":2: expected a rule to have words"),
        ("rules: 5", ":1: expected rules:, and a list below it"),
        ("- x", ":1: expected the file to have words"),
        ("rules:\n- path: *.x\n  multiset: true", "in quotes"),
        ("rules: [", "no YAML"),
    ],
)
def test_what_is_wrong_is_refused_with_its_line(text: str, why: str) -> None:
    with pytest.raises(ConfigError, match=f"^rules.yaml:?.*{why}"):
        parse(text, "rules.yaml")


def test_no_rules_are_the_default_ones(tmp_path: Path) -> None:
    assert parse("", "-").rules == ()
    assert load(Settings()) == RuleBook()
    path = tmp_path / "rules.yaml"
    path.write_text(GOOD)
    settings = Settings()
    settings = replace(settings, comparison=replace(settings.comparison, rules=str(path), redaction_key="k"))
    assert (len(load(settings).rules), load(settings).key) == (4, b"k")
    path.unlink()
    with pytest.raises(ConfigError, match=r"COMPARISON\.RULES = .* cannot be read"):
        load(settings)


def test_a_service_refuses_wrong_rules_before_it_waits_for_anything(tmp_path: Path) -> None:
    path = tmp_path / "rules.yaml"
    path.write_text("rules: [{path: x}]")
    settings = Settings(comparison=Comparison(rules=str(path)))
    for start in (router.main, Backend("flat", lambda state, _operation, _value: (state, b"")).run):
        with pytest.raises(ConfigError, match=r"rules\.yaml:1: a rule has one of"):
            start(settings)


def test_rules_that_would_not_fit_are_refused_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(matcher, "MAX_STATES", 50)
    listed = "\n".join(f'- {{path: "**.a{i}.**.b{i}.**.c{i}", multiset: true}}' for i in range(10))
    with pytest.raises(ConfigError, match="more than 50 states: write fewer patterns with"):
        parse(f"rules:\n{listed}", "rules.yaml")


# ---------------------------------------------------------------------- paths
names = st.text(min_size=1, max_size=3)
segments = st.one_of(st.sampled_from(["a", "b", "1"]), st.sampled_from(list(Wild)))


@given(st.lists(st.one_of(names, st.sampled_from(list(Wild))), max_size=5).map(tuple))
def test_a_pattern_is_read_as_it_was_written(pattern: paths.Pattern) -> None:
    assert paths.parse(paths.written(pattern)) == pattern


def covered(pattern: paths.Pattern, path: tuple[str, ...]) -> bool:
    """Slowly, and without doubt."""
    if not pattern:
        return not path
    first, rest = pattern[0], pattern[1:]
    if first is Wild.ANY:
        return any(covered(rest, path[n:]) for n in range(len(path) + 1))
    return bool(path) and (first is Wild.ONE or first == path[0]) and covered(rest, path[1:])


@given(
    st.lists(st.lists(segments, max_size=5).map(tuple), min_size=1, max_size=4),
    st.lists(st.sampled_from(["a", "b", "1", "x"]), max_size=6).map(tuple),
)
def test_compiled_rules_find_what_their_patterns_cover(patterns: list[paths.Pattern], path: tuple[str, ...]) -> None:
    listed = "\n".join(f"- {{path: '{paths.written(p)}', multiset: true, name: n{i}}}" for i, p in enumerate(patterns))
    node = parse(f"rules:\n{listed}", "-").matcher("answer", "ask")
    for segment in path:
        node = node.step(segment)
    wanted = [f"n{i}" for i, pattern in enumerate(patterns) if covered(pattern, path)]
    assert [rule.name for rule in node.rules] == wanted
    assert [f"n{i}" for i, pattern in enumerate(patterns) if paths.matches(pattern, path)] == wanted


def test_fields_that_differ_by_an_index_are_one_class() -> None:
    assert paths.field_class("items.12.name.0") == "items.*.name.*"
    assert paths.field_class(r"a\.1.x1") == r"a\.1.x1"
    assert paths.field_class("") == ""
