"""The trace context of a request, hop by hop: `dispatched`, both systems, the answer."""

from typing import Any

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from hal9.keys import partition_of
from hal9.telemetry.tracing import OtelTracer, make_provider, parse_traceparent
from hal9.testing.memory import Stored
from simulation.stage import Stage, headers

KEY = b"a0"
TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
SAMPLED, UNSAMPLED = f"00-{TRACE}-{PARENT}-01", f"00-{TRACE}-{PARENT}-00"


def traced(stage: Stage) -> InMemorySpanExporter:
    """Every core gets a tracer; where their spans go."""
    exporter = InMemorySpanExporter()
    tracer = OtelTracer(make_provider("all", "all-1", SimpleSpanProcessor(exporter)))
    for runtime in stage.runtimes:
        core: Any = runtime.core
        core.tracer = tracer
    return exporter


def context(record: Stored) -> tuple[str, str]:
    """(trace id, span id) that a record names."""
    found = parse_traceparent(headers(record)["traceparent"].encode())
    assert found is not None
    return f"{found.trace_id:032x}", f"{found.span_id:016x}"


def ids(span: ReadableSpan) -> tuple[str, str | None]:
    """(span id, parent's span id)."""
    return f"{span.context.span_id:016x}", f"{span.parent.span_id:016x}" if span.parent else None


def test_a_trace_goes_from_hop_to_hop_and_comes_back_with_the_answer() -> None:
    stage = Stage("router", "flat", "hierarchical", "migrator")
    exporter = traced(stage)
    stage.route(0, shadow=100)
    stage.run()
    stage.ask(KEY, "mut", b"x", headers=[("traceparent", SAMPLED.encode()), ("tracestate", b"a=1")])
    stage.run()
    spans = {span.name: span for span in exporter.get_finished_spans()}
    assert sorted(spans) == ["process dispatched", "process requests", "process shadow"]
    (router, above), (system, below) = ids(spans["process requests"]), ids(spans["process dispatched"])
    beside, under = ids(spans["process shadow"])
    assert (above, below, under) == (PARENT, router, router)
    (dispatched,), (answer,) = stage.records("dispatched"), stage.records("responses")
    (primary,), (shadow,) = stage.records("responses.flat"), stage.records("responses.hierarchical")
    assert [context(record) for record in (dispatched, primary, shadow, answer)] == [
        (TRACE, router),
        (TRACE, system),
        (TRACE, beside),
        (TRACE, router),
    ]
    assert [headers(record)["tracestate"] for record in (dispatched, answer)] == ["a=1", "a=1"]


@pytest.mark.parametrize("tracing", [True, False], ids=["traced", "not traced"])
def test_a_trace_that_is_not_sampled_is_handed_on_as_it_is(tracing: bool) -> None:
    stage = Stage("router", "flat")
    exporter = traced(stage) if tracing else InMemorySpanExporter()
    stage.ask(KEY, "mut", b"x", headers=[("traceparent", UNSAMPLED.encode())])
    stage.run()
    for log in ("dispatched", "responses.flat", "responses"):
        assert [headers(record)["traceparent"] for record in stage.records(log)] == [UNSAMPLED]
    assert exporter.get_finished_spans() == ()


def test_what_is_no_trace_context_goes_no_further() -> None:
    stage = Stage("router", "flat")
    traced(stage)
    for value in (b"", b"\xff", SAMPLED.upper().encode(), b"ff" + SAMPLED[2:].encode(), b"0" * 8000):
        stage.ask(KEY, "mut", b"x", headers=[("traceparent", value)])
    stage.run()
    assert len(stage.answers()) == 5
    assert not [r for log in ("dispatched", "responses") for r in stage.records(log) if "traceparent" in headers(r)]


def test_a_trace_state_without_its_trace_goes_no_further_and_baggage_does() -> None:
    stage = Stage("router", "flat")
    traced(stage)
    more = [("tracestate", b"a=1"), ("baggage", b"\xff;;=,")]
    stage.ask(KEY, "mut", b"x", headers=[("traceparent", b"00-nonsense"), *more])
    stage.ask(KEY, "mut", b"x", headers=[("traceparent", SAMPLED.encode()), *more])
    stage.run()
    told = [dict(record.headers) for record in stage.records("dispatched")]
    assert [held.get("tracestate") for held in told] == [None, b"a=1"]
    assert [held.get("baggage") for held in told] == [b"\xff;;=,"] * 2


def test_a_rejection_belongs_to_the_trace() -> None:
    stage = Stage("router")
    exporter = traced(stage)
    stage.ask(KEY, "NO", headers=[("traceparent", SAMPLED.encode())])
    stage.run()
    (answer,), (span,) = stage.records("responses"), exporter.get_finished_spans()
    assert (context(answer), ids(span)[1]) == ((TRACE, ids(span)[0]), PARENT)
    assert (span.attributes or {})["hal9.status"] == "rejected"


def test_a_request_that_is_moved_takes_its_trace_along() -> None:
    there = partition_of(KEY, 2)
    stage = Stage("router", partition=1 - there, partitions=2)
    traced(stage)
    stage.ask(KEY, "mut", b"x", headers=[("traceparent", SAMPLED.encode()), ("tracestate", b"a=1")])
    stage.run()
    (moved,) = stage.records("requests", there)
    assert (headers(moved)["traceparent"], headers(moved)["tracestate"]) == (SAMPLED, "a=1")
