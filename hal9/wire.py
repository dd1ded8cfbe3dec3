"""Headers and size limits of the records on the keyed topics, judged before anything is decoded. Pure.

Requests come from anybody, so `parse_request` says what is wrong with one; the other parsers read what our own services
wrote and raise `Poison` when a record is not what it should be.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from msgspec import Struct

from hal9.errors import Poison
from hal9.log.effects import Headers, Record
from schemas.base import SYSTEMS, System

ID, OPERATION, DEADLINE = "id", "operation", "deadline-ms"
TRACEPARENT, TRACESTATE = "traceparent", "tracestate"
POSITION, EPOCH, PRIMARY, SHADOW, TWIN = "position", "epoch", "primary", "shadow", "twin"
AFTER_SEAL, TERM, REJECTED = "after-seal", "term", "rejected"
ROLE, STATUS, ERROR, STATE_VERSION, CHANGE, STATE_DIFF = (
    "role",
    "status",
    "error",
    "state-version",
    "change",
    "state-diff",
)
SERVED_BY = "served-by"
FALLBACK, ALIGNED, STALE_MS, STALE_VERSIONS = "fallback", "aligned", "stale-ms", "stale-versions"
VERSION, ORIGIN, ANSWER_STATUS, ANSWER_ERROR = "version", "origin", "answer-status", "answer-error"
LAYER, LAYER_VERSION = "layer", "layer-version"
UNMAPPED = "unmapped"
FOLLOWS = "follows"
"""Version that a change was made on, if it is not the one before: versions between were given in an earlier life."""
SOURCE = "source"
BASE = "base"
"""Of a request without an id: where positions of its topic count from, for its default id is used again when that
topic is made anew. Absent for 0."""

CLAIM, MARKER, SEAL, REQUESTS = b"\0claim/", b"\0marker/", b"\0seal/", b"\0requests/"
FLOOR = b"\0floor/"

OURS = frozenset(
    {POSITION, EPOCH, PRIMARY, SHADOW, TWIN, AFTER_SEAL, TERM, REJECTED, FALLBACK, ALIGNED, LAYER, LAYER_VERSION, BASE}
)
"""Headers of a dispatched request that are dropped when a user sends them."""

MOVED = "moved"
MOVE = "move"
"""Origin of a version that says of which layer a key is from now on, and is otherwise the one before."""
RESPONSE_STATUSES = {b"ok": "ok", b"error": "error", b"timeout": "timeout", b"moved": MOVED}
"""What a system says; `timeout`: the position was applied or passed long ago, and its answer is no longer kept;
`moved`: nothing was done, the key is in a layer that stays at flat (for the router alone)."""

INCOMPARABLE = b"incomparable"
"""Error of a shadow that could not run on the state that the primary ran on: it says nothing of either system."""

MAX_HEADERS = 32
MAX_HEADER_BYTES = 8 * 1024
MAX_ID_BYTES = 128
MAX_AHEAD_MS = 60_000
STATE_DIFF_BYTES = 4096

_NAME_BYTES = 4
"""Of one character of a header's name, at most: a name is measured exactly only where it matters."""
_PROCESS = "process"
_KNOWN = OURS | {ID, OPERATION, DEADLINE, TRACEPARENT}
_FIXED = {ID: MAX_ID_BYTES, OPERATION: 64, DEADLINE: 16, BASE: 16}
"""Longest values of the headers that a router fixes before it moves a request."""
_OPERATION = re.compile(rb"[a-z0-9_.-]{1,64}")
_DIGITS = 16
"""Most digits of a decimal header."""
_REQUIRED = 6
"""Headers without which there is no dispatched request (`primary` or `rejected` is one): most have little else."""
_ANSWERED = (ID, POSITION, EPOCH, ROLE, STATUS, STATE_VERSION)
"""The first headers of a response, in this order: looking them up by name costs twice as much."""
_NONE: tuple[tuple[str, bytes], ...] = ()
_NAMED: dict[bytes | None, System | None] = {None: None, **{name.encode(): name for name in SYSTEMS}}
_NO_LAYER: tuple[str | None, int] = (None, 0)
_UNREADABLE = (KeyError, ValueError, TypeError, AttributeError)  # missing, malformed, null (Kafka allows null values)


