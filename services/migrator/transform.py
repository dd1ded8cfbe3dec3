"""Neuron to unit and back, exactly: each function is the other's inverse, bit for bit, on every state that it accepts.

What a neuron holds and no field of a unit does lies in the unit's `metadata.as_neuron`, and the other way round in
`carried.as_unit`; `mapping` says which fields, `counterpart` how nothing is lost. The layer is chosen once, from the
response time, and kept. Floats are passed on, never computed with.
"""

import math
from collections.abc import Iterable
from typing import Any

import msgspec

from hal9.keys import key_error
from schemas.base import Tree
from schemas.state import Neuron, Unit
from services.migrator.counterpart import Form, Invalid, canonical, exchange, same
from services.migrator.mapping import (
    AS_NEURON,
    AS_UNIT,
    KINDS,
    LAYERS,
    NEURON_ONLY,
    SHARED,
    SHARED_OF_CONNECTION,
    UNIT_ONLY,
    layer_for,
    neuron_connection_fields,
    neuron_fields,
    unit_connection_fields,
    unit_fields,
)

__all__ = [
    "Invalid",
    "canonical",
    "copy_of_neuron",
    "copy_of_unit",
    "same",
    "to_neuron",
    "to_unit",
    "validate",
    "validate_unit",
]

MAX_DEPTH = 64
"""Levels of nesting in a state; decoders of other languages give up at 100 to 1,000."""

_EXTRA = "extra"
_OPTIONAL = frozenset((_EXTRA,))
_NEURON_KEYS = frozenset((*SHARED, *NEURON_ONLY, "connections", "carried"))
_UNIT_KEYS = frozenset((*UNIT_ONLY, *(path[0] for path in SHARED.values()), "connections", "metadata"))
_LEARNING_KEYS = frozenset(path[1] for path in SHARED.values() if path[0] == "learning")
_VECTORS = frozenset(("weights", "momentum"))
_MEMORY = SHARED["memory"][1]
_NEURON_EDGE_KEYS = frozenset((*SHARED_OF_CONNECTION, "kind", "carried"))
_UNIT_EDGE_KEYS = frozenset((*SHARED_OF_CONNECTION.values(), "kind", "metadata"))

_NEURON = Form(
    AS_UNIT, True, frozenset(NEURON_ONLY), _OPTIONAL, lambda unit, assigned: None if assigned else neuron_fields(unit)
)
_UNIT = Form(AS_NEURON, True, frozenset(UNIT_ONLY), _OPTIONAL | {"learning"}, unit_fields)
_KIND = frozenset(("kind",))
_NEURON_EDGE = Form(
    AS_UNIT, False, _KIND, _OPTIONAL, lambda edge, assigned: None if assigned else neuron_connection_fields(edge)
)
_UNIT_EDGE = Form(
    AS_NEURON, True, _KIND, _OPTIONAL, lambda edge, assigned: None if assigned else unit_connection_fields(edge)
)


def to_unit(neuron: Tree, *, layer: str | None = None) -> Tree:
    """The unit of a neuron.

    The layer is the one that the neuron carries if it carries one, else `layer` (chosen before, for this key), else
    chosen from `response_time_ms`. Raises `Invalid`: `schema`, `response-time`, `reserved`.
    """
    if layer is not None and layer not in LAYERS:
        raise Invalid("schema", f"{layer!r} is no layer")
    try:
        chosen = layer_for(neuron["response_time_ms"])
        assigned = layer if chosen is not None and layer != chosen else None
        own = {name: neuron[name] for name in NEURON_ONLY} | _extra(neuron, _NEURON_KEYS)
        fields, metadata = exchange(_NEURON, _UNIT, own, _bag(neuron, "carried"), assigned)
        return _unit(neuron, fields, metadata)
    except (KeyError, TypeError, AttributeError) as error:
        raise Invalid("schema", f"not a neuron: {error!r}") from error


def to_neuron(unit: Tree) -> Tree:
    """The neuron of a unit. Raises `Invalid`: `schema`, `reserved`."""
    try:
        own = {name: unit[name] for name in UNIT_ONLY} | _extra(unit, _UNIT_KEYS)
        own["cognitive"] = {name: value for name, value in unit["cognitive"].items() if name != _MEMORY}
        learning = {name: value for name, value in unit["learning"].items() if name not in _LEARNING_KEYS}
        if learning:
            own["learning"] = learning
        fields, carried = exchange(_UNIT, _NEURON, own, _bag(unit, "metadata"))
        return _neuron(unit, fields, carried)
    except (KeyError, TypeError, AttributeError) as error:
        raise Invalid("schema", f"not a unit: {error!r}") from error


def copy_of_neuron(neuron: Tree, *, layer: str | None = None) -> Tree:
    """The unit of a neuron that is valid and comes back as it was; else raises `Invalid` (also `inverse`)."""
    validate(neuron)
    unit = to_unit(neuron, layer=layer)
    if not same(to_neuron(unit), neuron):
        raise Invalid("inverse", "the unit does not give the neuron back")
    return unit


def copy_of_unit(unit: Tree) -> Tree:
    """The neuron of a unit that is valid and comes back as it was; else raises `Invalid` (also `inverse`)."""
    validate_unit(unit)
    neuron = to_neuron(unit)
    if not same(to_unit(neuron, layer=unit["layer"]), unit):
        raise Invalid("inverse", "the neuron does not give the unit back")
    return neuron


