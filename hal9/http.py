"""A small HTTP server on the service's own loop: GET and HEAD of a few fixed paths, for probes and Prometheus.

No keep-alive, no bodies in, every request under a deadline; nothing a client sends can do more than get a 4xx.
"""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from types import TracebackType
from typing import Self

from hal9.errors import ConfigError
from hal9.settings.sections import Http
from hal9.telemetry.logs import logger
from hal9.telemetry.metrics import CONTENT_TYPE, Metrics

_DEADLINE_S = 5.0
_HEAD_BYTES = 8 * 1024
_CONNECTIONS = 64
"""More at once are closed unread: probes and one scraper need a handful."""

_log = logger("http")


@dataclass(frozen=True, slots=True)
class Reply:
    """What a path answers."""

    body: bytes
    status: HTTPStatus = HTTPStatus.OK
    content_type: str = "text/plain; charset=utf-8"


Route = Callable[[], Reply]


def service_routes(
    metrics: Metrics, not_ready: Callable[[], list[str]], not_alive: Callable[[], list[str]] = list
) -> dict[str, Route]:
    """`/healthz`, `/readyz` (503 with the reasons, one a line) and `/metrics`."""

    def judged(reasons: list[str]) -> Reply:
        if reasons:
            return Reply("".join(f"{reason}\n" for reason in reasons).encode(), HTTPStatus.SERVICE_UNAVAILABLE)
        return Reply(b"ok\n")

    return {
        "/healthz": lambda: judged(not_alive()),
        "/readyz": lambda: judged(not_ready()),
        "/metrics": lambda: Reply(metrics.render(), content_type=CONTENT_TYPE),
    }


class HttpServer:
    """Serves `routes` while entered; `port` is the one it listens on (None when switched off)."""

    def __init__(self, http: Http, routes: Mapping[str, Route]) -> None:
        self._http, self._routes = http, routes
        self._server: asyncio.Server | None = None
        self._open = 0
        self.port: int | None = None

    async def __aenter__(self) -> Self:
        if self._http.port < 0:
            return self
        try:
            self._server = await asyncio.start_server(self._serve, self._http.host, self._http.port, limit=_HEAD_BYTES)
        except OSError as error:
            address = f"{self._http.host}:{self._http.port}"
            raise ConfigError(f"HTTP.HOST and HTTP.PORT: cannot listen on {address}: {error}") from error
        self.port = self._server.sockets[0].getsockname()[1]
        _log.info("http_listening", host=self._http.host, port=self.port)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._server is not None:
            self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open += 1
        try:
            if self._open <= _CONNECTIONS:
                async with asyncio.timeout(_DEADLINE_S):
                    head = await reader.readuntil(b"\r\n\r\n")
                    writer.write(self._answer(head))
                    await writer.drain()
        except (TimeoutError, OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError) as error:
            _log.debug("http_request_dropped", reason=str(error))
        finally:
            self._open -= 1
            writer.close()

    def _answer(self, head: bytes) -> bytes:
        method, _, rest = head.partition(b" ")
        path = rest.partition(b" ")[0].partition(b"?")[0].decode("ascii", "replace")
        if method not in (b"GET", b"HEAD"):
            reply = Reply(b"only GET and HEAD\n", HTTPStatus.METHOD_NOT_ALLOWED)
        elif path in self._routes:
            reply = self._routes[path]()
        else:
            known = " ".join(sorted(self._routes))
            reply = Reply(f"not found; there are {known}\n".encode(), HTTPStatus.NOT_FOUND)
        lines = [
            f"HTTP/1.1 {reply.status.value} {reply.status.phrase}",
            f"Content-Type: {reply.content_type}",
            f"Content-Length: {len(reply.body)}",
            "Cache-Control: no-store",
            "Connection: close",
        ]
        body = reply.body if method != b"HEAD" else b""
        return "\r\n".join([*lines, "", ""]).encode() + body
