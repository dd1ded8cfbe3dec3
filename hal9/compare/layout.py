"""The bytes of an answer, told apart once: which say how it is built, and which are floats that may lie apart. Pure.

Answers of one operation are mostly built alike, so two of them can be found to be the same without making trees of
them: as bytes they are equal everywhere but in floats (and in what a rule ignores), and those floats are close. That
suffices, and is not necessary: what is not found to be the same here is compared as trees, which say what differs.
"""

import struct
from collections.abc import Mapping
from math import inf, isclose
from typing import TYPE_CHECKING

from hal9.compare.matcher import MAX_DEPTH, USUAL

if TYPE_CHECKING:
    from hal9.compare.matcher import Node

MAX_BYTES = 16 * 1024
MAX_LAYOUTS = 256
PATIENCE = 8
"""Answers of one length that are compared as trees before their layout is taken; twice as many before the next one."""

_FIXED = {0xCA: 4, 0xCB: 8, **{code: 1 << (code & 3) for code in (0xCC, 0xCD, 0xCE, 0xCF, 0xD0, 0xD1, 0xD2, 0xD3)}}
"""Bytes after the code of a number."""
_COUNTED = {0xC4: 1, 0xC5: 2, 0xC6: 4, 0xD9: 1, 0xDA: 2, 0xDB: 4, 0xDC: 2, 0xDD: 4, 0xDE: 2, 0xDF: 4}
"""Bytes of the length, or count, that follows the code of bytes, text, an array, a map."""
_FLOATS = {0xCA: "f", 0xCB: "d"}
_BYTES, _TEXTS, _ARRAYS = range(0xC4, 0xC7), range(0xD9, 0xDC), range(0xDC, 0xDE)
_SINGLE = {0xC0: 0xFF, 0xC2: 0xFE, 0xC3: 0xFE}
"""nil, false, true, and which of their bits say what they are."""
_TOP = {"f": 1 << 30, "d": 1 << 62}
"""The highest bit of the exponent: where the next one is another, the float is normal, no zero, infinity or NaN."""
_NEAR = {"f": 0xFFFF_FFFF, "d": 0xFFFF_FFFF_FFC0_0000}
"""The bits whose equality says that two normal floats are close: of a double all but the last 22 of 52, so that they
differ by less than 2**-30, which is below `USUAL`."""
_ASCII = 0x80


class Unlaid(Exception):
    """A value whose bytes say too little, or a rule that trees must judge."""


class Layout:
    """Of all values of msgpack that are built like `value`, under the rules from `node` down. Raises Unlaid.

    `relative`: how far floats may lie apart where no rule says it.

    Attributes:
        until_ms: when the first of the rules ends that hold now.
    """

    __slots__ = ("_built", "_equal", "_like", "_loose", "_strict", "_tops", "_unpack", "until_ms")

    def __init__(self, value: bytes, node: "Node", relative: float, now_ms: float) -> None:
        reading = _Reading(value, relative, now_ms)
        end = reading.value(0, node, 0, ignored=False)
        if end != len(value):
            raise Unlaid
        self._built = _number(reading.built)
        self._like = _number(value) & self._built
        self._equal = _number(reading.equal)
        self._loose = self._built & ~self._equal
        """Of what is ignored: the bits by which the second one must be built like this, too."""
        self._strict = self._built | self._equal | reading.floats(_NEAR)
        """The bits whose equality suffices."""
        self._tops = reading.floats(_TOP)
        self._unpack = struct.Struct(reading.format()).unpack
        self.until_ms = reading.until_ms

    def same(self, a: bytes, b: bytes) -> bool:
        """Whether both are built like this and say the same; as long as the value it was made of, both of them."""
        left, right = _number(a), _number(b)
        if left & self._built != self._like:
            return False
        apart = left ^ right
        if not apart & self._strict and (left ^ left << 1) & self._tops == self._tops:
            return True
        if apart & self._equal or (self._loose and right & self._built != self._like):
            return False
        return all(map(isclose, self._unpack(a), self._unpack(b)))


def _number(value: bytes | bytearray) -> int:
    return int.from_bytes(value, "big")


class Layouts:
    """The layouts met lately, by place in the rules and length."""

    def __init__(self) -> None:
        self._held: dict[tuple[Node, int], Layout] = {}
        self._missed: dict[tuple[Node, int], int] = {}

    def same(self, node: "Node", a: bytes, b: bytes, now_ms: float) -> bool:
        """Whether two values are found to say the same."""
        layout = self._held.get((node, len(a))) if len(a) == len(b) else None
        return layout is not None and now_ms < layout.until_ms and layout.same(a, b)

    def learn(self, node: "Node", value: bytes, relative: float, now_ms: float) -> None:
        """A value was compared as a tree with one that says the same, and is as long."""
        if len(value) > MAX_BYTES:
            return
        at = node, len(value)
        missed = self._missed[at] = self._missed.get(at, 0) + 1
        if missed < PATIENCE or missed & (missed - 1):
            return
        if len(self._missed) > MAX_LAYOUTS:
            self._held.clear()
            self._missed.clear()
        try:
            self._held[at] = Layout(value, node, relative, now_ms)
        except (Unlaid, IndexError):
            self._held.pop(at, None)