def validate(neuron: Tree) -> None:
    """Raises `Invalid` if a check fails, in this order: `schema`, `response-time`, `learning-state`, `connections`."""
    typed = _typed(neuron, Neuron)
    _check_depth(neuron.items())
    if layer_for(neuron["response_time_ms"]) is None:
        raise Invalid("response-time", f"{neuron['response_time_ms']!r} ms")
    _check_learning(typed)
    _check_edges([(edge.target, edge.weight) for edge in typed.connections])


def validate_unit(unit: Tree) -> None:
    """Raises `Invalid` if a check fails, in this order: `schema`, `learning-state`, `connections`."""
    typed = _typed(unit, Unit)
    _check_depth([*unit["learning"].items(), *((name, value) for name, value in unit.items() if name != "learning")])
    _check_learning(typed.learning)
    _check_edges([(edge.target_id, edge.weight) for edge in typed.connections])


def _unit(neuron: Tree, fields: Tree, metadata: Tree | None) -> Tree:
    cognitive, learning, extra = fields.pop("cognitive"), fields.pop("learning", {}), fields.pop(_EXTRA, {})
    unit = {**fields, **extra, "cognitive": dict(cognitive), "learning": dict(learning)}
    if extra.keys() & _UNIT_KEYS or _MEMORY in cognitive or learning.keys() & _LEARNING_KEYS:
        raise Invalid("reserved", "a field would be overwritten")
    for name, path in SHARED.items():
        inner = unit if len(path) == 1 else unit[path[0]]
        inner[path[-1]] = neuron[name]
    unit["connections"] = [_unit_edge(edge) for edge in neuron["connections"]]
    return unit if metadata is None else {**unit, "metadata": metadata}


def _neuron(unit: Tree, fields: Tree, carried: Tree | None) -> Tree:
    neuron = _spread(fields, _NEURON_KEYS)
    for name, path in SHARED.items():
        inner = unit if len(path) == 1 else unit[path[0]]
        neuron[name] = inner[path[-1]]
    neuron["connections"] = [_neuron_edge(edge) for edge in unit["connections"]]
    return neuron if carried is None else {**neuron, "carried": carried}


def _unit_edge(edge: Tree) -> Tree:
    if len(edge) == 3 and edge["kind"] in KINDS:  # noqa: PLR2004 - the three fields there are: no note, nearly always
        return {"target_id": edge["target"], "kind": edge["kind"], "weight": edge["weight"], "metadata": {}}
    own = {"kind": edge["kind"]} | _extra(edge, _NEURON_EDGE_KEYS)
    fields, metadata = exchange(_NEURON_EDGE, _UNIT_EDGE, own, _bag(edge, "carried"))
    mapped = _spread(fields, _UNIT_EDGE_KEYS)
    for name, there in SHARED_OF_CONNECTION.items():
        mapped[there] = edge[name]
    return mapped if metadata is None else {**mapped, "metadata": metadata}


def _neuron_edge(edge: Tree) -> Tree:
    if len(edge) == 4 and edge.get("metadata") == {} and edge["kind"] in KINDS:  # noqa: PLR2004 - as above
        return {"target": edge["target_id"], "weight": edge["weight"], "kind": edge["kind"]}
    own = {"kind": edge["kind"]} | _extra(edge, _UNIT_EDGE_KEYS)
    fields, carried = exchange(_UNIT_EDGE, _NEURON_EDGE, own, _bag(edge, "metadata"))
    mapped = _spread(fields, _NEURON_EDGE_KEYS)
    for name, there in SHARED_OF_CONNECTION.items():
        mapped[name] = edge[there]
    return mapped if carried is None else {**mapped, "carried": carried}


def _bag(state: Tree, name: str) -> Tree | None:
    if name not in state:
        return None
    bag = state[name]
    if not isinstance(bag, dict):
        raise Invalid("schema", f"{name} is no map")
    return bag


def _extra(state: Tree, known: frozenset[str]) -> Tree:
    extra = {name: value for name, value in state.items() if name not in known}
    return {_EXTRA: extra} if extra else {}


def _spread(fields: Tree, known: frozenset[str]) -> Tree:
    extra: Tree = fields.get(_EXTRA, {})
    if extra.keys() & known:
        raise Invalid("reserved", "a field would be overwritten")
    return {name: value for name, value in fields.items() if name != _EXTRA} | extra


def _typed(state: object, kind: type[Any]) -> Any:
    try:
        return msgspec.convert(state, kind)
    except (msgspec.ValidationError, RecursionError) as error:
        raise Invalid("schema", str(error)) from error


def _check_learning(learning: Any) -> None:
    if len(learning.weights) != len(learning.momentum):
        raise Invalid("learning-state", f"{len(learning.weights)} weights, {len(learning.momentum)} of momentum")
    numbers = (*learning.weights, *learning.momentum, learning.bias, learning.learning_rate)
    if not all(map(math.isfinite, numbers)):
        raise Invalid("learning-state", "a number is not finite")


def _check_edges(edges: list[tuple[str, float]]) -> None:
    for target, weight in edges:
        wrong = key_error(target.encode())
        if wrong or not math.isfinite(weight):
            raise Invalid("connections", f"to {target[:64]!r}: {wrong or 'the weight is not finite'}")


def _check_depth(fields: Iterable[tuple[str, Any]]) -> None:
    """Without recursion, and past the vectors of numbers: those are of their type by now."""
    level = [value for name, value in fields if name not in _VECTORS]
    for _ in range(MAX_DEPTH):
        level = [value for value in level if isinstance(value, dict | list)]
        if not level:
            return
        level = [value for item in level for value in (item.values() if isinstance(item, dict) else item)]
    raise Invalid("schema", f"nested deeper than {MAX_DEPTH} levels")
