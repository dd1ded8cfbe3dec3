"""Two systems that draw lots in one field; one of them is wrong in another, now and then."""

from random import random

import msgspec

from hal9.backend.handler import State

OFTEN = 3
"""Every so many numbers a lot is drawn."""


class Flat:
    """Answers the number it was asked with, and a lot."""

    read_only = frozenset({"score"})
    wrong_at = -1

    def __call__(self, state: State | None, operation: str, value: bytes) -> tuple[State | None, bytes]:  # noqa: ARG002
        asked = int(value)
        answer = {"drawn": random() if asked % OFTEN == 0 else 0.0, "sum": asked + (asked % 10 == self.wrong_at)}
        return state, msgspec.msgpack.encode(answer)


class Hierarchical(Flat):
    """Wrong in one of ten."""

    wrong_at = 3
