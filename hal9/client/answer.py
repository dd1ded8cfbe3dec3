"""What the client is asked and what it answers. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, Self, cast

from hal9 import wire
from hal9.client.errors import RequestRefused, RequestRejected, RequestTimedOut
from hal9.log.effects import Record

AnswerStatus = Literal["ok", "error", "rejected", "timeout"]

FALLBACK, STALE_MS, STALE_VERSIONS = "fallback", "stale-ms", "stale-versions"
_STATUSES = frozenset({b"ok", b"error", b"rejected", b"timeout"})
_FIELDS = frozenset({wire.ID, wire.STATUS, wire.ERROR, wire.SERVED_BY, wire.EPOCH})
_FAILURES = {"error": RequestRefused, "rejected": RequestRejected, "timeout": RequestTimedOut}


class Ask(NamedTuple):
    """One request of many; what is None is as the client has it (a new id, the default deadline)."""

    key: str | bytes
    operation: str
    value: bytes
    id: str | None = None
    deadline_s: float | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """How a request ended.

    Attributes:
        status: `ok` done, once; `error` and `rejected`: nothing changed; `timeout`: unknown.
        value: the system's answer; empty when there is none.
        error: a short code, when not ok.
        served_by: `flat` or `hierarchical`, when served.
        epoch: version of the route under which it was served.
        id: identity of the request.
        elapsed_ms: from sending to the answer.
        local: no answer was read: this client gave up waiting (`no-answer`), could not send (`not-sent`,
            `too-large`), could not read (`unreadable`), was closed (`closed`), or its caller went (`cancelled`).
        headers: all other headers of the answer, as text (trace context, and what newer services add).
    """

    status: AnswerStatus
    value: bytes
    error: str | None
    served_by: str | None
    epoch: int | None
    id: str
    elapsed_ms: float = 0.0
    local: bool = False
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        """Done, once."""
        return self.status == "ok"

    @property
    def fallback(self) -> bool:
        """Not the key's owner answered this read but the other system, from its replica."""
        return FALLBACK in self.headers

    @property
    def stale_ms(self) -> int | None:
        """Of a `fallback`: the state read was the newest one until so long before, at most; in milliseconds."""
        return _decimal(self.headers.get(STALE_MS))

    @property
    def stale_versions(self) -> int | None:
        """Of a `fallback`: changes asked for that the state read does not show, at most."""
        return _decimal(self.headers.get(STALE_VERSIONS))

    def raise_for_status(self) -> Self:
        """Itself if `ok`; raises RequestRefused, RequestRejected or RequestTimedOut otherwise."""
        if self.status == "ok":
            return self
        raise _FAILURES[self.status](self)


@dataclass(slots=True)
class Counts:
    """What became of the requests so far; ok + error + rejected + timeout = sent, once all are done.

    Attributes:
        sent: requests begun.
        answered: requests of which an answer was read, in time or late.
        repeated: answers beyond the first of a request; they changed nothing.
        late: answers read after this client had given up.
        gave_up: ends that are this client's own word (`Answer.local`), not the router's.
        resent: times that a request was sent again, under its id.
    """

    sent: int = 0
    answered: int = 0
    ok: int = 0
    error: int = 0
    rejected: int = 0
    timeout: int = 0
    repeated: int = 0
    late: int = 0
    gave_up: int = 0
    resent: int = 0


def _decimal(text: str | None) -> int | None:
    return int(text) if text is not None and text.isascii() and text.isdecimal() else None


def read_answer(record: Record, elapsed_ms: float) -> Answer:
    """A record of `responses`. One without a known status says nothing of what was done: a `timeout`."""
    status = wire.header(record.headers, wire.STATUS)
    known = status in _STATUSES
    more = {name: (value or b"").decode("utf-8", "replace") for name, value in record.headers if name not in _FIELDS}
    return Answer(
        status=cast("AnswerStatus", (status or b"").decode()) if known else "timeout",
        value=record.value or b"",
        error=wire.text(record.headers, wire.ERROR) if known else "bad-answer",
        served_by=wire.text(record.headers, wire.SERVED_BY),
        epoch=wire.number(record.headers, wire.EPOCH),
        id=wire.text(record.headers, wire.ID) or "",
        elapsed_ms=elapsed_ms,
        headers=more,
    )
