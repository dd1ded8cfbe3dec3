"""Plans: the packaged ones can be walked; what is wrong is named with its place, value and the nearest right one."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hal9 import plans
from hal9.control.plan import Plan, from_tree, parse
from hal9.errors import ConfigError
from schemas.base import decode, encode
from schemas.control import Start
from schemas.control import decoder as control_decoder

SMALL = """
name: small
phases:
  - {phase: shadow, shadow: 50}
  - phase: canary
    steps: [0.01, 12.5]
    gates: {min_requests: 7, soak_s: 1.5}
"""


def test_the_packaged_plans_walk_from_shadow_to_a_quarter() -> None:
    assert plans.names() == ["canary", "demo"]
    for name in plans.names():
        plan = plans.load(name)
        plan.refuse_unsupported()
        assert plan.name == name
        walked = [(step.phase, step.index, step.percentage) for step in plan.walk()]
        assert walked == [("shadow", 0, 0), *(("canary", i, p) for i, p in enumerate([1, 5, 10, 25]))]


def test_the_demo_is_short_and_the_canary_is_not() -> None:
    assert sum(step.gates.soak_s for step in plans.load("demo").walk()) <= 30
    assert all(step.gates.soak_s >= 300 for step in plans.load("canary").walk())


def test_a_plan_is_read_from_a_file_and_what_is_not_said_has_a_default(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(SMALL)
    shadow, first, second = plans.load(str(file)).walk()
    assert (shadow.shadow, shadow.gates.min_comparisons) == (50, 3000)
    assert (first.percentage, second.percentage, second.shadow) == (0.01, 12.5, None)
    assert (second.gates.min_requests, second.gates.soak_s, second.gates.max_error_rate) == (7, 1.5, 0.05)


def test_a_plan_that_is_no_file_lists_the_packaged_ones() -> None:
    with pytest.raises(ConfigError, match=r"canary, demo"):
        plans.load("canery")


@pytest.mark.parametrize("name", ["canary", "demo"])
def test_a_plan_travels_on_control_and_comes_back_the_same(name: str) -> None:
    plan = plans.load(name)
    start = Start(id="s", migration="m", actor="a", at_ms=1, expected_epoch=0, partitions=3, plan=plan.tree())
    back = decode(control_decoder, encode(start))
    assert isinstance(back, Start)
    assert from_tree(back.plan, "control") == plan


def edited(old: str, new: str) -> str:
    assert old in SMALL
    return SMALL.replace(old, new)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            edited("min_requests: 7", "min_request: 7"),
            r"phases\[1\]\.gates\.min_request = 7; nearest is 'min_requests'",
        ),
        (edited("steps:", "step:"), r"phases\[1\]\.step = .*nearest is 'steps'"),
        (edited("name: small", "names: small"), r"names = 'small'; nearest is 'name'"),
        (edited("phase: canary", "phase: canari"), r"phases\[1\]\.phase = 'canari'.*nearest is 'canary'"),
        (edited("min_requests: 7", "min_requests: -7"), r"min_requests = -7: Expected `int` >= 0"),
        (edited("min_requests: 7", "min_requests: yes"), r"min_requests = True: Expected `int`"),
        (edited("min_requests: 7", "max_error_rate: 5"), r"max_error_rate = 5"),
        (edited("min_requests: 7", "max_error_rate: .nan"), r"max_error_rate = nan"),
        (edited("min_requests: 7", "window_s: 3601"), r"window_s = 3601: Expected `int` <= 3600"),
        (edited("soak_s: 1.5", "soak_s: 5m"), r"soak_s = '5m'"),
        (edited("[0.01, 12.5]", "[12.5, 5]"), r"each greater than the one before"),
        (edited("[0.01, 12.5]", "[5, 5]"), r"each greater than the one before"),
        (edited("[0.01, 12.5]", "[0, 5]"), r"percentages above 0"),
        (edited("[0.01, 12.5]", "[5, 101]"), r"steps\[1\] = 101"),
        (edited("[0.01, 12.5]", "[0.005]"), r"steps of 0\.01"),
        (edited("[0.01, 12.5]", "[]"), r"at least one percentage"),
        (edited("shadow: 50", "shadow: 0"), r"above 0 to shadow"),
        (edited("shadow: 50", "shadow: 50, steps: [1]"), r"no key moves"),
        (edited("phase: shadow", "phase: ramp-up"), r"in the order shadow, canary"),
        (edited("phase: canary", "phase: shadow"), r"no key moves"),
        (edited("soak_s: 1.5", "min_requests: 8"), r"'min_requests' is given twice"),
        (edited("soak_s: 1.5", "7: 8"), r"7 is no name"),
        ("name: x\nphases: []", r"phases = \[\]"),
        ("name: x", r"missing required field `phases`"),
        ("[]", r"Expected `object`"),
        ("", r"Expected `object`"),
        ("name: [", r"no YAML"),
        ("a: &a [1]\nb: *a", r"aliases are not allowed"),
        ("name: !!python/object:os.system x", r"no YAML"),
        ("[" * 5000, r"no YAML"),
        ("#" * 70_000, r"more than 65536 bytes"),
        ("name: \x00", r"no YAML"),
        ("name: 2024-99-99", r"no YAML"),
    ],
)
def test_what_is_wrong_with_a_plan_is_said(text: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        parse(text, "mine.yaml")


def test_phases_of_later_versions_are_read_and_refused_by_name() -> None:
    later = parse(SMALL + "  - {phase: ramp-up, steps: [50, 75]}\n  - {phase: full, steps: [100]}\n", "mine.yaml")
    assert [part.phase for part in later.phases] == ["shadow", "canary", "ramp-up", "full"]
    with pytest.raises(ConfigError, match=r"walks the phases shadow, canary and not ramp-up, full"):
        later.refuse_unsupported()


trees = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5), st.binary(max_size=3)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.sampled_from(["name", "phases", "phase", "steps", "gates", "shadow", "soak_s", "x"]), inner),
    ),
    max_leaves=12,
)


@given(trees)
def test_any_tree_is_a_plan_or_a_configuration_error(tree: object) -> None:
    try:
        assert isinstance(from_tree(tree, "fuzz"), Plan)
    except ConfigError as error:
        assert "plan fuzz" in str(error)  # noqa: PT017  either outcome is right


@given(st.text(max_size=80))
def test_any_text_is_a_plan_or_a_configuration_error(text: str) -> None:
    try:
        assert isinstance(parse(text, "fuzz"), Plan)
    except ConfigError as error:
        assert "plan fuzz" in str(error)  # noqa: PT017  either outcome is right