@dataclass(frozen=True, slots=True)
class Limits:
    """Sizes and times that a request is held to (settings of the router)."""

    value_bytes: int = 256 * 1024
    state_bytes: int = 384 * 1024
    deadline_ms: int = 10_000


class Request(Struct, gc=False):
    """A request as read: what the headers say, defaults filled in; `rejected` is a code when it cannot be accepted."""

    id: str
    operation: str
    deadline_ms: int
    traceparent: bytes | None
    passed_on: Sequence[tuple[str, bytes]]
    rejected: str | None = None
    base: int = 0
    """See `BASE`."""


def header(headers: Headers, name: str) -> bytes | None:
    """The first value of a header."""
    for key, value in headers:
        if key == name:
            return value
    return None


def number(headers: Headers, name: str) -> int | None:
    """A decimal header; None if absent or malformed."""
    for key, value in headers:
        if key == name:
            return _usual(value)
    return None


def _natural(value: bytes | None) -> int | None:
    """A decimal value; None if absent or malformed."""
    return int(value) if value and value.isdigit() and len(value) <= _DIGITS else None


_usual = lru_cache(maxsize=1024)(_natural)
"""The same for what is mostly one of few: terms, epochs, partitions, versions."""


def text(headers: Headers, name: str) -> str | None:
    """A text header; None if absent or not UTF-8."""
    value = header(headers, name)
    try:
        return value.decode() if value is not None else None
    except UnicodeDecodeError:
        return None


def decimal(value: int) -> bytes:
    """A number as a header value."""
    return b"%d" % value


def seal_key(epoch: int, unique: str) -> bytes:
    """The key of one seal: each its own, or compaction keeps a later, void one instead of the one that counts."""
    return b"%s%d/%s" % (SEAL, epoch, unique.encode())


def floor_mark(floor: int, unique: str, term: int) -> tuple[bytes, list[tuple[str, bytes]]]:
    """Key and headers of a floor of versions: one key for each writer, whose later floors are higher."""
    return FLOOR + unique.encode(), [(VERSION, decimal(floor)), (TERM, decimal(term))]


def position_header(partition: int, offset: int) -> bytes:
    """`<partition>:<offset>`: where a request lies on `requests`; offsets count on when that topic is made anew."""
    return b"%d:%d" % (partition, offset)


def parse_position(value: bytes | None) -> tuple[int, int] | None:
    """Inverse of `position_header`; None if malformed."""
    head, _, tail = (value or b"").partition(b":")
    partition, offset = _usual(head), _natural(tail)
    return None if partition is None or offset is None else (partition, offset)


def default_id(topic: str, partition: int, offset: int) -> str:
    """The identity of a request that names none."""
    return f"{topic}-{partition}-{offset}"


def parse_request(record: Record, topic: str, partition: int, now_ms: float, limits: Limits, base: int = 0) -> Request:
    """Read the headers of a request. Never raises: what is wrong is in `rejected`, the first reason found.

    `base` is where positions of the topic count from.
    """
    request_id = operation = deadline = traceparent = rejected = None
    size, others, headers = 0, False, record.headers
    for name, value in reversed(headers):  # the first one of a name counts: here the last one to be seen
        size += _NAME_BYTES * len(name) + len(value or b"")
        if name == ID:
            request_id = value
        elif name == DEADLINE:
            deadline = value
        elif name == OPERATION:
            operation = value
        elif name == TRACEPARENT:
            traceparent = value
        elif name not in OURS or name == BASE:
            others = True
    if (len(headers) > MAX_HEADERS or size > MAX_HEADER_BYTES) and _too_much(headers):
        rejected, others, traceparent = "bad-headers", False, None
    identity = _identity(request_id)
    if identity is None:
        identity = default_id(topic, partition, record.offset)
        rejected = rejected or ("bad-id" if request_id is not None else None)
    else:
        base = (number(headers, BASE) or 0) if others else 0
    named = _PROCESS if operation is None else _operation(operation)
    if named is None:
        rejected, named = rejected or "bad-operation", _PROCESS
    deadline_ms, wrong = _deadline(deadline, record.timestamp, now_ms, limits)
    rejected = rejected or ("too-large" if len(record.value or b"") > limits.value_bytes else None)
    passed_on = _unknown(headers) if others else _NONE
    return Request(identity, named, deadline_ms, traceparent, passed_on, rejected or wrong, base)


