"""A trace follows a request from the client through router and system to its answer, and arrives at the collector."""

import asyncio
import os
import sys
import threading
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from hal9.client import Client
from hal9.settings import Kafka, Settings
from hal9.settings import Topics as TopicSettings
from hal9.telemetry.tracing import OtelTracer, make_provider
from hal9.topics import Topics, create
from schemas.base import encode
from schemas.examples import NEURON

Spans = list[tuple[str, Span]]


@pytest.fixture
def collector() -> Iterator[tuple[str, Spans]]:
    """An OTLP/HTTP collector: its address, and (service, span) of all that it was sent."""
    spans: Spans = []

    class Receiver(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            for group in ExportTraceServiceRequest.FromString(body).resource_spans:
                names = {a.key: a.value.string_value for a in group.resource.attributes}
                spans.extend((names["service.name"], span) for scope in group.scope_spans for span in scope.spans)
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002  the base's name
            pass

    server = HTTPServer(("127.0.0.1", 0), Receiver)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", spans
    server.shutdown()
    thread.join()
    server.server_close()


@asynccontextmanager
async def service(name: str, environ: dict[str, str]) -> AsyncIterator[None]:
    """One service as a process; stopped cleanly, so that it sends what it has."""
    command = [sys.executable, "-c", "from hal9.cli.main import main; main()", "run", name]
    process = await asyncio.create_subprocess_exec(*command, env={**os.environ, **environ})
    try:
        yield
    finally:
        process.terminate()
        async with asyncio.timeout(30):
            await process.wait()


async def test_a_trace_follows_a_request_through_every_hop(bootstrap: str, collector: tuple[str, Spans]) -> None:
    endpoint, spans = collector
    prefix = f"trace-{uuid.uuid4().hex[:8]}."
    settings = Settings(kafka=Kafka(bootstrap=bootstrap), topics=TopicSettings(prefix=prefix, partitions=1))
    await create(settings.kafka, Topics.of(settings.topics))
    environ = {
        "HAL9_KAFKA__BOOTSTRAP": bootstrap,
        "HAL9_TOPICS__PREFIX": prefix,
        "HAL9_TOPICS__PARTITIONS": "1",
        "HAL9_TELEMETRY__OTLP_ENDPOINT": endpoint,
        "HAL9_TELEMETRY__TRACE_RATIO": "0",
    }
    exporter = InMemorySpanExporter()
    provider = make_provider("client", "client-1", SimpleSpanProcessor(exporter))
    async with AsyncExitStack() as running:
        for name in ("router", "flat"):
            await running.enter_async_context(service(name, environ))
        traced = Client(settings=settings, tracer=OtelTracer(provider, head_ratio=1.0))
        async with traced as client:
            answer = await client.request(NEURON.neuron_id, encode(NEURON), operation="create", deadline_s=50)
        assert answer.status == "ok", answer
        async with Client(settings=settings) as client:
            assert (await client.request(NEURON.neuron_id, operation="read", deadline_s=50)).status == "ok"
    (root,) = exporter.get_finished_spans()
    trace = root.context.trace_id.to_bytes(16, "big")
    assert {span.trace_id for _, span in spans} == {trace}, "what was not sampled at the head is not traced"
    by_id = {span.span_id: (name, span) for name, span in spans}
    assert {name for name, _ in spans} == {"hal9-router", "hal9-flat"}
    assert {span.name for _, span in spans} >= {"process requests"}
    for name, span in spans:
        parents = [name]
        while span.parent_span_id != root.context.span_id.to_bytes(8, "big"):
            above, span = by_id[span.parent_span_id]  # noqa: PLW2901  climbing
            parents.append(above)
        assert parents[-1] == "hal9-router", "everything hangs below the router's span of the client's request"
