import contextlib
import math
import re
import struct
from pathlib import Path
from typing import Any

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.migrator import mapping
from services.migrator.transform import (
    Invalid,
    canonical,
    copy_of_neuron,
    copy_of_unit,
    same,
    to_neuron,
    to_unit,
    validate,
    validate_unit,
)

Tree = dict[str, Any]

NAN_WITH_PAYLOAD = struct.unpack(">d", bytes.fromhex("7ff8000000abcdef"))[0]
NEGATIVE_NAN = struct.unpack(">d", bytes.fromhex("fff8000000000001"))[0]
ODD_FLOATS = [
    0.0,
    -0.0,
    5e-324,
    -2.2e-308,
    math.inf,
    -math.inf,
    NAN_WITH_PAYLOAD,
    NEGATIVE_NAN,
    1.7976931348623157e308,
    0.1,
]

numbers = st.sampled_from(ODD_FLOATS) | st.floats() | st.integers(-(2**63), 2**64 - 1)
words = st.text(max_size=6) | st.sampled_from(
    ["weights", "layer", "kind", "carried", "metadata", "extra", "rest", "lap"]
)
scalars = st.none() | st.booleans() | numbers | words | st.binary(max_size=4)
trees = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words | st.integers(0, 3), inner, max_size=3),
    max_leaves=6,
)
bags = st.dictionaries(words, trees, max_size=3)
times = st.sampled_from([0, 0.0, 10, 10.0, 10.000000000000002, 200.0, 500.0, 1000.0, 1001, 5e-324]) | st.floats(0, 1e6)
layers = st.sampled_from(mapping.LAYERS)
ALIENS = ["x", "new field", "unit_id", "layer", "neuron_id", "target", "metadata", "carried", "weights", "extra"]


def extras(*real: str) -> st.SearchStrategy[Tree]:
    """Fields that nobody knows, some with names that mean something elsewhere."""
    return st.dictionaries(st.sampled_from([name for name in ALIENS if name not in real]), trees, max_size=2)


def maybe(key: str, values: st.SearchStrategy[Any]) -> st.SearchStrategy[Tree]:
    return st.just({}) | values.map(lambda value: {key: value})


def joined(*parts: st.SearchStrategy[Tree]) -> st.SearchStrategy[Tree]:
    """Later parts win, so an extra field never replaces a real one."""
    return st.tuples(*parts).map(lambda found: {key: value for part in found for key, value in part.items()})


neuron_edges = joined(
    extras("target", "carried"),
    st.fixed_dictionaries(
        {"target": words, "weight": numbers, "kind": st.sampled_from([*mapping.KINDS, "excitatory"]) | words}
    ),
    maybe("carried", bags),
)
unit_edges = joined(
    extras("metadata"),
    st.fixed_dictionaries({"target_id": words, "weight": numbers, "kind": st.sampled_from(mapping.KINDS)}),
    maybe("metadata", bags),
)
vectors = st.lists(numbers, max_size=4)
learning = {"weights": vectors, "bias": numbers, "learning_rate": numbers, "momentum": vectors}
kinds_of_neuron = st.sampled_from(["standard", "relay"]) | words
neurons = joined(
    extras("neuron_id", "carried", "weights"),
    st.fixed_dictionaries(
        {
            **learning,
            "neuron_id": words,
            "neuron_type": kinds_of_neuron,
            "activation": st.sampled_from(["identity", "relu"]),
            "connections": st.lists(neuron_edges, max_size=3),
            "memory": bags,
            "context": st.just({}) | bags,
            "response_time_ms": times,
            "is_async": st.booleans(),
            "created_at": st.just(0) | st.integers(0, 2**53),
        }
    ),
    maybe("carried", bags),
)
cognitive = joined(
    extras(),
    st.fixed_dictionaries(
        {
            "activation_level": st.just(0.0) | numbers,
            "attention_focus": st.lists(words, max_size=2),
            "working_memory": bags,
            "processing_mode": st.sampled_from(["synchronous", "asynchronous"]) | words,
        }
    ),
)
units = joined(
    extras("unit_id", "layer", "metadata"),
    st.fixed_dictionaries(
        {
            "unit_id": words,
            "layer": layers,
            "mapping_version": st.integers(1, 3),
            "cognitive": cognitive,
            "learning": joined(extras("weights"), st.fixed_dictionaries(learning)),
            "connections": st.lists(unit_edges, max_size=3),
        }
    ),
    maybe("metadata", bags),
)


