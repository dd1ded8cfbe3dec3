"""One record of every kind, as it lies on its topic: the source of the golden bytes in `golden/`."""

from dataclasses import dataclass, field
from typing import TypedDict

from msgspec import to_builtins

from schemas import control, reports, state, telemetry
from schemas.base import encode


class _Who(TypedDict):
    migration: str
    actor: str
    at_ms: int


_WHO: _Who = {"migration": "hal9", "actor": "orchestrator-5c1f0a2b", "at_ms": 1_760_000_000_000}
_ROUTE = state.RouteMark(epoch=3, bound=100, shadow_bound=10_000, pins={"digits/7/hidden/3": "flat"})
_TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

NEURON = state.Neuron(
    neuron_id="digits/0/hidden/4",
    neuron_type="hidden",
    activation="relu",
    weights=[0.1, -0.0, 5e-324, 1.7976931348623157e308],
    bias=-0.25,
    learning_rate=0.01,
    momentum=[0.0, 1e-3, 0.0, -2.5],
    connections=[state.NeuronConnection(target="digits/0/output/1", weight=0.5, kind="forward")],
    memory={"learned": 3},
    context={"größe": "Ω", "nested": {"list": [1, None, True]}},
    response_time_ms=12.5,
    is_async=False,
    created_at=1_760_000_000_000,
)
UNIT = state.Unit(
    unit_id="digits/0/hidden/4",
    layer="implementation",
    mapping_version=1,
    cognitive=state.Cognitive(
        activation_level=0.0, attention_focus=["edges"], working_memory={"learned": 3}, processing_mode="sync"
    ),
    learning=state.Learning(weights=[0.1, -0.0], bias=-0.25, learning_rate=0.01, momentum=[0.0, 1e-3]),
    connections=[state.UnitConnection(target_id="digits/0/output/1", kind="forward", weight=0.5)],
    metadata={"created_at": 1_760_000_000_000},
)


@dataclass(frozen=True, slots=True)
class Example:
    """A record: `name` is its file's, `log` the topic without its prefix, `value` a Struct, opaque bytes or None."""

    name: str
    log: str
    key: bytes
    value: object
    headers: dict[str, str] = field(default_factory=dict)

    def encoded(self) -> bytes:
        """The value as it lies on the topic (empty for a null one)."""
        if self.value is None:
            return b""
        return self.value if isinstance(self.value, bytes) else encode(self.value)


_KEY = b"digits/0/hidden/4"
_REQUEST = {"id": "c0ffee", "operation": "activate", "deadline-ms": "1760000010000", "traceparent": _TRACE}
_POSITION = {"id": "c0ffee", "position": "4:1041", "epoch": "3"}
_CHANGE = {"version": "7", "position": "4:1041", "epoch": "3", "term": "12", "answer-status": "ok"}

KEYED = (
    Example("request", "requests", _KEY, encode({"inputs": [[0.5, 1.0]]}), _REQUEST),
    Example(
        "dispatched",
        "dispatched",
        _KEY,
        encode({"inputs": [[0.5, 1.0]]}),
        {**_REQUEST, **_POSITION, "primary": "hierarchical", "shadow": "flat", "after-seal": "3", "term": "12"},
    ),
    Example(
        "dispatched-rejected",
        "dispatched",
        _KEY,
        b"",
        {**_REQUEST, **_POSITION, "after-seal": "0", "rejected": "bad-deadline", "term": "12"},
    ),
    Example(
        "marker",
        "dispatched",
        b"\0marker/3",
        state.Marker(
            route=_ROUTE, moved=state.Spans(bounds=[100, 10_000], epochs=[3, 0], keys={"digits/7/hidden/3": 0})
        ),
        {"term": "12"},
    ),
    Example(
        "requests",
        "dispatched",
        b"\0requests/c2YxLXRoZS10b3BpY3M",
        state.Requests(topic="c2YxLXRoZS10b3BpY3M", base=1042),
        {"term": "12"},
    ),
    Example(
        "response",
        "responses.hierarchical",
        _KEY,
        encode({"outputs": [0.75]}),
        {**_POSITION, "role": "primary", "status": "ok", "state-version": "6", "traceparent": _TRACE},
    ),
    Example(
        "response-shadow",
        "responses.flat",
        _KEY,
        encode({"back": [0.1]}),
        {**_POSITION, "role": "shadow", "status": "ok", "state-version": "6", "state-diff": '[{"path":"bias"}]'},
    ),
    Example(
        "answer",
        "responses",
        _KEY,
        encode({"outputs": [0.75]}),
        {"id": "c0ffee", "status": "ok", "served-by": "hierarchical", "epoch": "3", "traceparent": _TRACE},
    ),
    Example(
        "neuron",
        "neurons.changes",
        _KEY,
        state.Envelope(state=to_builtins(NEURON), answer=encode({"back": [0.1]})),
        {**_CHANGE, "origin": "flat"},
    ),
    Example("unit", "units.replica", _KEY, state.Envelope(state=to_builtins(UNIT)), {**_CHANGE, "origin": "flat"}),
    Example("deleted", "units.changes", _KEY, state.Envelope(answer=encode({})), {**_CHANGE, "origin": "hierarchical"}),
    Example("tombstone", "units.changes", _KEY, None, {**_CHANGE, "origin": "hierarchical"}),
    Example("claim", "neurons.changes", b"\0claim/6f2c1d5e", state.Claim(instance="flat-5c1f0a2b")),
    Example("seal", "neurons.changes", b"\0seal/3", state.Seal(route=_ROUTE)),
    Example(
        "seal-copied", "neurons.replica", b"\0seal/3", state.Seal(route=_ROUTE, forced=True, source=88), {"term": "4"}
    ),
    Example(
        "divergence",
        "divergences",
        _KEY,
        reports.Divergence(
            id="c0ffee",
            position="4:1041",
            operation="activate",
            epoch=3,
            primary="hierarchical",
            kind="value",
            fields=[reports.FieldDifference(path="outputs.0", flat=0.75, hierarchical=0.5, rule="float")],
            state_version=6,
            at_ms=1_760_000_000_123,
        ),
    ),
)

