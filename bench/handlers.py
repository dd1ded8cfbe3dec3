"""Handlers that cost nothing, so that the bench measures what lies around them."""

import math

import msgpack

from hal9.backend.handler import State


class Echo:
    """Answers what it was asked; `process` is read-only."""

    read_only = frozenset({"process"})

    def __call__(self, state: State | None, operation: str, value: bytes) -> tuple[State | None, bytes]:  # noqa: ARG002
        """The same value."""
        return state, value


class Fields:
    """Answers a map of 58 floats; `process` is read-only."""

    read_only = frozenset({"process"})
    answer = msgpack.packb({f"field_{i}": math.sqrt(i + 2) for i in range(58)})

    def __call__(self, state: State | None, operation: str, value: bytes) -> tuple[State | None, bytes]:  # noqa: ARG002
        """The same map each time."""
        return state, self.answer


class LastBits(Fields):
    """The same 58 floats, each different in its last bit."""

    answer = msgpack.packb({f"field_{i}": math.nextafter(math.sqrt(i + 2), math.inf) for i in range(58)})
