"""Traces with OpenTelemetry: one span per hop of a sampled request, nothing at all for the others.

Sampled at the head: who sees a request first (the client, or the router for clients without traces) draws;
everybody after it follows the header's flag. A hostile header is no header; it never raises.
"""

import random
import re
from collections.abc import Callable, Mapping

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import ALWAYS_ON
from opentelemetry.trace import (
    NonRecordingSpan,
    Span,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    set_span_in_context,
)

from hal9.log.effects import NoTracer, Tracer
from hal9.settings.sections import Telemetry

FLUSH_MS = 2_000
"""How long a stop waits for the collector; a dead one must not hold up a drain."""

_TRACEPARENT = re.compile(rb"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?", re.DOTALL)
_SAMPLED = 1


def parse_traceparent(header: bytes | None) -> SpanContext | None:
    """The context that a W3C `traceparent` names; None if it is absent or malformed."""
    found = _TRACEPARENT.fullmatch(header) if header is not None else None
    if found is None:
        return None
    version, trace, span, flags, more = found.groups()
    if version == b"ff" or (version == b"00" and more is not None):
        return None
    trace_id, span_id = int(trace, 16), int(span, 16)
    if not trace_id or not span_id:
        return None
    return SpanContext(trace_id, span_id, is_remote=True, trace_flags=TraceFlags(int(flags, 16) & _SAMPLED))


def format_traceparent(context: SpanContext) -> bytes:
    """The header that hands a context on."""
    return b"00-%032x-%016x-%02x" % (context.trace_id, context.span_id, context.trace_flags & _SAMPLED)


class OtelTracer:
    """Starts and ends spans of one service; implements `hal9.log.effects.Tracer`.

    `head_ratio` is the share of requests without a trace that get one here: 0 but at the first hop.
    """

    def __init__(
        self, provider: TracerProvider, head_ratio: float = 0.0, draw: Callable[[], float] = random.random
    ) -> None:
        self._tracer = provider.get_tracer("hal9")
        self._head_ratio, self._draw = head_ratio, draw

    def begin(self, name: str, parent: bytes | None, attributes: Mapping[str, str]) -> tuple[object, bytes | None]:
        """Start a span `{operation} {destination}`; its handle (None: not sampled) and the next hop's header."""
        context = parse_traceparent(parent)
        if context is None:
            if not self._head_ratio or self._draw() >= self._head_ratio:
                return None, None
        elif not context.trace_flags & _SAMPLED:
            return None, parent
        within = set_span_in_context(NonRecordingSpan(context)) if context is not None else None
        kind = SpanKind.CONSUMER if context is not None else SpanKind.PRODUCER
        span = self._tracer.start_span(name, within, kind=kind, attributes=dict(attributes))
        return span, format_traceparent(span.get_span_context())

    def end(self, span: object, status: str) -> None:
        """End a span; every status but `ok` marks it as failed."""
        if isinstance(span, Span):
            span.set_attribute("hal9.status", status)
            if status != "ok":
                span.set_status(Status(StatusCode.ERROR, status))
            span.end()


class Tracing:
    """The traces of one process: a tracer for its hops, and what must be flushed at its end."""

    def __init__(self, tracer: Tracer, provider: TracerProvider | None = None) -> None:
        self.tracer = tracer
        self._provider = provider

    def close(self) -> None:
        """Send what is left, within `FLUSH_MS`; blocks."""
        if self._provider is not None:
            self._provider.force_flush(FLUSH_MS)
            self._provider.shutdown()


def configure_tracing(telemetry: Telemetry, service: str, instance: str, *, head: bool) -> Tracing:
    """Traces to the OTLP endpoint of the settings; without one, headers are only passed on."""
    if not telemetry.otlp_endpoint:
        return Tracing(NoTracer())
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415  slow import

    endpoint = telemetry.otlp_endpoint.rstrip("/") + "/v1/traces"
    exporter = OTLPSpanExporter(endpoint=endpoint, timeout=FLUSH_MS // 1000)
    provider = make_provider(service, instance, BatchSpanProcessor(exporter))
    return Tracing(OtelTracer(provider, telemetry.trace_ratio if head else 0.0), provider)


def make_provider(service: str, instance: str, processor: SpanProcessor) -> TracerProvider:
    """A provider that records every span it is asked to start; the choice is `OtelTracer.begin`'s."""
    resource = Resource.create({"service.name": f"hal9-{service}", "service.instance.id": instance})
    provider = TracerProvider(sampler=ALWAYS_ON, resource=resource, shutdown_on_exit=False)
    provider.add_span_processor(processor)
    return provider
