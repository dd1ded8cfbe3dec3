"""Values as a report may show them: of bounded length, redacted ones as a hash. Pure."""

import hashlib
import hmac
from itertools import islice

import msgspec

from hal9.compare.matcher import Node

MAX_VALUE_CHARS = 256
_HASH_CHARS = 16
_SOME = 64
"""Items of a container that are looked at to show it."""
_DEEP = 64

_canonical = msgspec.msgpack.Encoder(order="sorted")


class Missing:
    """Stands for a value that is not there; equal to nothing else."""

    def __repr__(self) -> str:
        return "(missing)"


MISSING = Missing()


def canonical(value: object) -> bytes:
    """Bytes that are the same for values that are exactly the same."""
    try:
        return _canonical.encode(value)
    except (TypeError, ValueError, OverflowError, RecursionError, msgspec.MsgspecError):
        return repr(value).encode("utf-8", "backslashreplace")


class Redactor:
    """Hashes in place of values, keyed if there is a key."""

    def __init__(self, key: bytes = b"") -> None:
        self._key = key

    def hashed(self, value: object) -> object:
        """The hash that stands for a value; a missing one is seen to be missing."""
        if value is MISSING:
            return repr(MISSING)
        content = canonical(value)
        if self._key:
            return f"hmac:{hmac.new(self._key, content, hashlib.sha256).hexdigest()[:_HASH_CHARS]}"
        return f"sha256:{hashlib.sha256(content).hexdigest()[:_HASH_CHARS]}"

    def shown(self, value: object, node: Node) -> object:
        """A value that lies at `node`, without what is to be hidden, cut to size."""
        if value.__class__ is float and not node.guarded:
            return value
        return cut(self._masked(value, node, 0) if node.masks else value)

    def _masked(self, value: object, node: Node, depth: int) -> object:
        if node.redact or depth > _DEEP:
            return self.hashed(value)
        if isinstance(value, dict):
            # A key that is no text is shown as the number or the bytes it is: no pattern names it.
            some = islice(value.items(), _SOME)
            return {key: self._masked(inner, node.step(str(key)), depth + 1) for key, inner in some}
        if isinstance(value, list):
            return [self._masked(inner, node.step(str(i)), depth + 1) for i, inner in enumerate(value[:_SOME])]
        return self.hashed(value) if node.guarded else value


def cut(value: object) -> object:
    """A value fit for a report: scalars as they are, anything else as text of bounded length."""
    if value is None or isinstance(value, bool | float):
        return value
    if value is MISSING:
        return repr(MISSING)
    if isinstance(value, int):
        return value if -(2**63) <= value < 2**64 else _text(value)
    shown = value if isinstance(value, str) else _text(value)
    return shown if len(shown) <= MAX_VALUE_CHARS else shown[:MAX_VALUE_CHARS] + "..."


def _text(value: object) -> str:
    if isinstance(value, list) and len(value) > _SOME:
        value = value[:_SOME]
    elif isinstance(value, dict) and len(value) > _SOME:
        value = dict(islice(value.items(), _SOME))
    elif isinstance(value, bytes):
        value = value[:MAX_VALUE_CHARS]
    try:
        return repr(value)
    except (RecursionError, ValueError):  # ValueError: an integer of thousands of digits
        return f"({type(value).__name__}, too deep or too long to show)"