class _Reading:
    """Walks a value once. `built`: the bits that say how it is built; `equal`: those that must not differ."""

    def __init__(self, data: bytes, relative: float, now_ms: float) -> None:
        self.built, self.equal = bytearray(b"\xff" * len(data)), bytearray(b"\xff" * len(data))
        self._data, self._relative, self._now_ms = data, relative, now_ms
        self.until_ms = inf
        self._close: list[tuple[int, str]] = []

    def format(self) -> str:
        """Of `struct`, for the floats that are to be close."""
        text, at = [">"], 0
        for start, code in self._close:
            text.append(f"{start - at}x{code}")
            at = start + struct.calcsize(code)
        return "".join([*text, f"{len(self._data) - at}x"])

    def floats(self, mask: Mapping[str, int]) -> int:
        """The bits that `mask` has for each of these floats, where they stand in the value as one number."""
        size = len(self._data)
        return sum(mask[code] << 8 * (size - start - struct.calcsize(code)) for start, code in self._close)

    def value(self, at: int, node: "Node", depth: int, *, ignored: bool) -> int:
        """Read the value at `at`; where the next one is."""
        close, ignored = self._judged(node, ignored=ignored)
        code = self._data[at]
        if code <= 0x7F or code >= 0xE0:  # noqa: PLR2004  whole numbers of one byte
            self._free(at, at + 1, 0x80 if code <= 0x7F else 0xE0, ignored=ignored)  # noqa: PLR2004
            return at + 1
        if code in _SINGLE:
            self._free(at, at + 1, _SINGLE[code], ignored=ignored)
            return at + 1
        if code in _FIXED:
            end = at + 1 + _FIXED[code]
            if close and not ignored and code in _FLOATS:
                self._close.append((at + 1, _FLOATS[code]))
            self._free(at + 1, end, 0, ignored=ignored or (close and code in _FLOATS))
            return end
        return self._long(at, code, node, depth, ignored=ignored)

    def _long(self, at: int, code: int, node: "Node", depth: int, *, ignored: bool) -> int:
        count, at = self._count(at, code)
        if 0xA0 <= code <= 0xBF or code in _TEXTS:  # noqa: PLR2004
            # Any other text of the length, as long as it is sure to be UTF-8.
            if not self._data[at : at + count].isascii():
                raise Unlaid
            self._free(at, at + count, _ASCII, ignored=ignored)
            return at + count
        if code in _BYTES:
            self._free(at, at + count, 0, ignored=ignored)
            return at + count
        if depth == MAX_DEPTH:
            raise Unlaid
        for i in range(count):
            if 0x90 <= code <= 0x9F or code in _ARRAYS:  # noqa: PLR2004
                below = node.item or node.step(str(i))
            else:
                key, at = self._key(at)
                below = node.step(key)
            at = self.value(at, below, depth + 1, ignored=ignored)
        return at

    def _count(self, at: int, code: int) -> tuple[int, int]:
        """Length or count, and where what it counts begins."""
        if code <= 0x9F:  # noqa: PLR2004
            return code & 0x0F, at + 1
        if code <= 0xBF:  # noqa: PLR2004
            return code & 0x1F, at + 1
        if code not in _COUNTED:
            raise Unlaid
        end = at + 1 + _COUNTED[code]
        return int.from_bytes(self._data[at + 1 : end], "big"), end

    def _key(self, at: int) -> tuple[str, int]:
        code = self._data[at]
        if not (0xA0 <= code <= 0xBF or code in _TEXTS):  # noqa: PLR2004
            raise Unlaid
        count, start = self._count(at, code)
        return self._data[start : start + count].decode(), start + count

    def _judged(self, node: "Node", *, ignored: bool) -> tuple[bool, bool]:
        """Whether floats here are close if `isclose` finds them so, and whether what is here is ignored."""
        rule = node.living(self._now_ms)
        if rule is None:
            return self._relative >= USUAL, ignored
        if rule.action == "multiset":
            raise Unlaid
        if rule.until_ms is not None:
            self.until_ms = min(self.until_ms, rule.until_ms)
        relative = rule.tolerance.relative if rule.action == "tolerance" else self._relative
        return relative >= USUAL, ignored or rule.action == "ignore"

    def _free(self, start: int, end: int, built: int, *, ignored: bool) -> None:
        """What is said here may be something else; `built` are the bits that may not."""
        if end > len(self._data):
            raise Unlaid
        for at in range(start, end):
            self.built[at] = built
            if ignored:
                self.equal[at] = 0
