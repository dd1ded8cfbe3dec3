import copy
import math
import struct
from collections.abc import Callable
from typing import Any

import msgpack
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hal9.backend.handler import BatchHandler, Refused, Result, as_batch
from services.migrator.transform import canonical, same, to_neuron, to_unit, validate_unit
from systems.flat.handler import FlatHandler
from systems.hierarchical import arrays
from systems.hierarchical.faults import FailingHandler
from systems.hierarchical.handler import HierarchicalHandler, passes

Tree = dict[str, Any]


class InFlat:
    """The flat system, its states shown as neurons."""

    handler: BatchHandler = as_batch(FlatHandler())
    stored = staticmethod(lambda neuron: neuron)
    shown = staticmethod(lambda state: state)


class InHierarchical:
    """The hierarchical system, its states shown as neurons."""

    handler: BatchHandler = HierarchicalHandler()
    stored = staticmethod(to_unit)
    shown = staticmethod(to_neuron)


def ask(system: Any, state: Tree | None, operation: str, value: object = None) -> Result:
    body = value if isinstance(value, bytes) else msgpack.packb(value)
    result: Result = system.handler.batch([(state, operation, body)])[0]
    return result


def done(system: Any, state: Tree | None, operation: str, value: object = None) -> tuple[Any, Tree]:
    result = ask(system, state, operation, value)
    assert not isinstance(result, Refused), result
    return result[0], msgpack.unpackb(result[1], strict_map_key=False)


def refusal(system: Any, state: Tree | None, operation: str, value: object = None) -> str:
    result = ask(system, state, operation, value)
    assert isinstance(result, Refused), result
    return result.code


def neuron(**fields: Any) -> Tree:
    given_fields = {"neuron_id": "n", "weights": [0.5, -0.25, 2.0], "activation": "identity", "learning_rate": 0.1}
    state: Tree = done(InFlat, None, "create", {**given_fields, **fields})[0]
    return state


both = pytest.mark.parametrize("system", [InFlat, InHierarchical])


@both
def test_a_neuron_is_created_read_and_deleted(system: Any) -> None:
    given_map = {"neuron_id": "n", "weights": [1.0, 2.0], "activation": "relu", "memory": {"a": {1: 2}}, "new": "kept"}
    state, answer = done(system, None, "create", given_map)
    assert answer == {"version": 1}
    same_state, shown = done(system, state, "read")
    assert same_state is state
    assert all(shown[name] == value for name, value in given_map.items())
    assert (shown["momentum"], shown["bias"], shown["carried"]) == ([0.0, 0.0], 0.0, {})
    assert done(system, state, "delete") == (None, {})


@both
def test_process_is_another_name_for_activate(system: Any) -> None:
    state = system.stored(neuron())
    value = {"inputs": [[1.0, 2.0, 3.0]]}
    assert ask(system, state, "process", value) == ask(system, state, "activate", value)


@both
@pytest.mark.parametrize(
    ("name", "function"),
    [
        ("identity", lambda x: x),
        ("relu", lambda x: max(x, 0.0)),
        ("sigmoid", lambda x: 1 / (1 + math.exp(-x))),
        ("tanh", math.tanh),
    ],
)
def test_an_activation_is_that_function_of_the_weighted_sum(
    system: Any, name: str, function: Callable[[float], float]
) -> None:
    state = system.stored(neuron(activation=name, bias=0.25))
    inputs = [[1.0, 2.0, 0.5], [0.0, 0.0, 0.0], [-3.0, 4.0, -1.0]]
    expected = [function(0.5 * a - 0.25 * b + 2.0 * c + 0.25) for a, b, c in inputs]
    assert done(system, state, "activate", {"inputs": inputs})[1]["outputs"] == pytest.approx(expected, rel=1e-14)


@both
def test_a_sigmoid_of_a_large_number_is_no_overflow(system: Any) -> None:
    state = system.stored(neuron(activation="sigmoid", weights=[1.0]))
    assert done(system, state, "activate", {"inputs": [[1e308], [-1e308]]})[1]["outputs"] == [1.0, 0.0]


