"""What services report about themselves: `outcomes`, `status`, `validations`."""

from typing import Annotated

import msgspec
from msgspec import Meta, Struct

from schemas.base import Count, System, TimestampMs
from schemas.reports import DivergenceKind

Sketch = Annotated[
    dict[int, Count],
    Meta(
        description="latency histogram: bucket i counts values in (1.02**(i-1), 1.02**i] microseconds; see hal9.stats"
    ),
]


class Arm(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The requests one system answered as primary (or failed to) in one epoch, in one second, at one router."""

    system: System
    epoch: Count
    ok: Count = 0
    error: Count = 0
    timeout: Count = 0
    latency_us: Sketch = {}


class Comparisons(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Results of comparing primary and shadow executions."""

    equal: Count = 0
    divergent: Count = 0
    incomparable: Count = 0
    one_sided: Count = 0
    both_failed: Count = 0


class FieldNoise(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Requests that flat ran twice beside the shadow: in how many of them which run differed from flat's first one."""

    operation: Annotated[str, Meta(max_length=64)]
    kind: DivergenceKind
    path: Annotated[str, Meta(max_length=1024, description="class of fields: a star for each list index")]
    both: Annotated[Count, Meta(description="shadow and twin differed")] = 0
    shadow: Annotated[Count, Meta(description="the shadow alone differed")] = 0
    twin: Annotated[Count, Meta(description="the twin alone differed")] = 0


class LeftOut(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Divergences of one class that were counted and not written."""

    operation: Annotated[str, Meta(max_length=64)]
    kind: DivergenceKind
    path: Annotated[str, Meta(max_length=1024, description="class of fields: a star for each list index")] = ""
    rule: Annotated[str, Meta(max_length=128)] = ""
    count: Count


class Outcome(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One router's results of one second; sent every second, also when nothing happened (`arms` empty)."""

    router: Annotated[str, Meta(max_length=128, description="instance that reports")]
    seq: Annotated[int, Meta(ge=0, description="1, 2, 3, ... per router instance: a repeated one is a redelivery")]
    at_ms: Annotated[int, Meta(ge=0, description="start of the second")]
    arms: list[Arm] = []
    rejected: Count = 0
    comparisons: Annotated[dict[int, Comparisons], Meta(description="by epoch")] = {}
    shadow_latency_us: Annotated[
        dict[System, Sketch],
        Meta(description="executed shadows, from dispatch to response; a mutating one waits for the owner's change"),
    ] = {}
    shadow_errors: dict[System, Count] = {}
    shadows_dropped: Annotated[dict[str, Count], Meta(description="by reason: breaker, pressure, rate")] = {}
    shadow_ok: dict[System, Count] = {}
    twin_ok: Annotated[Count, Meta(description="second runs by flat")] = 0
    twin_error: Count = 0
    pairs: Annotated[
        dict[str, Count], Meta(description="requests whose shadow and twin were both compared, by operation")
    ] = {}
    noise: Annotated[list[FieldNoise], Meta(max_length=256, description="of those pairs, by field")] = []
    fallbacks: Annotated[dict[System, Count], Meta(description="reads answered in place of their owner, by whom")] = {}
    reads_ignored: Annotated[
        Count, Meta(description="requests whose operation the route names a system for, not read-only at both")
    ] = 0
    overload: Annotated[
        dict[str, Count], Meta(description="of `rejected`: for overload, by cause (full, hot-key)")
    ] = {}
    partitions: Annotated[list[int], Meta(description="partitions this router served")] = []
    divergences_left_out: Annotated[
        Count, Meta(description="divergences that were not written: more than so many of their classes a second")
    ] = 0
    left_out: Annotated[list[LeftOut], Meta(max_length=256, description="of those, how many each class is in")] = []
    left_out_beyond: Annotated[Count, Meta(description="the same sum over further classes, which are not named")] = 0


class HandOver(Struct, frozen=True, kw_only=True):
    """What a partition waits for that is being handed over, and for how long it has."""

    epoch: Count
    waits_for: Annotated[str, Meta(max_length=128)]
    for_ms: Count


class Status(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Heartbeat of one instance of a service, every 500 ms; the key is the instance."""

    instance: Annotated[str, Meta(max_length=128)]
    service: Annotated[
        str, Meta(max_length=64, description="router, migrator, guardian, orchestrator, flat, hierarchical")
    ]
    at_ms: TimestampMs
    epochs: Annotated[
        dict[int, int], Meta(description="per partition: newest marker read back (router), seal (others)")
    ] = {}
    in_flight: Count = 0
    waiting: Count = 0
    lag: Annotated[dict[str, int], Meta(description="records not read yet, per topic")] = {}
    read_only: Annotated[list[str], Meta(description="operations a system declares read-only")] = []
    backfilled: Annotated[dict[int, float], Meta(description="migrator: percentage backfilled, per partition")] = {}
    copied: Annotated[dict[str, int], Meta(description="migrator: records copied so far, per source system")] = {}
    quarantined: Count = 0
    handing_over: Annotated[dict[int, HandOver], Meta(description="migrator: per partition that has not settled")] = {}
    holding: Annotated[list[str], Meta(description="orchestrator: why the plan does not go on")] = []
    leaving: Annotated[bool, Meta(description="a clean stop has begun: the last heartbeat")] = False


class Validation(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Counts of units checked at copy time since the last record of this instance."""

    migrator: Annotated[str, Meta(max_length=128)]
    at_ms: TimestampMs
    checked: Count = 0
    failed: Count = 0


outcome_decoder = msgspec.msgpack.Decoder(Outcome)
status_decoder = msgspec.msgpack.Decoder(Status)
validation_decoder = msgspec.msgpack.Decoder(Validation)
