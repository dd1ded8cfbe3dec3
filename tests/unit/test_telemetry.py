"""Metrics carry the contract's names; traces follow a request; logs are one JSON object a line."""

import json
import logging
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from prometheus_client.parser import text_string_to_metric_families

from hal9.log.effects import NoTracer
from hal9.settings import Telemetry
from hal9.stats.sketch import bucket
from hal9.telemetry.families import CONSUMER_LAG, CONTRACT, DIVERGENCES, REQUESTS
from hal9.telemetry.logs import configure_logs, logger
from hal9.telemetry.metrics import Metrics, OutcomeMetrics
from hal9.telemetry.tracing import (
    OtelTracer,
    configure_tracing,
    format_traceparent,
    make_provider,
    parse_traceparent,
)
from schemas.telemetry import Arm, Comparisons, Outcome

SAMPLED = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
NOT_SAMPLED = SAMPLED[:-2] + b"00"


def samples(metrics: Metrics) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    families = text_string_to_metric_families(metrics.render().decode())
    return {(s.name, tuple(sorted(s.labels.items()))): s.value for f in families for s in f.samples}


def test_two_processes_worth_of_metrics_do_not_meet() -> None:
    one, two = Metrics(), Metrics()
    one.counter(DIVERGENCES, kind="value").inc()
    one.counter(DIVERGENCES, kind="value").inc()
    found = samples(one)
    assert found["hal9_divergences_total", (("kind", "value"),)] == 2
    assert not [name for name, _ in found if name.endswith("_created")]
    assert ("hal9_divergences_total", (("kind", "value"),)) not in samples(two)
    assert "process_resident_memory_bytes" in {name for name, _ in found}


def test_a_gauge_of_a_lost_partition_is_forgotten() -> None:
    metrics = Metrics()
    metrics.gauge(CONSUMER_LAG, topic="requests").set(3)
    metrics.forget(CONSUMER_LAG, topic="requests")
    assert not [name for name, _ in samples(metrics) if name == "hal9_consumer_lag"]


def test_outcomes_become_requests_comparisons_and_a_histogram() -> None:
    metrics = Metrics()
    counting = OutcomeMetrics(metrics)
    arm = Arm(system="flat", epoch=3, ok=5, error=1, timeout=2, latency_us={bucket(900): 6, bucket(30_000): 2})
    outcome = Outcome(router="r", seq=1, at_ms=0, arms=[arm], rejected=4, comparisons={3: Comparisons(equal=7)})
    counting.add(outcome)
    counting.add(outcome)
    found = samples(metrics)
    assert found["hal9_comparisons_total", (("result", "divergent"),)] == 0
    flat = (("role", "primary"), ("status", "ok"), ("system", "flat"))
    assert found["hal9_requests_total", flat] == 10
    assert found["hal9_requests_total", (("role", "primary"), ("status", "rejected"), ("system", "none"))] == 8
    assert found["hal9_comparisons_total", (("result", "equal"),)] == 14
    who = (("role", "primary"), ("system", "flat"))
    assert found["hal9_request_duration_seconds_count", who] == 16
    assert found["hal9_request_duration_seconds_bucket", (("le", "0.001"), *who)] == 12
    assert found["hal9_request_duration_seconds_bucket", (("le", "0.05"), *who)] == 16
    assert found["hal9_request_duration_seconds_sum", who] == pytest.approx(2 * (6 * 0.0009 + 2 * 0.03), rel=0.02)


def test_shadows_and_twins_are_counted_by_role_and_a_shadows_latency_by_system() -> None:
    metrics = Metrics()
    counting = OutcomeMetrics(metrics)
    twin = (("role", "twin"), ("status", "ok"), ("system", "flat"))
    assert samples(metrics)["hal9_requests_total", twin] == 0, "there from the first scrape"
    latency = {"flat": {bucket(900): 4}, "hierarchical": {bucket(30_000): 1}}
    counting.add(
        Outcome(
            router="r", seq=1, at_ms=0, shadow_latency_us=latency,  # type: ignore[arg-type]
            shadow_ok={"flat": 3}, shadow_errors={"flat": 1, "hierarchical": 1}, twin_ok=2, twin_error=1,
        )
    )  # fmt: skip
    found = samples(metrics)
    for role, status, system, count in [
        ("shadow", "ok", "flat", 3),
        ("shadow", "error", "flat", 1),
        ("shadow", "error", "hierarchical", 1),
        ("shadow", "ok", "hierarchical", 0),
        ("twin", "ok", "flat", 2),
        ("twin", "error", "flat", 1),
    ]:
        assert found["hal9_requests_total", (("role", role), ("status", status), ("system", system))] == count
    slow = (("le", "0.001"), ("role", "shadow"), ("system", "flat"))
    assert found["hal9_request_duration_seconds_bucket", slow] == 4
    assert found["hal9_request_duration_seconds_count", (("role", "shadow"), ("system", "hierarchical"))] == 1