@both
@pytest.mark.parametrize("activation", ["identity", "relu", "sigmoid", "tanh"])
@pytest.mark.parametrize("inputs", [[1e308], [-1e308], [math.nan], [math.inf], [-math.inf]])
def test_a_sum_that_is_not_finite_is_refused_whatever_the_activation(
    system: Any, activation: str, inputs: list[float]
) -> None:
    state = system.stored(neuron(activation=activation, weights=[2.0]))
    assert refusal(system, state, "activate", {"inputs": [[0.0], inputs]}) == "bad-value"


@both
@pytest.mark.parametrize(("inputs", "delta"), [(math.nan, 0.0), (math.inf, 0.0), (0.0, math.nan), (0.0, -math.inf)])
def test_a_lesson_that_is_not_finite_is_refused_even_where_it_would_weigh_nothing(
    system: Any, inputs: float, delta: float
) -> None:
    state = system.stored(neuron(weights=[0.0], learning_rate=0.0))
    assert refusal(system, state, "learn", {"inputs": [inputs], "delta": delta}) == "bad-value"


@both
def test_learning_is_a_step_of_momentum_sgd_and_is_counted(system: Any) -> None:
    before = neuron(momentum=[1.0, 0.0, -1.0], bias=1.0, memory={"learned": 4, "name": "x"})
    state, answer = done(system, system.stored(before), "learn", {"inputs": [1.0, 2.0, 4.0], "delta": 0.5})
    after = system.shown(state)
    step = 0.1 * 0.5
    moved = [0.9 * 1.0 + step * 1.0, 0.9 * 0.0 + step * 2.0, 0.9 * -1.0 + step * 4.0]
    assert after["momentum"] == moved
    assert after["weights"] == [0.5 - moved[0], -0.25 - moved[1], 2.0 - moved[2]]
    assert after["bias"] == 1.0 - step
    assert after["memory"] == {"learned": 5, "name": "x"}
    assert answer == {"back": [0.25, -0.125, 1.0]}
    assert same({**after, **{k: before[k] for k in ("momentum", "weights", "bias", "memory")}}, before)


finite = st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(2**63), 2**64 - 1)
widths = st.integers(0, 5)


def lessons(width: int) -> st.SearchStrategy[Any]:
    vectors = st.lists(finite, min_size=width, max_size=width)
    return st.tuples(
        st.fixed_dictionaries(
            {
                "weights": vectors,
                "momentum": vectors,
                "bias": finite,
                "learning_rate": finite,
                "neuron_id": st.just("n"),
            }
        ),
        st.fixed_dictionaries({"inputs": vectors, "delta": finite}),
    )


@given(st.lists(widths.flatmap(lessons), min_size=1, max_size=6))
def test_both_systems_learn_the_same_bits_one_at_a_time_or_in_a_batch(batch: list[Any]) -> None:
    flat_items = [(done(InFlat, None, "create", state)[0], "learn", msgpack.packb(value)) for state, value in batch]
    items = [(to_unit(state), operation, value) for state, operation, value in flat_items]
    for one, many in zip(InFlat.handler.batch(flat_items), InHierarchical.handler.batch(items), strict=True):
        if isinstance(one, Refused) or isinstance(many, Refused):
            assert isinstance(one, Refused)
            assert isinstance(many, Refused)
            assert one.code == many.code == "bad-value"
        else:
            assert isinstance(many[0], dict)
            assert canonical(to_neuron(many[0])) == canonical(one[0])
            assert many[1] == one[1]


