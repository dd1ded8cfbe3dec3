"""All flags in one version: what is refused, what they make of the route, which scope wins, how people name them."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hal9.control.flags import ARCHITECTURE, changed, listing, problems, promotes, rolled_back, route_of
from hal9.control.reducer import ControlState, fold
from hal9.errors import ConfigError
from schemas.base import SYSTEMS, encode
from schemas.control import Flags, Freeze, Layers, Pin, Rollback, Route, SetFlags, Start

NAMES = st.sampled_from(["a", "ab", "abc", "b"])
held = st.dictionaries(NAMES, st.sampled_from(SYSTEMS), max_size=3)
flags = st.builds(
    Flags,
    enabled=st.booleans(),
    percentage=st.integers(0, 10_000).map(lambda n: n / 100),
    pins=held,
    prefixes=held,
    held=st.lists(st.sampled_from(["reflexive", "tactical"]), max_size=2, unique=True),
)


class Control:
    """A control log that is written one record after the other."""

    def __init__(self) -> None:
        self.state = ControlState("hal9")

    def write(self, kind: type[Any], **fields: Any) -> str:
        at = self.state.position
        common = {"id": f"r{at}", "migration": "hal9", "actor": "ann", "at_ms": at}
        return fold(self.state, at, encode(kind(**(common | fields)))).verdict

    def set(self, *assignments: str) -> str:
        wanted = changed(self.state.flags, assignments)
        return self.write(SetFlags, expected_epoch=self.state.epoch, flags=wanted)

    @property
    def refusal(self) -> str:
        return self.state.refusals[-1][1]


LAYER_NAMES = ("reflexive", "tactical", None)


@given(flags, NAMES, st.integers(0, 9_999), st.sampled_from(LAYER_NAMES))
def test_one_order_decides_where_scopes_overlap(given: Flags, key: str, bucket: int, layer: str | None) -> None:
    owner = route_of(given).owner(bucket, key, layer)
    matching = [p for p in given.prefixes if key.startswith(p)]
    if key in given.pins:
        assert owner == given.pins[key]
    elif not given.enabled:
        assert owner == "flat"
    elif matching:
        assert owner == given.prefixes[max(matching, key=len)]
    elif layer in given.held:
        assert owner == "flat"
    else:
        assert owner == ("hierarchical" if bucket < round(given.percentage * 100) else "flat")


@given(flags, flags, NAMES, st.integers(0, 9_999), st.sampled_from(LAYER_NAMES))
def test_whatever_moves_a_key_to_hierarchical_counts_as_a_promotion(
    before: Flags, after: Flags, key: str, bucket: int, layer: str | None
) -> None:
    owners = route_of(before).owner(bucket, key, layer), route_of(after).owner(bucket, key, layer)
    if owners == ("flat", "hierarchical"):
        assert promotes(before, after)


@given(flags)
def test_a_rollback_is_no_promotion_and_leaves_only_pinned_keys_at_hierarchical(given: Flags) -> None:
    after = rolled_back(given, 0.0)
    assert not promotes(given, after)
    assert not route_of(after).involved
    assert after.pins == given.pins


@pytest.mark.parametrize("layer", ARCHITECTURE[1:])
def test_a_layer_without_the_one_before_it_is_refused_with_the_reason(layer: str) -> None:
    control = Control()
    before = ARCHITECTURE[ARCHITECTURE.index(layer) - 1]
    assert control.set(f"layers.{before}=off") == "refused"
    assert f"layers.{layer} needs layers.{before}" in control.refusal
    after = [f"layers.{each}=off" for each in ARCHITECTURE[ARCHITECTURE.index(before) :]]
    assert control.set(*after) == "accepted"
    assert control.state.route.off == set(ARCHITECTURE[ARCHITECTURE.index(before) :])


def test_flags_are_set_all_together_or_not_at_all() -> None:
    control = Control()
    assert control.set("percentage=10", "layers.cognitive=off") == "refused"
    assert (control.state.epoch, control.state.flags) == (0, Flags())
    assert control.set("percentage=10", "shadow=50", "twin=1", "prefixes.a=hierarchical") == "accepted"
    route = control.state.route
    assert (control.state.epoch, route.bound, route.shadow_bound, route.twin_bound) == (1, 1000, 5000, 100)


def test_the_other_records_change_their_part_of_the_same_flags() -> None:
    control = Control()
    control.set("twin=2", "prefixes.a=flat", "layers.intelligence=off")
    control.write(Route, expected_epoch=1, percentage=30.0, shadow=20.0)
    control.write(Pin, keys=["k"])
    found = control.state.flags
    assert (found.percentage, found.shadow, found.twin, list(found.pins)) == (30.0, 20.0, 2.0, ["k"])
    assert (found.prefixes, found.layers.intelligence) == ({"a": "flat"}, False)


def test_a_stale_epoch_is_refused() -> None:
    control = Control()
    control.set("shadow=1")
    assert control.write(SetFlags, expected_epoch=0, flags=Flags(shadow=2.0)) == "refused"
    assert "the epoch moved on" in control.refusal


@pytest.mark.parametrize(
    "promotion", ["percentage=20", "prefixes.a=hierarchical", "pins.a=hierarchical", "reads.activate=hierarchical"]
)
def test_nothing_is_promoted_while_rolled_back_or_frozen_and_everything_else_is_set(promotion: str) -> None:
    for stop in (
        {"kind": Rollback, "expected_epoch": 1, "trigger": "manual"},
        {"kind": Freeze, "expected_epoch": 1, "trigger": "silence"},
    ):
        control = Control()
        control.set("percentage=10")
        assert control.write(**stop) == "accepted"
        assert control.set(promotion) == "refused"
        assert control.set("twin=5", "prefixes.b=flat") == "accepted"
        start = {"expected_epoch": control.state.epoch, "partitions": 1, "plan": {}}
        assert control.write(Start, **start) == "accepted"
        assert control.set(promotion) == "accepted"


def test_the_global_switch_brings_all_but_pinned_keys_to_flat_and_back() -> None:
    control = Control()
    control.set("percentage=40", "shadow=100", "prefixes.a=hierarchical", "reads.read=hierarchical")
    control.set("enabled=off")
    route = control.state.route
    assert (route.bound, route.shadow_bound, route.prefixes, route.reads) == (0, 0, {}, {})
    control.set("enabled=on")
    assert control.state.route.bound == 4000


def test_a_rollback_takes_prefixes_and_reads_back_too() -> None:
    control = Control()
    control.set("percentage=40", "prefixes.a=hierarchical", "prefixes.b=flat", "reads.read=hierarchical")
    control.write(Rollback, expected_epoch=1, trigger="manual")
    found = control.state.flags
    assert (found.percentage, found.prefixes, found.reads) == (0.0, {"b": "flat"}, {})


def test_a_rollback_of_one_layer_holds_it_and_leaves_the_rest_and_is_no_latch() -> None:
    control = Control()
    control.set("percentage=40", "held=strategic")
    assert control.write(Rollback, expected_epoch=1, trigger="manual", scope={"layer": "reflexive"}) == "accepted"
    found = control.state
    assert (found.flags.held, found.route.bound, found.rolled_back) == (["reflexive", "strategic"], 4000, None)
    assert control.set("percentage=50") == "accepted"


def test_a_rollback_of_one_layer_is_refused_only_if_that_layer_went_back_later() -> None:
    control = Control()
    control.set("percentage=40")
    for layer in ("reflexive", "tactical"):
        assert control.write(Rollback, expected_epoch=1, trigger="manual", scope={"layer": layer}) == "accepted"
    assert control.write(Rollback, expected_epoch=1, trigger="manual", scope={"layer": "tactical"}) == "refused"
    assert control.write(Rollback, expected_epoch=1, trigger="manual") == "accepted"
    assert control.write(Rollback, expected_epoch=1, trigger="manual", scope={"layer": "strategic"}) == "refused"


@pytest.mark.parametrize("scope", [{"layer": "cortical"}, {"bucket": 3}, {"layer": "tactical", "bucket": 3}])
def test_an_unknown_scope_of_a_rollback_is_refused_with_the_scopes_there_are(scope: dict[str, Any]) -> None:
    control = Control()
    assert control.write(Rollback, expected_epoch=0, trigger="manual", scope=scope) == "refused"
    assert "{layer: NAME}" in control.refusal


@pytest.mark.parametrize(
    ("assignment", "said"),
    [
        ("percentag=1", "did you mean percentage?"),
        ("layers.kognitive=on", "did you mean layers.cognitive?"),
        ("percentage", "is not NAME=VALUE"),
        ("percentage=much", "percentage=much"),
        ("percentage=150", "a number from 0 to 100"),
        ("twin=nan", "twin"),
        ("error_threshold=2", "a number from 0 to 1"),
        ("enabled=perhaps", "on or off"),
        ("pins.k=nowhere", "flat or hierarchical"),
        ("reads.Not An Operation=flat", "reads"),
        ("pins=flat", "there is no flag"),
        ("held=reflexive,tacticle", "tacticle is none of reflexive, "),
    ],
)
def test_a_wrong_flag_is_named_with_what_would_be_right(assignment: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said.replace("?", r"\?")):
        changed(Flags(), [assignment])


def test_an_empty_value_takes_an_entry_out() -> None:
    given = changed(Flags(), ["pins.a.b=flat", "prefixes.x=hierarchical", "error_threshold=0.5"])
    assert given.pins == {"a.b": "flat"}
    assert changed(given, ["pins.a.b=", "prefixes.x=", "error_threshold="]) == Flags()


def test_too_many_prefixes_and_keys_that_are_none_are_problems() -> None:
    assert problems(Flags(prefixes={f"p{i}": "flat" for i in range(65)})) == ["65 prefixes, more than 64"]
    assert problems(Flags(pins={"\0seal": "flat"})) != []
    assert problems(Flags(layers=Layers(substrate=False))) == ["layers.protocol needs layers.substrate"]


def test_every_flag_is_listed_with_its_meaning() -> None:
    found = listing(changed(Flags(), ["pins.k=flat"]))
    assert {name.split(".", maxsplit=1)[0] for name in found} == set(Flags.__struct_fields__)
    assert found["pins.k"][0] == "flat"
    assert all(meaning for _, meaning in found.values())


def test_a_flag_is_set_once() -> None:
    with pytest.raises(ConfigError, match="percentage is given twice"):
        changed(Flags(), ["percentage=10", "percentage=11"])
