"""Answers as bytes: equal ones cost nothing; others are read as trees of one format, or else compared as bytes."""

import msgspec

from hal9.compare.rules import RuleBook
from hal9.compare.showing import MISSING, cut
from hal9.compare.trees import Walk
from hal9.errors import Poison
from schemas.base import decode
from schemas.reports import FieldDifference

_tree = msgspec.msgpack.Decoder()
_OPAQUE = object()
_TEXT_BELOW = 0x80
"""First bytes of JSON; what begins with another one is msgpack, or neither."""


def differences(
    flat: bytes | None, hierarchical: bytes | None, book: RuleBook, operation: str = "", now_ms: float = 0.0
) -> list[FieldDifference]:
    """The fields in which two answers differ under the rules; empty if they say the same.

    `now_ms` is the time that ends rules. No value is the same as an empty one.
    """
    if flat == hierarchical or not (flat or hierarchical):
        return []
    a, b = flat or b"", hierarchical or b""
    node = book.matcher("answer", operation)
    if a and b and book.layouts.same(node, a, b, now_ms):
        return []
    walk = Walk(book, now_ms)
    if a and b:
        left, right = _trees(a, b)
        if left is not _OPAQUE:
            walk.compare(left, right, node, None, 0)
            if not walk.found and len(a) == len(b) and a[0] >= _TEXT_BELOW:
                book.layouts.learn(node, a, book.tolerance.relative, now_ms)
            return walk.found
    rule = node.living(now_ms)
    if rule is not None and rule.action == "ignore":
        return []
    if node.masks:  # text that is no tree may hold whatever a rule hides
        shown = book.redactor.hashed
        return [FieldDifference(path="", flat=shown(a), hierarchical=shown(b), rule="exact")]
    return [FieldDifference(path="", flat=_whole(a), hierarchical=_whole(b), rule="exact")]


def _trees(a: bytes, b: bytes) -> tuple[object, object]:
    """Both as trees of one format: b"1" is a number of JSON or of msgpack, but not one of each."""
    # The first byte of every text is a whole number in msgpack, so of a text only its first byte could be meant.
    text = a[0] < _TEXT_BELOW and b[0] < _TEXT_BELOW
    for read in (_json, _msgpack) if text else (_msgpack, _json):
        left = read(a)
        if left is not _OPAQUE:
            right = read(b)
            if right is not _OPAQUE:
                return left, right
    return _OPAQUE, _OPAQUE


def _msgpack(value: bytes) -> object:
    try:
        return decode(_tree, value)
    except Poison:
        return _OPAQUE


def _json(value: bytes) -> object:
    try:
        return msgspec.json.decode(value)
    except (msgspec.MsgspecError, RecursionError, ValueError):
        return _OPAQUE


def _whole(value: bytes) -> object:
    if not value:
        return repr(MISSING)
    left, _ = _trees(value, value)
    return cut(value if left is _OPAQUE else left)