def test_a_batch_of_many_layers_widths_and_inputs_gives_what_one_at_a_time_gives() -> None:
    random = np.random.default_rng(7)
    shared = {width: [random.normal(size=width).tolist() for _ in range(64)] for width in (3, 5)}
    items = []
    for number in range(60):
        width = 3 + 2 * (number % 2)
        own = [random.normal(size=width).tolist() for _ in range(1 + number % 3)]
        state = neuron(
            weights=random.normal(size=width).tolist(),
            bias=float(number),
            activation=("relu", "identity", "tanh", "sigmoid")[number % 4],
            response_time_ms=float(number * 20),
        )
        inputs = shared[width] if number % 5 else own
        items.append((state, "activate", msgpack.packb({"inputs": inputs})))
    batch = InHierarchical.handler.batch([(to_unit(state), name, value) for state, name, value in items])
    for one, many in zip(InFlat.handler.batch(items), batch, strict=True):
        assert not isinstance(one, Refused)
        assert not isinstance(many, Refused)
        wanted, found = msgpack.unpackb(one[1])["outputs"], msgpack.unpackb(many[1])["outputs"]
        assert found == pytest.approx(wanted, rel=1e-12, abs=1e-12)


def test_a_layer_is_one_matrix_product_unless_its_result_would_be_too_large(monkeypatch: pytest.MonkeyPatch) -> None:
    products: list[int] = []
    real = arrays._product

    def product(units: Any, inputs: Any) -> Any:
        products.append(len(units))
        return real(units, inputs)

    monkeypatch.setattr(arrays, "_product", product)
    items = [
        (to_unit(neuron(bias=float(i))), "activate", msgpack.packb({"inputs": [[float(i), 0, 0]]})) for i in range(40)
    ]
    whole = InHierarchical.handler.batch(items)
    assert products == [40]
    monkeypatch.setattr(arrays, "CELLS", 100)
    products.clear()
    cut = InHierarchical.handler.batch(items)
    assert products == [10, 10, 10, 10]
    assert [result[1] for result in cut if not isinstance(result, Refused)] == [
        result[1] for result in whole if not isinstance(result, Refused)
    ]


HOSTILE = [
    b"",
    b"\xc1",
    b"\xdd\xff\xff\xff\xff",
    b"\x91" * 50_000 + b"\xc0",
    b"\x81\xa6inputs" + b"\x91" * 50_000,
    b"\x81\xa7weights\xdf\xff\xff\xff\xff",
    b"\x81\x80\x01",
    b"\xa1\xff",
    msgpack.packb(None),
    msgpack.packb([]),
    msgpack.packb({}),
    msgpack.packb({1: 2}),
    msgpack.packb({"inputs": None, "delta": None}),
    msgpack.packb({"inputs": "abc", "delta": "x"}),
    msgpack.packb({"inputs": [], "delta": 0.0}),
    msgpack.packb({"inputs": [[]], "delta": 0.0}),
    msgpack.packb({"inputs": [[1.0, 2.0]], "delta": 0.0}),
    msgpack.packb({"inputs": [1.0, 2.0], "delta": 0.0}),
    msgpack.packb({"inputs": [[1.0, 2.0, 3.0], [1.0, 2.0]], "delta": 0.0}),
    msgpack.packb({"inputs": [[1.0, 2.0, math.nan]], "delta": 0.0}),
    msgpack.packb({"inputs": [[1.0, 2.0, math.inf]], "delta": 0.0}),
    msgpack.packb({"inputs": [1.0, 2.0, math.nan], "delta": 0.0}),
    msgpack.packb({"inputs": [1.0, 2.0, 3.0], "delta": -math.inf}),
    msgpack.packb({"inputs": [1.0, 2.0, 3.0], "delta": True}),
    msgpack.packb({"inputs": [1e308, 1e308, 1e308], "delta": 1e308}),
    msgpack.packb({"inputs": [[1e308, -1e308, 1e308]], "delta": 1e308}),
    msgpack.packb({"inputs": [True, 1.0, 1.0], "delta": 1.0}),
]


@both
@pytest.mark.parametrize("operation", ["activate", "process", "learn", "create"])
@pytest.mark.parametrize("value", HOSTILE)
def test_a_hostile_value_is_refused_and_spoils_no_other_request(system: Any, operation: str, value: bytes) -> None:
    state = None if operation == "create" else system.stored(neuron())
    good = (system.stored(neuron()), "activate", msgpack.packb({"inputs": [[1.0, 1.0, 1.0]]}))
    first, refused, last = system.handler.batch([good, (state, operation, value), good])
    assert isinstance(refused, Refused)
    assert refused.code == "bad-value"
    assert first == last == system.handler.batch([good])[0]


