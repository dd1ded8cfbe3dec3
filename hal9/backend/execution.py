"""Running a user's handler, and holding what it returns to the limits. Pure as long as the handler is."""

from dataclasses import dataclass

from msgspec import Struct

from hal9.backend.handler import BatchHandler, Item, LayeredHandler, Refused, Result
from hal9.backend.store import EncodeError, State, envelope, too_large
from schemas.state import ArchitectureLayer


@dataclass(frozen=True, slots=True)
class Limits:
    """Greatest sizes, in bytes of msgpack."""

    value_bytes: int = 256 * 1024
    state_bytes: int = 384 * 1024


class Executed(Struct, gc=False):
    """What came of one request. `change` is the value of the change record (b"" for a read-only operation)."""

    status: str
    error: str | None
    answer: bytes | None
    state: State | None
    change: bytes = b""


def run(handler: BatchHandler, items: list[Item], off: frozenset[ArchitectureLayer] = frozenset()) -> list[Result]:
    """Run a batch; a handler that fails as a whole is asked item by item, so that one cannot fail the others."""
    if not items:
        return []
    try:
        results = (
            handler.batch_without(items, off) if off and isinstance(handler, LayeredHandler) else handler.batch(items)
        )
    except Exception as error:  # noqa: BLE001  user code: whatever it raises is an answer, not our crash
        if len(items) == 1:
            return [Refused("handler-failed", repr(error))]
    else:
        if len(results) == len(items):
            return results
        if len(items) == 1:
            return [Refused("handler-failed", "not one result per item")]
    return [result for item in items for result in run(handler, [item], off)]


def well_formed(result: object) -> bool:
    """Whether a handler returned what its type says: (state, bytes)."""
    return isinstance(result, tuple) and len(result) == len(("state", "answer")) and isinstance(result[1], bytes)


def read_only(result: Result, limits: Limits) -> Executed:
    """What came of an operation that leaves the state as it is."""
    if isinstance(result, Refused):
        return Executed("error", result.code, None, None)
    if not well_formed(result):
        return Executed("error", "handler-failed", None, None)  # user code: whatever it returns, the partition goes on
    state, answer = result
    if len(answer) > limits.value_bytes:
        return Executed("error", "answer-too-large", None, None)
    return Executed("ok", None, answer, state)


def mutating(result: Result, before: State | None, limits: Limits) -> Executed:
    """What came of an operation that may change the state; on error it is `before`, and still a change record."""
    executed = read_only(result, limits)
    if executed.status == "ok":
        error, change = _encoded(executed.state, executed.answer, limits)
        if error is None:
            executed.change = change
            return executed
        executed = Executed("error", error, None, None)
    executed.state, executed.change = before, envelope(before, None)
    return executed


def _encoded(state: object, answer: bytes | None, limits: Limits) -> tuple[str | None, bytes]:
    if state is not None and not isinstance(state, dict):
        return "bad-state", b""
    try:
        value = envelope(state, answer)
    except EncodeError:
        return "bad-state", b""
    return ("state-too-large", b"") if too_large(value, answer, limits.state_bytes) else (None, value)
