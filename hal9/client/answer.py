"""What the client is asked and what it answers."""

from dataclasses import dataclass
from typing import Literal, NamedTuple, cast

from hal9 import wire
from hal9.log.effects import Record

AnswerStatus = Literal["ok", "error", "rejected", "timeout"]


class Ask(NamedTuple):
    """One request of many."""

    key: str | bytes
    operation: str
    value: bytes


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
    """

    status: AnswerStatus
    value: bytes
    error: str | None
    served_by: str | None
    epoch: int | None
    id: str
    elapsed_ms: float = 0.0
    local: bool = False


@dataclass(slots=True)
class Counts:
    """What became of the requests so far; ok + error + rejected + timeout = sent, once all are done.

    Attributes:
        sent: requests begun.
        answered: requests of which an answer was read, in time or late.
        repeated: answers beyond the first of a request; they changed nothing.
        late: answers read after this client had given up.
        gave_up: ends that are this client's own word (`Answer.local`), not the router's.
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


def read_answer(record: Record, elapsed_ms: float) -> Answer:
    """A record of `responses`. One without a known status says nothing of what was done: a `timeout`."""
    status = wire.text(record.headers, wire.STATUS)
    known = status in ("ok", "error", "rejected", "timeout")
    return Answer(
        status=cast("AnswerStatus", status) if known else "timeout",
        value=record.value or b"",
        error=wire.text(record.headers, wire.ERROR) if known else "bad-answer",
        served_by=wire.text(record.headers, wire.SERVED_BY),
        epoch=wire.number(record.headers, wire.EPOCH),
        id=wire.text(record.headers, wire.ID) or "",
        elapsed_ms=elapsed_ms,
    )