@both
@given(
    st.binary(max_size=60), st.sampled_from(["create", "activate", "process", "learn", "read", "delete", "nonsense"])
)
def test_any_bytes_are_answered_or_refused_alike(system: Any, value: bytes, operation: str) -> None:
    for state in (None, neuron()):
        result = ask(system, None if state is None else system.stored(state), operation, value)
        other = ask(InFlat, state, operation, value)
        if isinstance(other, Refused):
            assert isinstance(result, Refused)
            assert result.code == other.code
        else:
            assert not isinstance(result, Refused)


@both
@pytest.mark.parametrize(
    "fields",
    [
        {"weights": [math.nan]},
        {"momentum": [0.0]},
        {"activation": "exp"},
        {"memory": {"learned": "many"}},
        {"memory": {"learned": -1}},
        {"memory": {"learned": True}},
        {"memory": {"learned": 2**63 - 1}},
        {"response_time_ms": -1},
        {"response_time_ms": math.inf},
        {"connections": [{"target": "", "weight": 1.0, "kind": "forward"}]},
        {"created_at": 1.5},
        {"neuron_id": ""},
        {"neuron_id": 7},
    ],
)
def test_a_bad_neuron_is_not_created(system: Any, fields: Tree) -> None:
    assert refusal(system, None, "create", {"neuron_id": "n", "weights": [1.0, 2.0], **fields}) == "bad-value"


@both
def test_what_is_not_there_is_unknown_and_what_is_there_exists(system: Any) -> None:
    value = {"inputs": [[1.0, 2.0, 3.0]]}
    for operation in ("activate", "process", "learn", "read", "delete"):
        assert refusal(system, None, operation, value) == "unknown-neuron"
    assert refusal(system, system.stored(neuron()), "create", neuron()) == "exists"
    assert (
        refusal(system, None, "destroy", value)
        == refusal(system, system.stored(neuron()), "", value)
        == "unknown-operation"
    )


@both
def test_a_memory_that_cannot_count_further_refuses_to_learn(system: Any) -> None:
    full = {**neuron(), "memory": {"learned": 2**63 - 1}}
    assert refusal(system, system.stored(full), "learn", {"inputs": [0.0, 0.0, 0.0], "delta": 0.0}) == "bad-value"


@both
def test_no_operation_changes_the_state_it_was_given(system: Any) -> None:
    state = system.stored(neuron())
    before = copy.deepcopy(state)
    for operation, value in [
        ("activate", {"inputs": [[1.0, 2.0, 3.0]]}),
        ("learn", {"inputs": [1.0, 2.0, 3.0], "delta": 1.0}),
        ("read", None),
        ("delete", None),
    ]:
        done(system, state, operation, value)
    assert state == before


def test_states_and_answers_are_the_same_in_both_systems_for_a_neuron_from_birth_on() -> None:
    given_map = {
        "neuron_id": "n",
        "weights": [0.5, 1, -2.0],
        "learning_rate": 0.1,
        "context": {"a": struct.pack(">d", 1)},
    }
    flat, hierarchical = ask(InFlat, None, "create", given_map), ask(InHierarchical, None, "create", given_map)
    for operation, value in [
        ("learn", {"inputs": [1, 2.5, 3.0], "delta": 0.5}),
        ("learn", {"inputs": [0.1, -2.5, 3e-9], "delta": -0.75}),
        ("read", None),
    ]:
        assert not isinstance(flat, Refused)
        assert not isinstance(hierarchical, Refused)
        assert flat[1] == hierarchical[1]
        assert flat[0] is not None
        assert hierarchical[0] is not None
        validate_unit(hierarchical[0])
        assert same(to_unit(flat[0]), hierarchical[0])
        flat, hierarchical = (
            ask(InFlat, flat[0], operation, value),
            ask(InHierarchical, hierarchical[0], operation, value),
        )
    assert not isinstance(flat, Refused)
    assert not isinstance(hierarchical, Refused)
    assert flat[1] == hierarchical[1]


