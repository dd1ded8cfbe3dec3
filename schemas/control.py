"""Every command and decision, as written to `control`: the audit trail of a migration.

A record counts only if the reducer (`hal9.control.reducer`) accepts it; whoever writes one reads it back to know.
"""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct

from schemas.base import Count, Offset, Percentage, System, TimestampMs, Tree
from schemas.state import Layer

Id = Annotated[str, Meta(min_length=1, max_length=128)]
Phase = Literal["shadow", "canary", "state-migration", "ramp-up", "full", "decommission"]
PHASES: tuple[Phase, ...] = ("shadow", "canary", "state-migration", "ramp-up", "full", "decommission")
Trigger = Literal[
    "error_rate",
    "latency_p99",
    "health",
    "validation",
    "divergence",
    "sequential",
    "silence",
    "gate",
    "breaker",
    "manual",
]


class ControlRecord(Struct, frozen=True, kw_only=True, tag_field="type", omit_defaults=True):
    """What every control record has. `id` makes it idempotent: a second record with the same id does nothing."""

    id: Id
    migration: Id
    actor: Annotated[str, Meta(max_length=256, description="who: a person or a service instance")]
    at_ms: TimestampMs


class Start(ControlRecord, frozen=True, kw_only=True, omit_defaults=True, tag="start"):
    """Begin (or begin again after a rollback) to walk a plan; lifts the latch of a rollback and any freeze."""

    expected_epoch: Count
    partitions: Annotated[int, Meta(ge=1, le=1024)]
    plan: Tree


class Route(ControlRecord, frozen=True, kw_only=True, omit_defaults=True, tag="route"):
    """Change the route: the share of the keys that hierarchical owns, and the share that is shadowed."""

    expected_epoch: Count
    percentage: Percentage
    shadow: Annotated[float, Meta(ge=0, le=100, description="percentage of the keys that are shadowed")] | None = None
    phase: Phase | None = None
    step: Count = 0
    reason: Annotated[str, Meta(max_length=1024)] = ""


class Rollback(ControlRecord, frozen=True, kw_only=True, omit_defaults=False, tag="rollback"):
    """Go back: everything (`scope` empty) to 0 %, or to the route from before `phase`. Itself a change of route."""

    expected_epoch: Annotated[int, Meta(ge=0, description="the epoch that the evidence is from")]
    scope: Tree = {}
    phase: Phase | None = None
    trigger: Trigger
    evidence: Tree = {}
    reason: Annotated[str, Meta(max_length=1024)] = ""


class Pin(ControlRecord, frozen=True, kw_only=True, omit_defaults=True, tag="pin"):
    """Hold keys at a system: `system`, or the one that owns them when this record is folded. A change of route."""

    system: System | None = None
    keys: Annotated[list[Annotated[str, Meta(min_length=1, max_length=256)]], Meta(min_length=1, max_length=1000)]
    reason: Annotated[str, Meta(max_length=1024)] = ""


class Settled(ControlRecord, frozen=True, kw_only=True, omit_defaults=True, tag="settled"):
    """One partition has handed over: both seals of an epoch are copied and read back."""

    partition: Count
    epoch: Count
    seals: Annotated[dict[System, Offset], Meta(description="offset of each system's seal in its change log")]
    forced: list[System] = []
    took_ms: Annotated[
        dict[str, Count],
        Meta(description="since the decision: marker, seal.flat, seal.hierarchical, copied, as the migrator saw them"),
    ] = {}


class Layers(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The architecture layers of hierarchical; each needs the one before it."""

    substrate: bool = True
    protocol: bool = True
    cognitive: bool = True
    orchestration: bool = True
    intelligence: bool = True


OperationName = Annotated[str, Meta(pattern=r"^[a-z0-9_.-]{1,64}$")]
NeuronId = Annotated[str, Meta(min_length=1, max_length=256)]


class Flags(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Everything that is switched, in one version. Order of scopes: pins, `enabled`, prefixes, held, percentage."""

    enabled: Annotated[bool, Meta(description="the global switch; off: all but pinned keys at flat, no shadows")] = True
    percentage: Annotated[Percentage, Meta(description="share of the keys that hierarchical owns")] = 0.0
    shadow: Annotated[Percentage, Meta(description="share of the keys whose requests run at both systems")] = 0.0
    twin: Annotated[Percentage, Meta(description="share of the keys whose shadowed requests run at flat twice")] = 0.0
    auto_rollback: Annotated[bool, Meta(description="off: the guardian freezes where it would roll back")] = True
    error_threshold: (
        Annotated[float, Meta(ge=0, le=1, description="error rate of a rollback; null: the guardian's setting")] | None
    ) = None
    layers: Annotated[Layers, Meta(description="architecture layers; each needs the one before it")] = Layers()
    held: Annotated[list[Layer], Meta(description="cognitive layers that stay at flat")] = []
    pins: Annotated[dict[NeuronId, System], Meta(description="keys held at a system")] = {}
    prefixes: Annotated[dict[NeuronId, System], Meta(description="keys that begin so; the longest prefix counts")] = {}
    reads: Annotated[dict[OperationName, System], Meta(description="who serves a read-only operation")] = {}


class SetFlags(ControlRecord, frozen=True, kw_only=True, omit_defaults=True, tag="flags"):
    """Set all flags at once: checked as a whole, a change of route."""

    expected_epoch: Count
    flags: Flags
    reason: Annotated[str, Meta(max_length=1024)] = ""


class Freeze(ControlRecord, frozen=True, kw_only=True, omit_defaults=True, tag="freeze"):
    """Stop promoting (rollback stays legal) until a `start`."""

    expected_epoch: Count
    trigger: Trigger
    evidence: Tree = {}
    reason: Annotated[str, Meta(max_length=1024)] = ""


class Backfill(ControlRecord, frozen=True, kw_only=True, omit_defaults=True, tag="backfill"):
    """Ask the migrator to copy the cold neurons of the buckets below `percentage`."""

    percentage: Percentage


class Journal(ControlRecord, frozen=True, kw_only=True, omit_defaults=True, tag="journal"):
    """One step of the orchestrator's walk, written before it acts; `expected_entry` is the compare-and-set."""

    expected_entry: Annotated[int, Meta(ge=0, description="number of journal entries accepted so far")]
    phase: Phase
    step: Count
    state: Literal["entered", "waiting", "routed", "passed", "failed", "finished"]
    percentage: Percentage = 0.0
    evidence: Tree = {}


AnyControl = Start | Route | Rollback | Pin | SetFlags | Settled | Freeze | Backfill | Journal
decoder = msgspec.msgpack.Decoder(AnyControl)


class Envelope(Struct, frozen=True, kw_only=True):
    """What can be read of a record whose type is not known here."""

    type: Annotated[str, Meta(max_length=64)]
    id: Annotated[str, Meta(max_length=128)] = ""
    migration: Annotated[str, Meta(max_length=128)] = ""


envelope_decoder = msgspec.msgpack.Decoder(Envelope)