def test_the_names_of_the_contract_are_all_there_and_no_label_can_hold_a_neuron() -> None:
    assert len({family.name for family in CONTRACT}) == 21
    labels = {label for family in CONTRACT for label in family.labels}
    assert labels == {
        "system", "role", "status", "kind", "result", "direction", "component", "trigger", "verdict", "topic", "reason",
    }  # fmt: skip
    assert REQUESTS in CONTRACT


def traced(head_ratio: float = 0.0, draw: float = 0.5) -> tuple[OtelTracer, InMemorySpanExporter]:
    exporter = InMemorySpanExporter()
    provider = make_provider("router", "router-1", SimpleSpanProcessor(exporter))
    return OtelTracer(provider, head_ratio, lambda: draw), exporter


def test_a_sampled_request_gets_a_span_per_hop_in_one_trace() -> None:
    tracer, exporter = traced()
    first, header = tracer.begin("dispatch hal9.dispatched", SAMPLED, {"hal9.epoch": "3"})
    second, onwards = tracer.begin("process hal9.dispatched", header, {})
    tracer.end(second, "error")
    tracer.end(first, "ok")
    child, parent = exporter.get_finished_spans()
    assert parent.parent is not None
    assert child.parent is not None
    assert child.parent.span_id == parent.context.span_id
    assert format_traceparent(parent.parent) == SAMPLED
    assert onwards == format_traceparent(child.context)
    assert child.context.trace_id == parent.context.trace_id == int(SAMPLED[3:35], 16)
    assert (parent.name, dict(parent.attributes or {})["hal9.epoch"]) == ("dispatch hal9.dispatched", "3")
    assert not child.status.is_ok
    assert parent.status.is_ok
    assert parent.resource.attributes["service.name"] == "hal9-router"


def test_what_is_not_sampled_costs_no_span_and_its_header_goes_on() -> None:
    tracer, exporter = traced(head_ratio=1.0)
    assert tracer.begin("x", NOT_SAMPLED, {}) == (None, NOT_SAMPLED)
    tracer.end(None, "ok")
    assert exporter.get_finished_spans() == ()


@pytest.mark.parametrize(("head_ratio", "draw", "spans"), [(0.3, 0.29, 1), (0.3, 0.3, 0), (0.0, 0.0, 0)])
def test_the_head_draws_for_requests_without_a_trace(head_ratio: float, draw: float, spans: int) -> None:
    tracer, exporter = traced(head_ratio, draw)
    span, header = tracer.begin("request hal9.requests", None, {})
    tracer.end(span, "ok")
    assert len(exporter.get_finished_spans()) == spans
    context = parse_traceparent(header)
    assert (context is not None) == bool(spans)
    assert context is None or context.trace_flags.sampled


@pytest.mark.parametrize(
    "header",
    [
        None,
        b"",
        b"\xff\xfe",
        SAMPLED.upper(),
        SAMPLED[:-3],
        SAMPLED + b"-more",
        b"ff" + SAMPLED[2:],
        b"00-" + b"0" * 32 + SAMPLED[35:],
        SAMPLED[:36] + b"0" * 16 + b"-01",
        SAMPLED + b"\n",
    ],
)
def test_a_malformed_header_is_no_header(header: bytes | None) -> None:
    assert parse_traceparent(header) is None
    assert traced()[0].begin("x", header, {}) == (None, None)


def test_a_later_version_of_the_header_is_understood() -> None:
    assert parse_traceparent(b"cc" + SAMPLED[2:] + b"-what-comes") is not None


@given(st.binary(max_size=80))
def test_no_header_raises(header: bytes) -> None:
    parse_traceparent(header)


def test_without_an_endpoint_nothing_is_traced() -> None:
    tracing = configure_tracing(Telemetry(), "router", "router-1", head=True)
    assert isinstance(tracing.tracer, NoTracer)
    tracing.close()


@pytest.fixture
def logging_restored() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.mark.usefixtures("logging_restored")
def test_logs_are_one_json_object_a_line_on_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logs(Telemetry(log_format="json"), service="router", instance="router-1")
    logger("x").info("claim_read_back", topic="hal9.dispatched", partition=3)
    logger("x").debug("not_shown")
    try:
        int("boom")
    except ValueError:
        logger("x").exception("failed")
    captured = capsys.readouterr()
    assert captured.out == ""
    first, second = (json.loads(line) for line in captured.err.splitlines())
    assert first["event"] == "claim_read_back"
    assert first["service"] == "router"
    assert first["partition"] == 3
    assert first["level"] == "info"
    assert "ValueError: invalid literal" in second["exception"]


@pytest.mark.usefixtures("logging_restored")
def test_what_a_library_logs_looks_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logs(Telemetry(log_format="json"), service="router")
    logging.getLogger("aiokafka.conn").info("noise")
    logging.getLogger("aiokafka.conn").warning("lost %s", "broker")
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [(line["event"], line["level"], line["service"]) for line in lines] == [("lost broker", "warning", "router")]
