"""Responses that wait until everything they rest on was read back as valid. Pure."""

from collections import deque
from collections.abc import Iterator
from functools import lru_cache

from msgspec import Struct

from hal9 import wire
from hal9.backend.execution import Executed
from hal9.backend.store import Held


class Response(Struct, eq=False, gc=False):
    """What is to be sent for one execution.

    `needs` is the number of the own change that must have been read back, `read` the version of the state it was
    computed on, `offset` where the request lies on `dispatched` (None for a shadow: nothing waits for its response).
    """

    needs: int
    request: wire.Dispatched
    key: bytes
    role: bytes
    executed: Executed
    held: Held
    read: int
    offset: int | None = None
    diff: bytes | None = None
    span: object = None
    stale: tuple[int, int] | None = None
    """Of a fallback: changes that the state does not show, and for how many milliseconds."""

    def headers(self, partition: int) -> list[tuple[str, bytes]]:
        """The headers of the record on the response log; the first six in the order in which `wire` reads them."""
        request, executed = self.request, self.executed
        headers = [
            (wire.ID, request.id.encode()),
            (wire.POSITION, b"%d:%d" % (partition, request.position)),
            *_stamp(request.epoch, self.role, executed.status),
            (wire.STATE_VERSION, b"%d" % self.read),
        ]
        if executed.error is not None:
            headers.append((wire.ERROR, executed.error.encode()))
        if self.offset is not None and self.held.position == request.position and self.held.offset is not None:
            headers.append((wire.CHANGE, b"%d" % self.held.offset))
        if executed.status == wire.MOVED:
            headers += wire.layer_headers(self.held.layer, self.held.version)
        if self.diff is not None:
            headers.append((wire.STATE_DIFF, self.diff))
        if self.stale is not None:
            headers += [(wire.STALE_VERSIONS, b"%d" % self.stale[0]), (wire.STALE_MS, b"%d" % self.stale[1])]
        if request.aligned:
            headers.append((wire.ALIGNED, b"1"))
        if request.traceparent is not None:
            headers.append((wire.TRACEPARENT, request.traceparent))
        return headers


@lru_cache(maxsize=64)
def _stamp(epoch: int, role: bytes, status: str) -> tuple[tuple[str, bytes], ...]:
    """What most responses of a partition have in common, the same objects each time."""
    return (wire.EPOCH, b"%d" % epoch), (wire.ROLE, role), (wire.STATUS, status.encode())


class Outbox:
    """Responses in the order in which they were computed."""

    def __init__(self) -> None:
        self._waiting: deque[Response] = deque()

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, response: Response) -> None:
        """A response to send as soon as it is true."""
        self._waiting.append(response)

    def true_by(self, verified: int) -> Iterator[Response]:
        """Responses whose own changes, up to number `verified`, were read back; each once."""
        while self._waiting and self._waiting[0].needs <= verified:
            yield self._waiting.popleft()
