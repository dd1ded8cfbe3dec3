"""What a holding needs of whoever holds it."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from hal9.log.effects import Call

if TYPE_CHECKING:
    from hal9.log.holding import Holding


class Keeper(Protocol):
    """Whoever holds partitions: told what a holding needs that it cannot do itself."""

    def ready(self, holding: "Holding") -> None:
        """It may have records to take, or want others than before."""
        ...

    def ask_end(self, holding: "Holding", log: str, then: Callable[[int], None]) -> None:
        """Find the end of a log."""
        ...

    def call(self, holding: "Holding", call: Call) -> None:
        """Carry out a call of its core; `Holding.called` takes the answer."""
        ...

    def restart(self, holding: "Holding", reason: str) -> None:
        """Drop it and take the partition over again."""
        ...
