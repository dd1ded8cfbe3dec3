"""The headers that the router writes. Pure."""

from collections.abc import Sequence
from functools import lru_cache

from hal9 import wire
from hal9.log.effects import Record
from schemas.base import System
from services.router.entry import Entry
from services.router.keybook import Key

Headers = list[tuple[str, bytes]]

_TRACE_ID = slice(3, 35)
"""Of a `traceparent`."""


def fixed(request: wire.Request) -> Headers:
    """What every hop after the first one can rely on: id, operation, deadline, trace."""
    headers = [
        (wire.ID, request.id.encode()),
        (wire.OPERATION, request.operation.encode()),
        (wire.DEADLINE, b"%d" % request.deadline_ms),
        *_counted(request),
    ]
    if request.traceparent is not None:
        headers.append((wire.TRACEPARENT, request.traceparent))
    return headers


def _counted(request: wire.Request) -> Headers:
    """What a default id alone does not say."""
    return [(wire.BASE, b"%d" % request.base)] if request.base else []


def of_user(record: Record) -> Headers:
    """What the user sent beside the headers that `fixed` and the dispatch write anew."""
    written = (wire.ID, wire.OPERATION, wire.DEADLINE, wire.TRACEPARENT)
    return [(name, value or b"") for name, value in record.headers if name not in wire.OURS and name not in written]


def of_dispatch(entry: Entry, known: Key, owner: System, partition: int, after_seal: int, term: int) -> Headers:
    """A request as both systems read it."""
    request = entry.request
    # The term comes first: it is what every reader of the log looks for.
    headers = [
        *_stamp(term, entry.epoch, owner, after_seal),
        (wire.POSITION, b"%d:%d" % (partition, entry.position)),
        (wire.ID, request.id.encode()),
        _operation(request.operation),
        (wire.DEADLINE, b"%d" % request.deadline_ms),
    ]
    if request.traceparent is not None:
        headers.append((wire.TRACEPARENT, request.traceparent))
    if request.passed_on:
        headers += request.passed_on
    if request.base:
        headers += _counted(request)
    if known.layer is not None:
        headers += wire.layer_headers(known.layer, known.layer_version)
    if entry.shadow is not None:
        headers.append((wire.SHADOW, entry.shadow.encode()))
        if entry.twin:
            headers.append((wire.TWIN, b"1"))
    return headers


def of_read(
    entry: Entry, known: Key, system: System, partition: int, after_seal: int, term: int, mark: str | None
) -> Headers:
    """A read that another system than its owner is asked for (`mark` says how), or its owner instead of another."""
    written = of_dispatch(entry, known, system, partition, after_seal, term)
    return [h for h in written if h[0] not in (wire.SHADOW, wire.TWIN)] + ([(mark, b"1")] if mark else [])


def of_fallback(response: Record) -> Headers:
    """What the answer to a user says of a state that another system than the owner read."""
    told = (wire.STATE_VERSION, wire.STALE_VERSIONS, wire.STALE_MS)
    return [(wire.FALLBACK, b"1"), *((name, value or b"") for name, value in response.headers if name in told)]


@lru_cache(maxsize=64)
def _stamp(term: int, epoch: int, owner: System, after_seal: int) -> tuple[tuple[str, bytes], ...]:
    """What most requests of a partition have in common, the same objects each time."""
    return (
        (wire.TERM, b"%d" % term),
        (wire.EPOCH, b"%d" % epoch),
        (wire.PRIMARY, owner.encode()),
        (wire.AFTER_SEAL, b"%d" % after_seal),
    )


@lru_cache(maxsize=1024)
def _operation(name: str) -> tuple[str, bytes]:
    return wire.OPERATION, name.encode()


@lru_cache(maxsize=256)
def _outcome(status: str, epoch: int, error: str | None, owner: System | None) -> tuple[tuple[str, bytes], ...]:
    """What most answers have in common, the same objects each time: answers are kept for the id window."""
    found = [(wire.STATUS, status.encode()), (wire.EPOCH, b"%d" % epoch)]
    if error is not None:
        found.append((wire.ERROR, error.encode()))
    if status in ("ok", "error") and owner is not None:
        found.append((wire.SERVED_BY, owner.encode()))
    return tuple(found)


def of_rejection(entry: Entry, partition: int, epoch: int, term: int) -> Headers:
    """A rejected request: nobody executes it."""
    return [
        *fixed(entry.request),
        (wire.POSITION, wire.position_header(partition, entry.position)),
        (wire.EPOCH, wire.decimal(epoch)),
        (wire.REJECTED, (entry.rejected or "rejected").encode()),
        (wire.TERM, wire.decimal(term)),
    ]


def of_answer(entry: Entry, status: str, error: str | None) -> Sequence[tuple[str, bytes]]:
    """What the answer to the user says beside its id."""
    told = _outcome(status, entry.epoch, error, entry.owner)
    if entry.request.traceparent is None:
        return told
    state = [h for h in entry.request.passed_on if h[0] == wire.TRACESTATE]
    return (*told, (wire.TRACEPARENT, entry.request.traceparent), *state)


def identified(request: wire.Request, told: Sequence[tuple[str, bytes]]) -> Headers:
    """The headers of an answer: the id comes first."""
    return [(wire.ID, request.id.encode()), *_counted(request), *told]


def same_trace(given: bytes | None, taken: bytes | None) -> bool:
    """Whether a request stays in the trace that it came with: only then is its `tracestate` worth anything."""
    return given is not None and taken is not None and given[_TRACE_ID] == taken[_TRACE_ID]
