"""What a hostile producer writes: tables of keys, headers, values and records, each with what must come of it.

Values are msgpack, or pretend to be. `hal9.testing.hostile` produces them.
"""

import struct

from hal9.testing.hostile import NotText, RawHeaders
from schemas.base import encode

BAD_KEYS: dict[str, bytes | None] = {
    "null": None,
    "empty": b"",
    "nul": b"\0",
    "claim": b"\0claim/me",
    "marker": b"\0marker/7",
    "seal": b"\0seal/7/x",
    "not utf-8": b"\xff\xfe",
    "surrogate": b"\xed\xa0\x80",
    "too long": b"k" * 257,
    "very long": b"k" * 900_000,
}


BAD_HEADERS: dict[str, tuple[RawHeaders, str]] = {
    "33": ([("h", b"")] * 33, "rejected bad-headers"),
    "5000": ([("h", b"")] * 5000, "rejected bad-headers"),
    "9 KiB": ([("h", b"x" * 9000)], "rejected bad-headers"),
    "a long name": ([("h" * 9000, b"")], "rejected bad-headers"),
    "500 KB": ([("h", b"x" * 500_000)], "rejected bad-headers"),
    "an empty id": ([("id", b"")], "rejected bad-id"),
    "a long id": ([("id", b"i" * 129)], "rejected bad-id"),
    "an id that is not utf-8": ([("id", b"\xff")], "rejected bad-id"),
    "an empty operation": ([("operation", b"")], "rejected bad-operation"),
    "an operation in capitals": ([("operation", b"READ")], "rejected bad-operation"),
    "an operation that is not utf-8": ([("operation", b"\xff\xfe")], "rejected bad-operation"),
    "a long operation": ([("operation", b"o" * 65)], "rejected bad-operation"),
    "an operation of two lines": ([("operation", b"read\n")], "rejected bad-operation"),
    "a deadline in words": ([("deadline-ms", b"soon")], "rejected bad-deadline"),
    "an empty deadline": ([("deadline-ms", b"")], "rejected bad-deadline"),
    "a negative deadline": ([("deadline-ms", b"-1")], "rejected bad-deadline"),
    "a fraction": ([("deadline-ms", b"1e15")], "rejected bad-deadline"),
    "other digits": ([("deadline-ms", "١٢".encode())], "rejected bad-deadline"),
    "far ahead": ([("deadline-ms", b"9999999999999999")], "rejected bad-deadline"),
    "huge digits": ([("deadline-ms", b"9" * 5000)], "rejected bad-deadline"),
    "not utf-8": ([("deadline-ms", b"\xff")], "rejected bad-deadline"),
    "past": ([("deadline-ms", b"0")], "rejected expired"),
}
NULL_HEADERS: RawHeaders = [
    (name, None) for name in ("id", "operation", "deadline-ms", "traceparent", "tracestate", "h")
]
HARMLESS_HEADERS: dict[str, RawHeaders] = {
    "none": [],
    "nulls": NULL_HEADERS,
    "no text": [("h", b"\xff\xfe\0"), ("", b"no name"), ("traceparent", b"\xff"), ("tracestate", b"\xff\0")],
    "zeros": [("traceparent", b"00-" + b"0" * 32 + b"-" + b"0" * 16 + b"-01")],
    "of responses": [("status", b"error"), ("error", b"x"), ("role", b"shadow"), ("version", b"9"), ("source", b"-")],
    "twice": [("operation", b"process"), ("operation", b"delete")],
    "32": [("h", b"")] * 32,
}

RESERVED: RawHeaders = [
    ("position", b"0:0"),
    ("epoch", b"99"),
    ("primary", b"hierarchical"),
    ("shadow", b"nobody"),
    ("twin", b"1"),
    ("after-seal", b"99"),
    ("term", b"9999999999999999"),
    ("rejected", b"by-me"),
]


def nested(depth: int) -> bytes:
    """Lists in lists."""
    return b"\x91" * depth + b"\x01"


def lying(tag: bytes, count: int) -> bytes:
    """Something that says how long it is, and is not there."""
    return tag + struct.pack(">I", count)