def test_a_unit_that_never_was_a_neuron_is_identity() -> None:
    unit = {**to_unit(neuron()), "metadata": {}}
    assert done(InHierarchical, unit, "activate", {"inputs": [[1.0, 0.0, 0.0]]})[1] == {"outputs": [0.5]}


ARCHITECTURE = ("substrate", "protocol", "cognitive", "orchestration", "intelligence")
OFF = [frozenset(ARCHITECTURE[level:]) for level in range(6)]


def mixed_batch() -> list[Any]:
    """Two strategic units, two reflexive ones; all but one are asked about the same inputs; then three learn."""
    slow, quick = ({**neuron(), "response_time_ms": ms, "activation": "sigmoid"} for ms in (5000.0, 1.0))
    same, other = (canonical({"inputs": [[x, 2.0, 3.0]]}) for x in (1.0, 5.0))
    lesson = canonical({"inputs": [0.1, -2.5, 3e-9], "delta": -0.75})
    units = [to_unit(slow), to_unit(quick), to_unit(slow), to_unit(quick)]
    asked: list[Any] = [(unit, "activate", same) for unit in units[:3]] + [(units[3], "activate", other)]
    return [*asked, *((unit, "learn", lesson) for unit in units[:3])]


@pytest.mark.parametrize("off", OFF, ids=range(6))
def test_architecture_layers_change_how_it_is_done_and_not_what_comes_of_it(off: frozenset[Any]) -> None:
    items = mixed_batch()
    handler = HierarchicalHandler()
    full, less = handler.batch(items), handler.batch_without(items, off)
    for index, (one, two) in enumerate(zip(full, less, strict=True)):
        assert not isinstance(one, Refused)
        assert not isinstance(two, Refused)
        assert same(one[0] or {}, two[0] or {})  # states bit for bit
        if items[index][1] == "learn":
            assert one[1] == two[1]
        else:
            assert msgpack.unpackb(one[1])["outputs"] == pytest.approx(msgpack.unpackb(two[1])["outputs"], rel=1e-12)


def test_without_the_substrate_nothing_is_computed_on_arrays() -> None:
    assert passes(mixed_batch(), frozenset(ARCHITECTURE)) == []


def test_without_the_protocol_every_request_is_a_pass_of_its_own() -> None:
    assert [units for _, _, units, _ in passes(mixed_batch(), OFF[1])] == [1] * 7


def test_without_the_cognitive_layer_units_of_all_layers_share_a_pass() -> None:
    assert passes(mixed_batch(), OFF[2]) == [("activate", "", 4, 4), ("learn", "", 3, 3)]


def test_without_orchestration_layers_come_as_their_requests_did() -> None:
    assert [layer for _, layer, _, _ in passes(mixed_batch(), OFF[3])] == ["strategic", "reflexive"] * 2
    assert [layer for _, layer, _, _ in passes(mixed_batch(), OFF[4])] == ["reflexive"] * 2 + ["strategic"] * 2


def test_without_intelligence_inputs_are_multiplied_for_each_unit_again() -> None:
    strategic = [each for each in passes(mixed_batch(), OFF[4]) if each[:2] == ("activate", "strategic")]
    assert strategic == [("activate", "strategic", 2, 2)]
    strategic = [each for each in passes(mixed_batch()) if each[:2] == ("activate", "strategic")]
    assert strategic == [("activate", "strategic", 2, 1)]


def test_a_failing_handler_fails_only_while_it_should() -> None:
    failing = [False]
    handler = FailingHandler(HierarchicalHandler(), lambda: failing[0])
    item = (to_unit(neuron()), "read", b"")
    assert handler.read_only == HierarchicalHandler.read_only
    assert not isinstance(handler.batch([item])[0], Refused)
    failing[0] = True
    codes = [result.code for result in handler.batch([item, item]) if isinstance(result, Refused)]
    assert codes == ["injected-fault", "injected-fault"]
    failing[0] = False
    assert not isinstance(handler.batch([item])[0], Refused)
