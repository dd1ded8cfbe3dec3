"""The client's transport without Kafka: what is sent is kept, a script answers it.

Everything happens at once and in order; what is to come later a test brings itself, with `arrive`.
"""

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from hal9 import wire
from hal9.client.transport import Arrived, Lost
from hal9.log.effects import Headers


@dataclass(slots=True)
class Sent:
    """One request as it left, and what tells the client that it is stored."""

    key: bytes
    value: bytes
    headers: Headers
    partition: int
    stored: "asyncio.Future[Any]"

    @property
    def id(self) -> bytes:
        """Its identity."""
        return wire.header(self.headers, wire.ID) or b""


@dataclass(slots=True)
class Reply:
    """One record of the answers."""

    key: bytes | None
    value: bytes | None
    headers: Headers
    offset: int = 0
    timestamp: int = 0


Script = Callable[[Sent], Iterable[Reply]]


def echo(sent: Sent, status: bytes = b"ok", **more: bytes) -> list[Reply]:
    """The answer `ok`, with the value that was sent; further headers by name (`_` is `-`)."""
    named = [(name.replace("_", "-"), value) for name, value in more.items()]
    return [Reply(sent.key, sent.value, [("id", sent.id), ("status", status), *named])]


def silence(sent: Sent) -> list[Reply]:  # noqa: ARG001  the script's form
    """No answer."""
    return []


@dataclass
class ScriptedTransport:
    """See `hal9.client.transport.Transport`.

    Attributes:
        script: what answers a request, once it is stored.
        failures: errors of the next sends, in order; None: that one is sent.
        sent: everything that left, failed sends excepted.
    """

    script: Script = echo
    partitions: int = 3
    failures: list[Exception | None] = field(default_factory=list)
    sent: list[Sent] = field(default_factory=list)
    opened: int = 0
    closed: int = 0
    _arrived: Arrived | None = None
    _lost: Lost | None = None

    def __repr__(self) -> str:
        return f"<ScriptedTransport: {len(self.sent)} sent>"

    async def open(self, arrived: Arrived, lost: Lost) -> None:
        """Nothing to connect to."""
        self._arrived, self._lost = arrived, lost
        self.opened += 1

    async def send(self, key: bytes, value: bytes, headers: Headers, partition: int) -> "asyncio.Future[Any]":
        """Keep it, store it, let the script answer it; or fail."""
        failure = self.failures.pop(0) if self.failures else None
        if failure is not None:
            raise failure
        loop = asyncio.get_running_loop()
        sent = Sent(key, value, headers, partition, loop.create_future())
        self.sent.append(sent)
        sent.stored.set_result(None)
        loop.call_soon(self.arrive, self.script(sent))
        return sent.stored

    def arrive(self, replies: Iterable[Reply]) -> None:
        """Answers come."""
        if self._arrived is not None:
            self._arrived(list(replies))

    def lose(self, error: BaseException) -> None:
        """No answer will come any more."""
        if self._lost is not None:
            self._lost(error)

    async def close(self) -> None:
        """Nothing to disconnect from."""
        self.closed += 1