def _unknown(headers: Headers) -> list[tuple[str, bytes]]:
    """Headers that mean nothing here, in order."""
    return [(name, value or b"") for name, value in headers if name not in _KNOWN]


@lru_cache(maxsize=1024)
def _operation(value: bytes) -> str | None:
    """A valid name as text, the same object each time; None if it is none."""
    return value.decode() if _OPERATION.fullmatch(value) else None


def _too_much(headers: Headers) -> bool:
    """Whether they are beyond the limits without the three that a router may have added when it moved the request."""
    count, size = len(headers), sum(len(name.encode()) + len(value or b"") for name, value in headers)
    for name, most in _FIXED.items():
        value = header(headers, name)
        if value is not None and len(value) <= most:
            count, size = count - 1, size - len(name) - len(value)
    return count > MAX_HEADERS or size > MAX_HEADER_BYTES


def _deadline(value: bytes | None, since_ms: int, now_ms: float, limits: Limits) -> tuple[int, str | None]:
    """(deadline, why it is refused); a default one where it is malformed or too far ahead."""
    if value is None:
        deadline_ms = since_ms + limits.deadline_ms
    else:
        given_ms = _usual(value)
        if given_ms is None or given_ms > since_ms + MAX_AHEAD_MS:
            return since_ms + limits.deadline_ms, "bad-deadline"
        deadline_ms = given_ms
    return deadline_ms, "expired" if deadline_ms <= now_ms else None


def _identity(value: bytes | None) -> str | None:
    if not value or len(value) > MAX_ID_BYTES:
        return None
    try:
        return value.decode()
    except UnicodeDecodeError:
        return None


class Dispatched(Struct, gc=False):
    """A dispatched request, as systems and a successor of the router read it."""

    id: str
    operation: str
    deadline_ms: int
    position: int
    epoch: int
    primary: System | None
    shadow: System | None
    after_seal: int
    rejected: str | None
    traceparent: bytes | None
    twin: bool = False
    fallback: bool = False
    """Its `primary` is not the owner, and answers at once from what it holds."""
    aligned: bool = False
    """Its `primary` is not the owner, and answers when it holds every change of the key dispatched before."""
    layer: str | None = None
    layer_version: int = 0
    """Version of the key that the owner must have before it goes on."""
    base: int = 0
    """See `BASE`."""


def parse_dispatched(record: Record) -> Dispatched:
    """Read a record of `dispatched` that is no mark; Poison if it is not what a router writes."""
    fields = dict(record.headers)
    position = parse_position(fields.get(POSITION))
    primary = _system(fields.get(PRIMARY))
    rejected = fields.get(REJECTED)
    if position is None or (primary is None) == (rejected is None):
        raise Poison("bad-dispatched", f"headers {sorted(fields)}")
    try:
        found = Dispatched(
            fields[ID].decode(),
            fields[OPERATION].decode(),
            int(fields[DEADLINE]),
            position[1],
            int(fields[EPOCH]),
            primary,
            None,
            int(fields.get(AFTER_SEAL, b"0")),
            rejected.decode() if rejected is not None else None,
            fields.get(TRACEPARENT),
        )
        if len(fields) > _REQUIRED + (AFTER_SEAL in fields) + (TERM in fields):
            found.shadow = _system(fields.get(SHADOW))
            found.twin = fields.get(TWIN) == b"1"
            found.fallback = fields.get(FALLBACK) == b"1"
            found.aligned = fields.get(ALIGNED) == b"1"
            found.layer, found.layer_version = _layer(fields)
            found.base = _usual(fields.get(BASE)) or 0
    except _UNREADABLE as error:
        raise Poison("bad-dispatched", str(error)) from error
    return found


class Response(Struct, gc=False):
    """What one system answered to one dispatched request in one role, of `partition` (a native system may miss it).

    `state_version` is that of the state it ran on, `state_diff` (of a shadow) how the state it made differs, as JSON.
    """

    position: int
    epoch: int
    role: bytes
    status: str
    error: bytes | None
    state_version: int
    state_diff: bytes | None
    partition: int = 0
    value: bytes | None = None
    layer: str | None = None
    layer_version: int = 0

    @property
    def ok(self) -> bool:
        """Whether it is an answer, and no error."""
        return self.status == "ok"


