"""A handler whose state shows every effect: the list of the values applied to a key, in order.

A lost, doubled or reordered update cannot hide in it. Both systems of the seeded world run it.

Operations: `mut` applies · `cond` applies when the length is even, else refuses · `err` refuses · `del` deletes ·
`read` answers.
"""

import msgspec

from hal9.backend.handler import Refused
from schemas.base import Tree, encode

MUTATING = ("mut", "mut", "mut", "cond", "err", "del")
"""Mutating operations, in the proportions that a world draws them."""

_texts = msgspec.msgpack.Decoder(list[str])


def applied(state: Tree | None) -> list[str]:
    """The values in a state of this handler."""
    return list(state["applied"]) if state else []


def answered(value: bytes | None) -> list[str]:
    """The values in an answer of this handler."""
    return _texts.decode(value or b"\x90")


class AppliedHandler:
    """Appends each value to the list of its key and answers the list."""

    read_only = frozenset({"read"})

    def __call__(self, state: Tree | None, operation: str, value: bytes) -> tuple[Tree | None, bytes]:
        """Raises `Refused` for `err`, for `cond` at an odd length, and for anything unknown."""
        held = applied(state)
        if operation == "read":
            return state, encode(held)
        if operation == "del":
            return None, encode(held)
        if operation == "mut" or (operation == "cond" and len(held) % 2 == 0):
            longer = [*held, value.decode()]
            return {"applied": longer}, encode(longer)
        raise Refused("refused" if operation in ("cond", "err") else "unknown-operation")