def packed(value: object) -> object:
    """An independent view of a value: what msgpack writes, with maps as sorted pairs."""
    if isinstance(value, dict):
        return sorted((repr(packed(key)), packed(item)) for key, item in value.items())
    if isinstance(value, list):
        return [packed(item) for item in value]
    return msgpack.packb(value)


def neuron(**fields: Any) -> Tree:
    return {
        "neuron_id": "n/1",
        "neuron_type": "hidden",
        "activation": "relu",
        "weights": [0.5, -0.25],
        "bias": 0.125,
        "learning_rate": 0.01,
        "momentum": [0.0, -0.0],
        "connections": [{"target": "n/2", "weight": 1.0, "kind": "forward"}],
        "memory": {"learned": 3},
        "context": {},
        "response_time_ms": 120.0,
        "is_async": False,
        "created_at": 1_700_000_000_000,
        "carried": {},
        **fields,
    }


@given(neurons)
def test_a_neuron_comes_back_bit_for_bit(state: Tree) -> None:
    before = packed(state)
    assert packed(to_neuron(to_unit(state))) == before
    assert packed(state) == before


@given(neurons, layers)
def test_a_neuron_whose_layer_was_chosen_before_comes_back_bit_for_bit(state: Tree, layer: str) -> None:
    unit = to_unit(state, layer=layer)
    assert unit["layer"] == layer
    assert packed(to_neuron(unit)) == packed(state)


@given(units)
def test_a_unit_comes_back_bit_for_bit(state: Tree) -> None:
    before = packed(state)
    assert packed(to_unit(to_neuron(state))) == before
    assert packed(to_unit(to_neuron(state), layer=state["layer"])) == before
    assert packed(state) == before


fields_of_neuron = {
    "response_time_ms": times,
    "activation": st.sampled_from(["identity", "relu"]),
    "neuron_type": kinds_of_neuron,
    "context": st.just({}) | bags,
    "is_async": st.booleans(),
    "created_at": st.sampled_from([0, 5]),
    "weights": st.lists(numbers, max_size=2),
    "seen": trees,
}
fields_of_unit = {"layer": layers, "mapping_version": st.sampled_from([1, 2]), "tags": trees}
edits = st.lists(
    st.one_of(
        *[st.tuples(st.just("neuron"), st.just(name), values) for name, values in fields_of_neuron.items()],
        *[st.tuples(st.just("unit"), st.just(name), values) for name, values in fields_of_unit.items()],
        st.tuples(st.just("cognitive"), st.just("activation_level"), st.sampled_from([0.0, 1.0])),
        st.tuples(st.just("carried"), words, trees),
        st.tuples(st.just("metadata"), words, trees),
    ),
    max_size=8,
)


@settings(max_examples=200)
@given(neurons, edits)
def test_whatever_either_system_changes_meanwhile_both_ways_stay_exact(state: Tree, changes: list[Any]) -> None:
    layer = None
    for where, name, value in changes:
        unit = to_unit(state, layer=layer)
        assert packed(to_neuron(unit)) == packed(state)
        if where == "neuron":
            state = {**state, name: value}
        elif where == "carried":
            state = {**state, "carried": {**state.get("carried", {}), name: value}}
        else:
            inner = {"cognitive": unit["cognitive"], "metadata": unit.get("metadata", {})}
            unit = {**unit, name: value} if where == "unit" else {**unit, where: {**inner[where], name: value}}
            layer = unit["layer"]
            state = to_neuron(unit)
            assert packed(to_unit(state, layer=layer)) == packed(unit)


def test_a_bag_that_was_absent_and_then_filled_stays_exact() -> None:
    state = neuron()
    del state["carried"]
    moved = {**to_unit(state), "layer": "strategic"}
    back = to_neuron(moved)
    filled = {**back, "carried": {**back["carried"], "seen": 1}}
    again = {**to_unit(filled), "layer": to_unit(state)["layer"]}
    assert same(to_unit(to_neuron(again)), again)


def test_notes_do_not_grow_by_going_to_and_fro() -> None:
    state, sizes = neuron(), []
    for turn in range(12):
        unit = to_unit(state)
        unit = {**unit, "cognitive": {**unit["cognitive"], "activation_level": turn + 1.0}}
        state = {**to_neuron(unit), "context": {"turn": turn}}
        sizes.append(len(canonical(state)))
    assert len(set(sizes)) == 1


