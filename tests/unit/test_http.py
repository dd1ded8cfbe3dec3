"""The probes' server answers what it knows, and a hostile client gets a 4xx or a closed connection."""

import asyncio

import pytest

from hal9.errors import ConfigError
from hal9.http import HttpServer, service_routes
from hal9.settings import Http
from hal9.telemetry.families import EPOCH
from hal9.telemetry.metrics import Metrics


async def ask(port: int | None, request: bytes) -> tuple[bytes, bytes]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request)
    writer.write_eof()
    async with asyncio.timeout(10):
        head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    writer.close()
    return head, body


def get(path: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode()


async def test_probes_and_metrics_are_served() -> None:
    reasons: list[str] = []
    metrics = Metrics()
    metrics.gauge(EPOCH).set(7)
    async with HttpServer(Http(), service_routes(metrics, lambda: reasons)) as server:
        head, body = await ask(server.port, get("/readyz"))
        assert head.startswith(b"HTTP/1.1 200 OK\r\n")
        assert body == b"ok\n"
        reasons.extend(["Kafka is not there", "2 partitions behind"])
        head, body = await ask(server.port, get("/readyz?verbose"))
        assert head.startswith(b"HTTP/1.1 503 ")
        assert body == b"Kafka is not there\n2 partitions behind\n"
        head, body = await ask(server.port, get("/metrics"))
        assert b"version=0.0.4" in head
        assert b"hal9_epoch 7.0\n" in body
        head, body = await ask(server.port, get("/healthz").replace(b"GET", b"HEAD"))
        assert b"Content-Length: 3" in head
        assert body == b""


@pytest.mark.parametrize(
    ("request_bytes", "expected"),
    [
        (get("/etc/passwd"), b"HTTP/1.1 404 "),
        (b"POST /metrics HTTP/1.1\r\n\r\n", b"HTTP/1.1 405 "),
        (b"\x00\xff\x00\r\n\r\n", b"HTTP/1.1 405 "),
        (b"GET \xff\xfe HTTP/1.1\r\n\r\n", b"HTTP/1.1 404 "),
        (b"\r\n\r\n", b"HTTP/1.1 405 "),
        (b"GET / HTTP/1.1\r\n", b""),
        (b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\n\r\n", b""),
    ],
)
async def test_hostile_requests_do_no_harm(request_bytes: bytes, expected: bytes) -> None:
    async with HttpServer(Http(), service_routes(Metrics(), list)) as server:
        try:
            head, _ = await ask(server.port, request_bytes)
        except ConnectionResetError:
            head = b""
        assert head.startswith(expected)
        assert bool(head) == bool(expected)
        head, _ = await ask(server.port, get("/healthz"))
        assert head.startswith(b"HTTP/1.1 200 ")


async def test_a_taken_port_is_a_configuration_error() -> None:
    async with HttpServer(Http(), {}) as server:
        assert server.port is not None
        with pytest.raises(ConfigError, match=rf"HTTP\.PORT.*{server.port}"):
            await HttpServer(Http(port=server.port), {}).__aenter__()


async def test_it_can_be_switched_off() -> None:
    async with HttpServer(Http(port=-1), {}) as server:
        assert server.port is None