VALUES: dict[str, bytes | None] = {
    "null": None,
    "empty": b"",
    "garbage": b"\xc1\xff\x00garbage",
    "text": b"hello",
    "another map": b"\x81\xa1a\x01",
    "a list": b"\x90",
    "nil": b"\xc0",
    "nested 65": nested(65),
    "nested 1000": nested(1000),
    "nested 200000": nested(200_000),
    **{
        f"lying {tag!r} {count}": lying(tag, count)
        for tag in (b"\xdd", b"\xdf", b"\xdb", b"\xc6")
        for count in (2**32 - 1, 2**24)
    },
    "maps as keys": b"\x81\x80\x01",
    "text that is not utf-8": b"\x81\xa6inputs\xa2\xff\xfe",
    "lying inputs": b"\x81\xa6inputs" + lying(b"\xdd", 2**31),
    "deep inputs": b"\x81\xa6inputs" + nested(100_000),
    "not a number": encode({"inputs": [[float("nan"), 1.0]], "delta": 1.0}),
    "infinite": encode({"inputs": [[float("inf"), 1.0]]}),
    "a huge integer": encode({"inputs": [2**64 - 1, 1.0], "delta": 2**64 - 1}),
    "of several lengths": encode({"inputs": [[1.0], [1.0, 2.0]]}),
    "of no length": encode({"inputs": [[]]}),
    "many of no length": encode({"inputs": [[]] * 200_000}),
    "delta not a number": encode({"inputs": [1.0, 1.0], "delta": float("nan")}),
}


def memory(held: bytes) -> bytes:
    """The value of a `create` with something raw in the neuron's memory."""
    return b"\x83" + b"".join(map(encode, ("neuron_id", "n", "weights", [1.0], "memory"))) + b"\x81\xa1x" + held


MEMORIES = {
    "extension": b"\xc7\x02\x05ab",
    "time": b"\xd6\xff\x00\x00\x00\x00",
    "huge": b"\xcf" + b"\xff" * 8,
    "not a number": b"\xcb\x7f\xf8" + b"\0" * 6,
    "keys of every kind": b"\x86\xc0\x01\xc3\x01\x02\x01\xca\x00\x00\x00\x00\x01\xc4\x01\xff\x01\x91\x01\x01",
    "keys that are not numbers": b"\x82" + (b"\xcb\x7f\xf8" + b"\0" * 6 + b"\x01") * 2,
    "62 deep": nested(61),
    "large": b"\xc6" + struct.pack(">I", 250_000) + b"x" * 250_000,
}

FUTURE: RawHeaders = [("term", b"9999999999999999"), ("epoch", b"9999")]
"""In the newest term whatever the claims, and voided by no seal."""
JUNK: tuple[tuple[bytes | None, bytes | None, RawHeaders], ...] = (
    (None, None, []),
    (b"", b"", [("term", None), ("epoch", None)]),
    (b"k", b"\xc1", [("term", b"-1")]),
    (b"k", nested(100_000), [("term", b"0"), ("epoch", b"0"), ("version", b"9"), ("position", b"0:0")]),
    (b"\xff" * 1000, b"", [("position", b"x" * 9000), ("id", b"\xff"), ("status", b"ok")]),
    (b"\0", b"", []),
    (b"\0claim", b"", []),
    (b"\0marker/9", b"\xc1", FUTURE),
    (b"\0marker/9", None, []),
    (b"\0marker/x", nested(1000), FUTURE),
    (b"\0seal/9/x", b"\xc1", FUTURE),
    (b"\0seal/9/x", lying(b"\xdf", 2**32 - 1), []),
    (b"k", b"x", [(NotText("x"), b"1")]),
)
POISON = ((b"k", b"\xc1", FUTURE), (b"", b"x", FUTURE), (b"k" * 300, None, FUTURE), (b"\xff", b"x", FUTURE))

_OURS = {"id": "x", "migration": "hal9", "actor": "x", "at_ms": 1}
NOT_UNDERSTOOD: tuple[bytes | None, ...] = (
    None,
    b"",
    b"\xc1",
    nested(100_000),
    encode({"type": "route", **_OURS, "expected_epoch": 1, "percentage": float("nan")}),
    encode({"type": "pin", **_OURS, "keys": [""]}),
    encode({"type": "backfill", **_OURS, "percentage": 1e308}),
    encode({"type": "x" * 100, **_OURS}),
    encode({"type": "of another version", **_OURS}),
)
