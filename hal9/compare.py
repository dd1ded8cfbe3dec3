"""Do two answers say the same? Values as msgpack or JSON trees, else bytes; floats within a tolerance. Pure."""

import math
from dataclasses import dataclass

import msgspec

from hal9.errors import Poison
from schemas.base import decode
from schemas.reports import FieldDifference

MAX_FIELDS = 16
MAX_DEPTH = 64
MAX_VALUE_CHARS = 256
MISSING = "(missing)"

_tree = msgspec.msgpack.Decoder()


@dataclass(frozen=True, slots=True)
class Tolerance:
    """How far two floats may lie apart: a matrix product differs from a dot in the last bits."""

    relative: float = 1e-9
    absolute: float = 1e-12


def differences(flat: bytes | None, hierarchical: bytes | None, tolerance: Tolerance) -> list[FieldDifference]:
    """The fields in which two values differ, at most `MAX_FIELDS`; empty if they say the same."""
    if flat == hierarchical:
        return []
    return tree_differences(_parsed(flat), _parsed(hierarchical), tolerance)


def tree_differences(flat: object, hierarchical: object, tolerance: Tolerance) -> list[FieldDifference]:
    """The same for trees that are decoded already."""
    found: list[FieldDifference] = []
    _walk("", flat, hierarchical, tolerance, found, 0)
    return found


def _parsed(value: bytes | None) -> object:
    if not value:
        return None
    try:
        return decode(_tree, value)
    except Poison:
        pass  # not msgpack: try JSON, and else compare the bytes themselves
    try:
        return msgspec.json.decode(value)
    except (msgspec.MsgspecError, RecursionError, ValueError):
        return value


def _walk(path: str, a: object, b: object, tolerance: Tolerance, found: list[FieldDifference], depth: int) -> None:
    if len(found) >= MAX_FIELDS:
        return
    if isinstance(a, dict) and isinstance(b, dict) and depth < MAX_DEPTH:
        for key in sorted({*a, *b}, key=repr):
            _walk(
                f"{path}.{key}" if path else str(key),
                a.get(key, MISSING),
                b.get(key, MISSING),
                tolerance,
                found,
                depth + 1,
            )
        return
    if isinstance(a, list) and isinstance(b, list) and len(a) == len(b) and depth < MAX_DEPTH:
        for i, (left, right) in enumerate(zip(a, b, strict=True)):
            if left is not right and left != right:
                _walk(f"{path}.{i}" if path else str(i), left, right, tolerance, found, depth + 1)
        return
    rule = _rule(a, b, tolerance)
    if rule is not None:
        found.append(FieldDifference(path=path, flat=cut(a), hierarchical=cut(b), rule=rule))


def _rule(a: object, b: object, tolerance: Tolerance) -> str | None:
    """The rule that a pair of leaves breaks, or None if they say the same."""
    if _is_number(a) and _is_number(b) and (isinstance(a, float) or isinstance(b, float)):
        if a == b or (a != a and b != b):  # noqa: PLR0124  NaN is the one value that differs from itself
            return None
        if isinstance(a, float) and isinstance(b, float):
            if math.isclose(a, b, rel_tol=tolerance.relative, abs_tol=tolerance.absolute):
                return None
            return f"rel {tolerance.relative:g} abs {tolerance.absolute:g}"
        return "exact"
    return None if type(a) is type(b) and a == b else "exact"


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def cut(value: object) -> object:
    """A value fit for a report: scalars as they are, anything else as text of bounded length."""
    if value is None or isinstance(value, bool | float):
        return value
    if isinstance(value, int):
        return value if -(2**63) <= value < 2**64 else str(value)
    shown = value if isinstance(value, str) else repr(value)
    return shown if len(shown) <= MAX_VALUE_CHARS else shown[:MAX_VALUE_CHARS] + "..."
