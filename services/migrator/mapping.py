"""Which field of a neuron is which field of a unit, and what each side fills in for fields that only it has. Pure.

`docs/mapping.md` shows the same tables to people; a test holds the two together. A change here is a new mapping
version, and that is a new migration: units are never re-mapped in place.
"""

import math
from typing import Any, Final, get_args

from schemas.state import Layer

MAPPING_VERSION: Final = 1

SHARED: Final[dict[str, tuple[str, ...]]] = {
    "neuron_id": ("unit_id",),
    "weights": ("learning", "weights"),
    "bias": ("learning", "bias"),
    "learning_rate": ("learning", "learning_rate"),
    "momentum": ("learning", "momentum"),
    "memory": ("cognitive", "working_memory"),
}
"""Field of a neuron -> path in a unit, the same value on both sides. `connections` are mapped one by one, in order."""

SHARED_OF_CONNECTION: Final = {"target": "target_id", "weight": "weight"}

NEURON_ONLY: Final = ("neuron_type", "activation", "context", "response_time_ms", "is_async", "created_at")
"""Fields of a neuron that no field of a unit has: they travel in `metadata.as_neuron`."""

UNIT_ONLY: Final = ("layer", "mapping_version", "cognitive")
"""Fields of a unit that no field of a neuron has: they travel in `carried.as_unit` (`cognitive` less its memory)."""

AS_NEURON: Final = "as_neuron"
"""Reserved key of a unit's (and of its connections') `metadata`."""
AS_UNIT: Final = "as_unit"
"""Reserved key of a neuron's (and of its connections') `carried`."""

LAYERS: Final[tuple[Layer, ...]] = get_args(Layer)
BOUNDS_MS: Final = (10.0, 200.0, 500.0, 1000.0)
"""Upper bounds, inclusive, of the first four layers; slower neurons are strategic."""

KINDS: Final = ("forward", "backward", "lateral")
"""Kinds of connection that a unit knows; any other kind of a neuron's connection is `forward`, its name kept."""

TYPICAL_MS: Final = dict(zip(LAYERS, (*BOUNDS_MS, 2000.0), strict=True))
"""Response time of a neuron that was born as a unit, and so was never timed: one that its layer is chosen for."""


def layer_for(response_time_ms: object) -> Layer | None:
    """The layer chosen for a response time in milliseconds; None if it is no finite number, or negative."""
    if isinstance(response_time_ms, bool) or not isinstance(response_time_ms, int | float):
        return None
    if not math.isfinite(response_time_ms) or response_time_ms < 0:
        return None
    for layer, bound in zip(LAYERS, BOUNDS_MS, strict=False):
        if response_time_ms <= bound:
            return layer
    return LAYERS[-1]


def unit_fields(neuron_fields: dict[str, Any], assigned: str | None = None) -> dict[str, Any] | None:
    """What a unit has beyond the neuron that it comes from.

    `assigned` is a layer chosen before, by another response time. None if no layer can be chosen, or if `assigned` is
    what the response time says anyhow (such a note is redundant, and never made).
    """
    layer = layer_for(neuron_fields["response_time_ms"])
    if layer == assigned:  # both None: no layer; the same layer: redundant
        return None
    return {
        "layer": assigned or layer,
        "mapping_version": MAPPING_VERSION,
        "cognitive": {
            "activation_level": 0.0,
            "attention_focus": [],
            "processing_mode": "asynchronous" if neuron_fields["is_async"] is True else "synchronous",
        },
    }


def neuron_fields(unit_fields: dict[str, Any]) -> dict[str, Any]:
    """What a neuron has beyond the unit that it comes from."""
    return {
        "neuron_type": "standard",
        "activation": "identity",
        "context": {},
        "response_time_ms": TYPICAL_MS.get(unit_fields["layer"], 0.0),
        "is_async": unit_fields["cognitive"].get("processing_mode") == "asynchronous",
        "created_at": 0,
    }


def unit_connection_fields(neuron_connection_fields: dict[str, Any]) -> dict[str, Any]:
    """What a unit's connection has beyond the neuron's connection that it comes from."""
    kind = neuron_connection_fields["kind"]
    return {"kind": kind if kind in KINDS else KINDS[0]}


def neuron_connection_fields(unit_connection_fields: dict[str, Any]) -> dict[str, Any]:
    """What a neuron's connection has beyond the unit's connection that it comes from."""
    return {"kind": unit_connection_fields["kind"]}
