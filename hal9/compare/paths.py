r"""Paths into trees, and patterns of paths. Pure.

A path is its segments joined by dots (map keys as text, list indexes as numbers); a dot, star or backslash within a key
is written with a backslash before it. In a pattern `*` stands for any one segment, `**` for any number, none included.
"""

from collections.abc import Iterable
from enum import Enum

MAX_PATH_CHARS = 1024
"""Of a path as shown; longer ones are cut in the middle of nothing: their head says where to look."""


class Wild(Enum):
    """What is no literal in a pattern."""

    ONE = "*"
    ANY = "**"


Pattern = tuple[str | Wild, ...]


def parse(pattern: str) -> Pattern:
    """The segments of a pattern. Raises ValueError with what is wrong; the empty pattern is the root."""
    return tuple(_segment(raw, pattern) for raw in _split(pattern))


def written(segments: Iterable[str | Wild]) -> str:
    """Inverse of `parse`; a path is a pattern without wild segments."""
    return ".".join(s.value if isinstance(s, Wild) else escaped(s) for s in segments)


def escaped(name: str) -> str:
    """A map's key as a segment of a path."""
    if "." in name or "*" in name or "\\" in name:
        for special in ("\\", ".", "*"):
            name = name.replace(special, "\\" + special)
    return name


def matches(pattern: Pattern, path: Pattern) -> bool:
    """Whether a pattern covers a path; a wild segment of `path` (a class of fields) is covered by a wild one alone."""
    at = _closed({0}, pattern)
    for segment in path:
        at = _closed({n for i in at for n in _next(pattern, i, segment)}, pattern)
    return len(pattern) in at


def field_class(path: str) -> str:
    """The class of a field: list indexes (segments of digits alone) do not tell fields apart."""
    return ".".join("*" if raw.isascii() and raw.isdigit() else raw for raw in _split(path))


def _next(pattern: Pattern, at: int, segment: str | Wild) -> list[int]:
    if at == len(pattern):
        return []
    wanted = pattern[at]
    if wanted is Wild.ANY:
        return [at]
    return [at + 1] if segment == wanted or (wanted is Wild.ONE and segment is not Wild.ANY) else []


def _closed(at: set[int], pattern: Pattern) -> set[int]:
    for i in sorted(at):
        n = i
        while n < len(pattern) and pattern[n] is Wild.ANY:
            n += 1
            at.add(n)
    return at


def _split(text: str) -> list[str]:
    """Segments, still escaped."""
    if not text:
        return []
    parts, start, i = [], 0, 0
    while i < len(text):
        if text[i] == "\\":
            i += 2
            continue
        if text[i] == ".":
            parts.append(text[start:i])
            start = i + 1
        i += 1
    return [*parts, text[start:]]


def _segment(raw: str, pattern: str) -> str | Wild:
    if raw in ("*", "**"):
        return Wild(raw)
    if not raw:
        raise ValueError(f"{pattern!r} has an empty segment")
    name, i = "", 0
    while i < len(raw):
        if raw[i] == "*":
            raise ValueError(f"{raw!r}: a star stands for a whole segment; a literal one is written \\*")
        if raw[i] == "\\":
            i += 1
            if i == len(raw) or raw[i] not in "\\.*":
                raise ValueError(f"{raw!r}: a backslash stands before a dot, a star or a backslash")
        name += raw[i]
        i += 1
    return name
