"""A handler whose state shows every effect: the list of the values applied to a key, in order.

A lost, doubled or reordered update cannot hide in it. Both systems of the seeded world run it.

Operations: `mut` applies · `cond` applies when the length is even, else refuses · `err` refuses · `del` deletes ·
`odd` applies, to a state that cannot be mapped · `read` answers.
"""

from zlib import crc32

import msgspec

from hal9.backend.handler import Refused
from hal9.errors import Poison
from schemas.base import Tree, encode

MUTATING = ("mut", "mut", "mut", "cond", "err", "del")
"""Mutating operations, in the proportions that a world draws them."""

ODD = "odd"
LAYERS = ("reflexive", "tactical")

_texts = msgspec.msgpack.Decoder(list[str])


def applied(state: Tree | None) -> list[str]:
    """The values in a state of this handler."""
    return list(state["applied"]) if state else []


def is_odd(state: Tree | None) -> bool:
    """Whether a state is one that cannot be mapped to the other system's."""
    return bool(state and state.get(ODD))


def mapped(state: Tree) -> Tree:
    """A state in the other system's shape, which is the same; Poison for an odd one."""
    if is_odd(state):
        raise Poison("odd", "cannot be mapped")
    return state


def after(state: Tree | None, operation: str, label: str, *, layers: bool) -> Tree | None:
    """The state that an operation which was answered `ok` made of `state`.

    With layers it names one: with its first value, or, as labels have it, with the second.
    """
    if operation == "del":
        return None
    longer: Tree = {"applied": [*applied(state), label]}
    layer = (state or {}).get("layer")
    if layers and layer is None:
        drawn = crc32(label.encode())
        layer = LAYERS[drawn % 2] if drawn % 5 or len(longer["applied"]) > 1 else None
    if layer is not None:
        longer["layer"] = layer
    return {**longer, ODD: True} if operation == ODD else longer


def answered(value: bytes | None) -> list[str]:
    """The values in an answer of this handler."""
    return _texts.decode(value or b"\x90")


class AppliedHandler:
    """Appends each value to the list of its key and answers the list."""

    read_only = frozenset({"read"})

    def __init__(self, *, layers: bool = False) -> None:
        self._layers = layers

    def __call__(self, state: Tree | None, operation: str, value: bytes) -> tuple[Tree | None, bytes]:
        """Raises `Refused` for `err`, for `cond` at an odd length, and for anything unknown."""
        held = applied(state)
        if operation == "read":
            return state, encode(held)
        if operation == "del":
            return None, encode(held)
        if operation in ("mut", ODD) or (operation == "cond" and len(held) % 2 == 0):
            made = after(state, operation, value.decode(), layers=self._layers)
            return made, encode(applied(made))
        raise Refused("refused" if operation in ("cond", "err") else "unknown-operation")
