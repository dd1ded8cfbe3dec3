"""What a user writes: `(state, operation, value) -> (state, answer)`, pure and deterministic."""

from collections.abc import Callable, Collection, Sequence
from enum import Enum
from typing import Any, Protocol, cast, runtime_checkable

from schemas.state import ArchitectureLayer

State = dict[str, Any]
Item = tuple[State | None, str, bytes]


class Refused(Exception):
    """The operation is refused: the request is answered `error` with `code`, nothing changes."""

    def __init__(self, code: str, detail: str = "") -> None:
        super().__init__(f"{code}: {detail}" if detail else code)
        self.code = code
        self.detail = detail


Result = tuple[State | None, bytes] | Refused


class Missing(Enum):
    """Why there is no result of a handler that is somewhere else. Nothing was applied: a handler has no effects."""

    UNREACHED = "unreached"
    """It could not be asked."""
    SLOW = "slow"
    """It did not answer in time."""


Outcome = Result | Missing


class Handler(Protocol):
    """One request at a time. Must not change the state that it is given."""

    read_only: frozenset[str]

    def __call__(self, state: State | None, operation: str, value: bytes) -> tuple[State | None, bytes]:
        """The new state (None deletes) and the answer; raises `Refused`."""
        ...


Function = Callable[[State | None, str, bytes], tuple[State | None, bytes]]
"""A handler that says nothing of itself: no operation of it is read-only unless named beside it."""


class BatchHandler(Protocol):
    """Many requests of different keys at once; one result each, `Refused` returned instead of raised."""

    read_only: frozenset[str]

    def batch(self, items: Sequence[Item]) -> list[Result]:
        """Results in the order of the items."""
        ...


@runtime_checkable
class LayeredHandler(Protocol):
    """A `BatchHandler` of an architecture in layers: told which are off. They change how it works, never what of."""

    read_only: frozenset[str]

    def batch_without(self, items: Sequence[Item], off: frozenset[ArchitectureLayer]) -> list[Result]:
        """As `batch`."""
        ...


class OneByOne:
    """A `Handler` as a `BatchHandler`; what else it raises becomes `Refused('handler-failed')`."""

    def __init__(self, handler: "Handler | Function", read_only: frozenset[str]) -> None:
        self._handler = handler
        self.read_only = read_only

    def batch(self, items: Sequence[Item]) -> list[Result]:
        """Each item by itself."""
        return [self._one(item) for item in items]

    def _one(self, item: Item) -> Result:
        try:
            return self._handler(*item)
        except Refused as refused:
            return refused
        except Exception as error:  # noqa: BLE001  user code: whatever it raises is its answer, not our crash
            return Refused("handler-failed", repr(error))


def as_batch(handler: Handler | BatchHandler | Function, read_only: Collection[str] | None = None) -> BatchHandler:
    """The handler in batch form; `read_only` names its read-only operations if it does not say so itself."""
    if hasattr(handler, "batch"):
        return cast("BatchHandler", handler)
    named = getattr(handler, "read_only", ()) if read_only is None else read_only
    return OneByOne(handler, frozenset(named))


class Declared:
    """What a core knows of a handler that is somewhere else: its read-only operations. It is asked by calls."""

    def __init__(self, read_only: Collection[str]) -> None:
        self.read_only = frozenset(read_only)

    def batch(self, items: Sequence[Item]) -> list[Result]:
        """Never called: a core asks by calls when its configuration says `remote`."""
        raise NotImplementedError(f"{len(items)} items for a handler that is somewhere else")
