"""State of a key as it lies in the four state logs: neurons (flat), units (hierarchical), the envelope, the marks."""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct

from schemas.base import Count, Offset, System, Tree

Layer = Literal["reflexive", "implementation", "operational", "tactical", "strategic"]
ArchitectureLayer = Literal["substrate", "protocol", "cognitive", "orchestration", "intelligence"]
Text = Annotated[str, Meta(max_length=4096)]


class NeuronConnection(Struct, kw_only=True):
    """An edge of a neuron."""

    target: Text
    weight: float
    kind: Text


class Neuron(Struct, kw_only=True):
    """Flat state of one key."""

    neuron_id: Annotated[str, Meta(min_length=1, max_length=256)]
    neuron_type: Text
    activation: Text
    weights: list[float]
    bias: float
    learning_rate: float
    momentum: list[float]
    connections: list[NeuronConnection]
    memory: Tree
    context: Tree
    response_time_ms: float
    is_async: bool
    created_at: int
    carried: Annotated[Tree, Meta(description="what a unit holds and no field here does")] = {}


class Cognitive(Struct, kw_only=True):
    """Cognitive state of a unit."""

    activation_level: float
    attention_focus: list[Text]
    working_memory: Tree
    processing_mode: Text


class Learning(Struct, kw_only=True):
    """Learning state of a unit."""

    weights: list[float]
    bias: float
    learning_rate: float
    momentum: list[float]


class UnitConnection(Struct, kw_only=True):
    """An edge of a unit."""

    target_id: Text
    kind: Literal["forward", "backward", "lateral"]
    weight: float
    metadata: Tree = {}


class Unit(Struct, kw_only=True):
    """Hierarchical state of one key."""

    unit_id: Annotated[str, Meta(min_length=1, max_length=256)]
    layer: Layer
    mapping_version: Annotated[int, Meta(ge=1)]
    cognitive: Cognitive
    learning: Learning
    connections: list[UnitConnection]
    metadata: Annotated[Tree, Meta(description="what a neuron holds and no field here does")] = {}


class Envelope(Struct, kw_only=True):
    """Value of a state record: the state (None: deleted) and the answer to the request that caused it."""

    state: Tree | None = None
    answer: bytes | None = None


class Spans(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A step function over the buckets: `epochs[i]` holds below `bounds[i]`.

    Keys that begin with one of `prefixes` (the longest counts) have a step function of their own; `keys` are
    exceptions (pinned keys). Keys of a cognitive layer in `layers` have all of this to themselves.
    """

    bounds: list[int]
    epochs: list[int]
    keys: dict[str, int] = {}
    prefixes: dict[str, "Spans"] = {}
    layers: dict[str, "Spans"] = {}


Bound = Annotated[int, Meta(ge=0, le=10_000)]


class RouteMark(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The route of an epoch as markers and seals carry it.

    Hierarchical owns the buckets below `bound`, units of the layers in `held` apart; keys that begin with one of
    `prefixes` (the longest counts) and, before those, the keys in `pins` are where these say.
    """

    epoch: Count
    bound: Bound
    shadow_bound: Bound = 0
    pins: dict[str, System] = {}
    prefixes: dict[str, System] = {}
    twin_bound: Annotated[int, Meta(ge=0, le=10_000, description="of the shadowed keys, those that run twice")] = 0
    reads: Annotated[dict[str, System], Meta(description="read-only operation -> who serves it")] = {}
    off: Annotated[list[ArchitectureLayer], Meta(description="architecture layers that are switched off")] = []
    held: Annotated[list[Layer], Meta(description="cognitive layers that stay at flat")] = []


class Marker(Struct, frozen=True, kw_only=True):
    r"""Value of `\0marker/<epoch>` on `dispatched`."""

    route: RouteMark
    moved: Annotated[Spans, Meta(description="the epoch in which each bucket last moved")]


class Requests(Struct, frozen=True, kw_only=True):
    r"""Value of `\0requests/<topic id>` on `dispatched`: the topic whose requests follow, and where they count from."""

    topic: Annotated[str, Meta(max_length=64, description="id that Kafka gave the topic when it was made")]
    base: Annotated[Count, Meta(description="position of the request at offset 0")]


class Seal(Struct, frozen=True, kw_only=True):
    r"""Value of `\0seal/<epoch>` on a change log or a replica log (there with the offset of its source)."""

    route: RouteMark
    forced: bool = False
    source: Offset = -1


class Claim(Struct, frozen=True, kw_only=True):
    r"""Value of `\0claim/<uuid>`: who claims."""

    instance: Annotated[str, Meta(max_length=128)]


neuron_decoder = msgspec.msgpack.Decoder(Neuron)
unit_decoder = msgspec.msgpack.Decoder(Unit)
envelope_decoder = msgspec.msgpack.Decoder(Envelope)
marker_decoder = msgspec.msgpack.Decoder(Marker)
requests_decoder = msgspec.msgpack.Decoder(Requests)
seal_decoder = msgspec.msgpack.Decoder(Seal)
