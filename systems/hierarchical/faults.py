"""A fault to demonstrate with: a handler that refuses everything while it is told to."""

from collections.abc import Callable, Sequence

from hal9.backend.execution import run
from hal9.backend.handler import BatchHandler, Item, Refused, Result
from schemas.state import ArchitectureLayer


class FailingHandler:
    """Answers `Refused('injected-fault')` to every request while `should_fail()`, else what `inner` answers."""

    def __init__(self, inner: BatchHandler, should_fail: Callable[[], bool]) -> None:
        self._inner, self._should_fail = inner, should_fail
        self.read_only = inner.read_only

    def batch(self, items: Sequence[Item]) -> list[Result]:
        """Asks `should_fail` once per batch."""
        return self.batch_without(items, frozenset())

    def batch_without(self, items: Sequence[Item], off: frozenset[ArchitectureLayer]) -> list[Result]:
        """The same with architecture layers switched off."""
        if self._should_fail():
            return [Refused("injected-fault", "on purpose") for _ in items]
        return run(self._inner, list(items), off)
