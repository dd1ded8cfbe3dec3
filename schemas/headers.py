"""Headers of the records on the keyed topics, by topic: the table that the JSON Schemas and the checks of it come from.

Header values are UTF-8 text. `hal9.wire` reads and writes them; a test holds the names together.
"""

from dataclasses import dataclass

SYSTEM_NAMES = "flat|hierarchical"
DECIMAL = "[0-9]{1,16}"
POSITION = "[0-9]{1,16}:[0-9]{1,16}"
TRACEPARENT = "[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}(-.*)?"


@dataclass(frozen=True, slots=True)
class Header:
    """One header: its name, what it says, the form of its value, and whether it must be there."""

    name: str
    meaning: str
    pattern: str | None = None
    required: bool = False


_TRACE = (
    Header("traceparent", "W3C trace context", TRACEPARENT),
    Header("tracestate", "W3C trace context"),
)
_STALE = (
    Header("stale-ms", "of a fallback: the state read was the newest one until so long before, at most", DECIMAL),
    Header("stale-versions", "of a fallback: changes asked for that the state read does not show, at most", DECIMAL),
)

LAYERS = "reflexive|implementation|operational|tactical|strategic"
_LAYER = (
    Header("layer", "the cognitive layer that the key is owned by, where it matters and is known", LAYERS),
    Header("layer-version", "version of the key that its owner must have before it goes on", DECIMAL),
)

_BASE = Header(
    "base", "of a request without an id: where positions of its topic count from, if that was once made anew", DECIMAL
)

REQUEST = (
    Header(
        "id",
        "identity of the request, at most 128 bytes; repeated within 60 s it is the same request",
        "[^\\x00]{1,128}",
    ),
    Header("operation", "what to do; `process` if absent", "[a-z0-9_.-]{1,64}"),
    Header(
        "deadline-ms", "when an answer is no use any more, milliseconds since the epoch; at most 60 s ahead", DECIMAL
    ),
    *_TRACE,
    _BASE,
)
DISPATCHED = (
    Header("id", "identity of the request", required=True),
    Header("operation", "what to do", "[a-z0-9_.-]{1,64}", required=True),
    Header("deadline-ms", "when an answer is no use any more", DECIMAL, required=True),
    *_TRACE,
    _BASE,
    Header("position", "partition of the request on `requests`, and its offset counted on", POSITION, required=True),
    Header("epoch", "version of the route", DECIMAL, required=True),
    Header("primary", "the system whose answer counts; absent when rejected", SYSTEM_NAMES),
    Header("shadow", "the system that executes it too, if any", SYSTEM_NAMES),
    Header("twin", "present when the primary runs it twice", "1"),
    Header("after-seal", "the epoch in which the bucket of the key last moved; 0 if never", DECIMAL),
    Header("fallback", "the primary is not the owner: it answers a read at once from what it holds", "1"),
    Header("aligned", "the primary is not the owner: it answers a read when it holds every change before it", "1"),
    *_LAYER,
    Header("rejected", "why nobody executes it"),
    Header("term", "offset of the writer's claim", DECIMAL, required=True),
)
RESPONSE = (
    Header("id", "identity of the request", required=True),
    Header("position", "partition and offset of the request on `requests`", POSITION, required=True),
    Header("epoch", "version of the route under which it was dispatched", DECIMAL, required=True),
    Header("role", "in which role this system executed it", "primary|shadow|twin|fallback", required=True),
    Header("status", "how it ended; `moved`: not executed, its layer stays at flat", "ok|error|moved", required=True),
    Header("error", "a short code, when not ok"),
    Header("state-version", "version of the state that was read; 0 if none", DECIMAL),
    Header("change", "offset of the change record, absent if none", DECIMAL),
    Header(
        "state-diff", "shadow of a mutating request: JSON list of the fields of the state that differ, cut at 4 KiB"
    ),
    *_LAYER,
    *_STALE,
    Header("aligned", "of a read that was asked for when this system did not own its key", "1"),
    *_TRACE,
)
ANSWER = (
    Header("id", "identity of the request", required=True),
    Header(
        "status",
        "`ok` done, once; `error`, `rejected`: nothing changed; `timeout`: unknown",
        "ok|error|rejected|timeout",
        True,
    ),
    Header("error", "a short code, when not ok"),
    Header("served-by", "the system whose answer this is, when served", SYSTEM_NAMES),
    Header("epoch", "version of the route", DECIMAL),
    Header("fallback", "present when a system answered a read in place of the owner, from what it held", "1"),
    Header("state-version", "of a fallback: version of the state that was read", DECIMAL),
    *_STALE,
    *_TRACE,
    _BASE,
)
STATE = (
    Header(
        "version",
        "1, 2, 3, ... per neuron, over both systems (docs/hand-over.md: deletions)",
        DECIMAL,
        required=True,
    ),
    Header("position", "partition and offset on `requests` of the request that caused it", POSITION),
    Header("epoch", "version of the route", DECIMAL, required=True),
    Header("term", "offset of the writer's claim", DECIMAL, required=True),
    Header("origin", "whose doing it is", "flat|hierarchical|load|move", required=True),
    Header("answer-status", "how the request ended; `timeout`: its handler was not reached", "ok|error|timeout"),
    Header("answer-error", "a short code, when not ok"),
    Header("follows", "version that it was made on, if not the one before: a key that lives again", DECIMAL),
    Header("unmapped", "replica logs: why there is no state, the other system's could not be mapped; a short code"),
    _LAYER[0],
)