@pytest.mark.parametrize(
    ("response_time_ms", "layer"),
    [
        (0, "reflexive"),
        (-0.0, "reflexive"),
        (10.0, "reflexive"),
        (math.nextafter(10.0, 11), "implementation"),
        (200, "implementation"),
        (math.nextafter(200.0, 201), "operational"),
        (500.0, "operational"),
        (math.nextafter(500.0, 501), "tactical"),
        (1000.0, "tactical"),
        (math.nextafter(1000.0, 1001), "strategic"),
        (1.7976931348623157e308, "strategic"),
    ],
)
def test_the_upper_bounds_of_the_layers_are_inclusive(response_time_ms: float, layer: str) -> None:
    unit = to_unit(neuron(response_time_ms=response_time_ms))
    assert (unit["layer"], unit["mapping_version"]) == (layer, 1)


@pytest.mark.parametrize("response_time_ms", [math.nan, math.inf, -math.inf, -1.0, -5e-324, None, "10", True])
def test_a_response_time_that_is_not_finite_or_negative_is_invalid(response_time_ms: object) -> None:
    with pytest.raises(Invalid) as caught:
        to_unit(neuron(response_time_ms=response_time_ms), layer="tactical")
    assert caught.value.code == "response-time"


def test_a_layer_is_chosen_once_and_never_again_by_a_metric_that_drifts() -> None:
    born = to_unit(neuron(response_time_ms=120.0))
    drifted = neuron(response_time_ms=900.0)
    again = to_unit(drifted, layer=born["layer"])
    assert again["layer"] == "implementation"
    assert same(to_neuron(again), drifted)


def test_a_unit_that_was_moved_to_another_layer_keeps_it_through_flat() -> None:
    moved = {**to_unit(neuron(response_time_ms=120.0)), "layer": "strategic"}
    back = to_neuron(moved)
    learnt = {**back, "weights": [1.5, 2.5], "response_time_ms": 3.0}
    assert to_unit(learnt)["layer"] == "strategic"
    assert to_unit(learnt, layer="reflexive")["layer"] == "strategic"


def test_a_unit_that_was_never_a_neuron_needs_no_note() -> None:
    unit = {**to_unit(neuron()), "metadata": {}}
    state = to_neuron(unit)
    assert state["carried"] == {}
    assert same(to_unit(state), unit)


def test_a_kind_of_connection_that_units_do_not_know_keeps_its_name() -> None:
    edge = {"target": "n/2", "weight": 1.0, "kind": "excitatory"}
    unit = to_unit(neuron(connections=[edge]))
    assert unit["connections"] == [
        {"target_id": "n/2", "weight": 1.0, "kind": "forward", "metadata": {"as_neuron": {"kind": "excitatory"}}}
    ]
    unit["connections"][0]["kind"] = "backward"
    assert to_neuron(unit)["connections"] == [{**edge, "carried": {"as_unit": {"kind": "backward"}}}]


@pytest.mark.parametrize(
    "note",
    [
        7,
        {},
        {"layer": "tactical"},
        {"layer": "tactical", "mapping_version": 1, "cognitive": {}, "unheard": 1},
        {"layer": "tactical", "mapping_version": 1, "cognitive": {}, "lap": 0},
        {"layer": "tactical", "mapping_version": 1, "cognitive": {}, "lap": True},
        {"layer": "tactical", "mapping_version": 1, "cognitive": {}, "rest": {}},
        {"layer": "tactical", "mapping_version": 1, "cognitive": {}, "rest": {"as_neuron": 1}},
        {"layer": "tactical", "mapping_version": 1, "cognitive": {}, "odd": False},
        {"layer": "tactical", "mapping_version": 1, "cognitive": {}, "assigned": ""},
        {"layer": "tactical", "mapping_version": 1, "cognitive": {}, "extra": {}},
        {"layer": "tactical", "mapping_version": 1, "cognitive": {}, "extra": {"learning": 1}},
        {"layer": "tactical", "mapping_version": 1, "cognitive": {}, "learning": {"bias": 1}},
        {"layer": "tactical", "mapping_version": 1, "cognitive": {"working_memory": {}}},
    ],
)
def test_a_note_that_this_mapping_did_not_make_is_refused(note: object) -> None:
    with pytest.raises(Invalid) as caught:
        to_unit(neuron(carried={"as_unit": note}))
    assert caught.value.code == "reserved"