def parse_response(record: Record) -> Response:
    """Read a record of a response log; Poison if it is not what a system writes."""
    headers = record.headers
    if len(headers) < len(_ANSWERED):
        headers = _in_order(headers)
    (a, _), (b, at), (c, era), (d, role), (e, said), (f, version), *others = headers
    if not (a == ID and b == POSITION and c == EPOCH and d == ROLE and e == STATUS and f == STATE_VERSION):
        headers = _in_order(headers)
        _, (_, at), (_, era), (_, role), (_, said), (_, version), *others = headers
    error = diff = None
    for name, value in others:
        if name == STATE_DIFF:
            diff = value
        elif name == ERROR:
            error = value
    position, epoch, status = parse_position(at), _usual(era), RESPONSE_STATUSES.get(said)
    if position is None or epoch is None or status is None:
        raise Poison("bad-response", f"headers {sorted(dict(record.headers))}")
    state_version = _usual(version) or 0
    found = Response(position[1], epoch, role, status, error, state_version, diff, position[0], record.value)
    if status is MOVED:
        found.layer, found.layer_version = _layer(dict(headers))
    return found


def _in_order(headers: Headers) -> Headers:
    """The headers of a response as `hal9.backend.responses` writes them; other systems have an order of their own."""
    given = {ROLE: b"primary", **dict(headers)}
    return [(name, given.pop(name, b"")) for name in _ANSWERED] + list(given.items())


class Change(Struct, gc=False):
    """Headers of a state record: whose doing, which version, and the answer's status.

    `unmapped` (replica logs only): a code, why there is no state: the other system's could not be mapped. `follows`:
    the version that it was made on; None: the one before.
    """

    version: int
    position: int | None
    epoch: int
    origin: str
    answer_status: str | None
    answer_error: str | None
    unmapped: str | None = None
    layer: str | None = None
    follows: int | None = None


def parse_change(record: Record) -> Change:
    """Read the headers of a state record that is no mark; Poison if they are not what a writer sends."""
    fields = dict(record.headers)
    position = fields.get(POSITION)
    parsed = parse_position(position)
    if position is not None and parsed is None:
        raise Poison("bad-change", "the position is malformed")
    try:
        status, error = fields.get(ANSWER_STATUS), fields.get(ANSWER_ERROR)
        unmapped = fields.get(UNMAPPED)
        return Change(
            int(fields[VERSION]),
            parsed[1] if parsed else None,
            int(fields[EPOCH]),
            fields.get(ORIGIN, b"").decode(),
            status.decode() if status is not None else None,
            error.decode() if error is not None else None,
            unmapped.decode() if unmapped is not None else None,
            _layer(fields)[0],
            _natural(fields.get(FOLLOWS)),
        )
    except _UNREADABLE as error:
        raise Poison("bad-change", str(error)) from error


def change_headers(change: Change, partition: int, term: int) -> list[tuple[str, bytes]]:
    """Headers of a state record: inverse of `parse_change`, stamped with the writer's term."""
    headers = [
        (VERSION, decimal(change.version)),
        (EPOCH, decimal(change.epoch)),
        (TERM, decimal(term)),
        (ORIGIN, change.origin.encode()),
    ]
    if change.position is not None:
        headers.append((POSITION, position_header(partition, change.position)))
    if change.answer_status is not None:
        headers.append((ANSWER_STATUS, change.answer_status.encode()))
    if change.answer_error is not None:
        headers.append((ANSWER_ERROR, change.answer_error.encode()))
    if change.unmapped is not None:
        headers.append((UNMAPPED, change.unmapped.encode()))
    if change.layer is not None:
        headers.append((LAYER, change.layer.encode()))
    if change.follows is not None:
        headers.append((FOLLOWS, decimal(change.follows)))
    return headers


def layer_headers(layer: str | None, version: int) -> list[tuple[str, bytes]]:
    """Which layer a key is in, and the version of it that its owner must have before it goes on."""
    return [] if layer is None else [(LAYER, layer.encode()), (LAYER_VERSION, decimal(version))]


def _layer(fields: Mapping[str, bytes | None]) -> tuple[str | None, int]:
    layer = fields.get(LAYER)
    if layer is None:
        return _NO_LAYER
    return layer.decode("utf-8", "replace"), _natural(fields.get(LAYER_VERSION)) or 0


def _system(value: bytes | None) -> System | None:
    try:
        return _NAMED[value]
    except KeyError:
        raise Poison("bad-system", (value or b"").decode("utf-8", "replace")) from None