SINGLE = (
    Example(
        "start",
        "control",
        b"hal9",
        control.Start(id="s1", expected_epoch=0, partitions=12, plan={"phases": []}, **_WHO),
    ),
    Example(
        "route",
        "control",
        b"hal9",
        control.Route(id="r1", expected_epoch=1, percentage=0.01, shadow=100.0, phase="canary", step=1, **_WHO),
    ),
    Example(
        "rollback",
        "control",
        b"hal9",
        control.Rollback(
            id="b1",
            expected_epoch=3,
            trigger="error_rate",
            evidence={"errors": 61, "requests": 300, "threshold": 0.05, "window_s": 60},
            reason="20.3 % of 300 requests failed",
            **_WHO,
        ),
    ),
    Example(
        "flags",
        "control",
        b"hal9",
        control.SetFlags(
            id="g1",
            expected_epoch=3,
            flags=control.Flags(
                percentage=10.0,
                shadow=100.0,
                twin=1.0,
                error_threshold=0.01,
                layers=control.Layers(intelligence=False),
                pins={"digits/7/hidden/3": "flat"},
                prefixes={"digits/8/": "hierarchical"},
                reads={"activate": "hierarchical"},
            ),
            **_WHO,
        ),
    ),
    Example("pin", "control", b"hal9", control.Pin(id="p1", keys=["digits/7/hidden/3"], reason="validation", **_WHO)),
    Example(
        "settled",
        "control",
        b"hal9",
        control.Settled(id="t1", partition=4, epoch=3, seals={"flat": 88, "hierarchical": 90}, forced=["flat"], **_WHO),
    ),
    Example("freeze", "control", b"hal9", control.Freeze(id="f1", expected_epoch=3, trigger="silence", **_WHO)),
    Example("backfill", "control", b"hal9", control.Backfill(id="l1", percentage=5.0, **_WHO)),
    Example(
        "journal",
        "control",
        b"hal9",
        control.Journal(id="j1", expected_entry=2, phase="canary", step=1, state="routed", percentage=1.0, **_WHO),
    ),
    Example(
        "outcome",
        "outcomes",
        b"hal9",
        telemetry.Outcome(
            router="router-5c1f0a2b",
            seq=17,
            at_ms=1_760_000_000_000,
            arms=[telemetry.Arm(system="flat", epoch=3, ok=40, error=1, timeout=1, latency_us={0: 1, 350: 41})],
            rejected=2,
            comparisons={3: telemetry.Comparisons(equal=38, divergent=1, incomparable=1)},
            shadow_latency_us={"hierarchical": {340: 40}},
            shadow_errors={"hierarchical": 1},
            shadow_ok={"hierarchical": 39},
            twin_ok=12,
            pairs={"activate": 12},
            noise=[telemetry.FieldNoise(operation="activate", kind="value", path="outputs.*", both=2, twin=1)],
            partitions=[0, 1, 2],
            divergences_left_out=7,
            left_out=[
                telemetry.LeftOut(operation="activate", kind="value", path="outputs.*", rule="exact", count=7),
            ],
        ),
    ),
    Example(
        "status",
        "status",
        b"flat-5c1f0a2b",
        telemetry.Status(
            instance="flat-5c1f0a2b",
            service="flat",
            at_ms=1_760_000_000_000,
            epochs={0: 3, 1: 2},
            in_flight=4,
            lag={"dispatched": 12},
            read_only=["activate", "process", "read"],
        ),
    ),
    Example(
        "validation",
        "validations",
        b"hal9",
        telemetry.Validation(migrator="migrator-5c1f0a2b", at_ms=1_760_000_000_000, checked=500, failed=1),
    ),
    Example(
        "quarantined",
        "quarantine",
        b"hal9",
        reports.Quarantined(
            service="migrator",
            topic="hal9.neurons.changes",
            partition=4,
            offset=1041,
            reason="bad-value",
            detail="Expected `float`, got `str` - at `$.bias`",
            key=_KEY,
            value=b"\x81\xa4bias\xa1x",
            headers=[("version", b"7"), ("hostile", b"\xff\xfe")],
            at_ms=1_760_000_000_000,
        ),
    ),
)

EXAMPLES = (*KEYED, *SINGLE)