UNIT_FIELDS = ("unit_id", "layer", "cognitive", "learning", "connections", "metadata", "mapping_version")
junk = st.one_of(
    trees,
    st.fixed_dictionaries({}, optional=dict.fromkeys(neuron(), trees)),
    st.fixed_dictionaries({}, optional=dict.fromkeys(UNIT_FIELDS, trees)),
)
ABOUT = ("rest", "lap", "odd", "holder_odd", "assigned", "extra", "learning")
notes = st.fixed_dictionaries(
    {"layer": layers | trees, "mapping_version": trees, "cognitive": trees}, optional=dict.fromkeys(ABOUT, trees)
)


@given(neurons, notes)
def test_any_note_is_refused_or_kept_exactly(state: Tree, note: Tree) -> None:
    state = {**state, "carried": {"as_unit": note}}
    try:
        unit = to_unit(state)
    except Invalid:
        return
    assert packed(to_neuron(unit)) == packed(state)


@given(junk)
def test_garbage_is_invalid_and_nothing_else(state: Any) -> None:
    for check in (validate, validate_unit, to_unit, to_neuron, copy_of_neuron, copy_of_unit):
        with contextlib.suppress(Invalid):
            check(state)


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"weights": "0.5"}, "schema"),
        ({"weights": [True, 0.5]}, "schema"),
        ({"is_async": 1}, "schema"),
        ({"created_at": 1.0}, "schema"),
        ({"memory": None}, "schema"),
        ({"neuron_id": ""}, "schema"),
        ({"carried": None}, "schema"),
        ({"response_time_ms": -1.0}, "response-time"),
        ({"momentum": [0.0]}, "learning-state"),
        ({"weights": [math.nan, 0.0]}, "learning-state"),
        ({"bias": math.inf}, "learning-state"),
        ({"connections": [{"target": "", "weight": 1.0, "kind": "forward"}]}, "connections"),
        ({"connections": [{"target": "\0x", "weight": 1.0, "kind": "forward"}]}, "connections"),
        ({"connections": [{"target": "n/2", "weight": math.nan, "kind": "forward"}]}, "connections"),
        ({"connections": [{"target": "n/2", "kind": "forward"}]}, "schema"),
    ],
)
def test_validation_names_what_is_wrong(fields: Tree, code: str) -> None:
    with pytest.raises(Invalid) as caught:
        copy_of_neuron(neuron(**fields))
    assert caught.value.code == code


def test_a_state_nested_too_deeply_is_invalid() -> None:
    deep: Any = 1
    for _ in range(5000):
        deep = [0.5, deep]
    with pytest.raises(Invalid, match="nested"):
        validate(neuron(memory={"a": deep}))


def test_a_field_that_is_missing_is_invalid() -> None:
    for name in set(neuron()) - {"carried"}:
        state = neuron()
        del state[name]
        for check in (validate, to_unit):
            with pytest.raises(Invalid):
                check(state)


def test_copies_are_what_the_transform_gives() -> None:
    assert same(copy_of_neuron(neuron()), to_unit(neuron()))
    unit = to_unit(neuron())
    assert same(copy_of_unit(unit), neuron())


def test_integers_stay_integers_and_numbers_stay_themselves() -> None:
    assert not same({"a": 1}, {"a": 1.0})
    assert not same({"a": 0.0}, {"a": -0.0})
    assert same({"a": NAN_WITH_PAYLOAD, "b": {2: 1, "x": 2}}, {"b": {"x": 2, 2: 1}, "a": NAN_WITH_PAYLOAD})
    assert not same(NAN_WITH_PAYLOAD, math.nan)


def test_the_documented_table_is_the_one_in_the_code() -> None:
    page = (Path(__file__).parents[2] / "docs" / "mapping.md").read_text()
    rows = re.findall(r"^\| `([^`]+)` \| `([^`]+)` \|", page, re.MULTILINE)
    shared = {(name, ".".join(path)) for name, path in mapping.SHARED.items()}
    edges = {(f"connections[].{a}", f"connections[].{b}") for a, b in mapping.SHARED_OF_CONNECTION.items()}
    noted = {(name, f"metadata.{mapping.AS_NEURON}.{name}") for name in mapping.NEURON_ONLY}
    noted |= {(f"carried.{mapping.AS_UNIT}.{name}", name) for name in mapping.UNIT_ONLY}
    assert set(rows) == shared | edges | noted
    for layer, bound in zip(mapping.LAYERS, mapping.BOUNDS_MS, strict=False):
        assert f"| {layer} | {bound:g} ms |" in page
