"""Handlers that cost nothing, so that the bench measures what lies around them."""

from hal9.backend.handler import State


class Echo:
    """Answers what it was asked; `process` is read-only."""

    read_only = frozenset({"process"})

    def __call__(self, state: State | None, operation: str, value: bytes) -> tuple[State | None, bytes]:  # noqa: ARG002
        """The same value."""
        return state, value
