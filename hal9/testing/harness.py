"""A harness for a user's handler: requests in, answers out, and the promises of a handler checked on every one.

A handler must not change the state it is given, must give the same result for the same input, must leave the state
alone in operations it declares read-only, and must return a msgpack map (or None) and bytes, within the size limits.
The system that hosts it can check little of this at run time; here each request is checked. No log, no network.

    harness = HandlerHarness(CounterHandler())
    assert harness.request("n1", "add", b"2") == ("ok", b"2")
"""

from copy import deepcopy

from hal9.backend.execution import Limits, mutating, read_only, run, well_formed
from hal9.backend.handler import BatchHandler, Handler, Item, Refused, Result, as_batch
from hal9.keys import key_error
from schemas.base import Tree, encode


class BrokenPromise(AssertionError):
    """The handler did what a handler must not do; the message says what, with the request."""


class HandlerHarness:
    """Holds the state per key, as a system does, and answers as a system does.

    Raises `BrokenPromise` for what a handler must not do. Anything it raises other than `Refused` counts as that too: a
    running system answers `handler-failed`, a test should say why.
    """

    def __init__(self, handler: Handler | BatchHandler, *, limits: Limits | None = None) -> None:
        self._handler = as_batch(handler)
        self._limits = limits or Limits()
        self._states: dict[str, Tree] = {}

    def state(self, key: str) -> Tree | None:
        """A copy of the present state of a key; None if it has none."""
        return deepcopy(self._states.get(key))

    def request(self, key: str, operation: str, value: bytes = b"") -> tuple[str, bytes]:
        """(`ok`, answer) or (`error`, code). Raises `ValueError` for a key that no request could have."""
        wrong = key_error(key.encode())
        if wrong is not None:
            raise ValueError(wrong)
        before = self._states.get(key)
        result = self._twice((before, operation, value))
        if operation in self._handler.read_only:
            executed = read_only(result, self._limits)
            if executed.status == "ok" and encode(executed.state) != encode(before):
                raise BrokenPromise(f"{operation} is read-only and returned another state for {key!r}")
        else:
            executed = mutating(result, before, self._limits)
            if executed.error == "bad-state":
                raise BrokenPromise(f"{operation} returned a state for {key!r} that is no msgpack map: {result!r}")
            if executed.state is None:
                self._states.pop(key, None)
            else:
                self._states[key] = executed.state
        if executed.status == "ok":
            return "ok", executed.answer or b""
        return "error", (executed.error or "").encode()

    def _twice(self, item: Item) -> Result:
        """Run it on the state and on a copy: both must give the same, and leave the state as it was."""
        state, operation, value = item
        shown = encode(state)
        first, second = (self._once((given, operation, value)) for given in (state, deepcopy(state)))
        if encode(state) != shown:
            raise BrokenPromise(f"{operation} changed the state that it was given")
        if _shown(first) != _shown(second):
            raise BrokenPromise(f"{operation} is not deterministic: {_shown(first)!r} and {_shown(second)!r}")
        return first

    def _once(self, item: Item) -> Result:
        result = run(self._handler, [item])[0]
        if isinstance(result, Refused):
            if result.code == "handler-failed":
                raise BrokenPromise(f"{item[1]} failed: {result.detail}")
            return result
        if not well_formed(result):
            raise BrokenPromise(f"{item[1]} must return (state, bytes), not {result!r}")
        return result


def _shown(result: Result) -> object:
    if isinstance(result, Refused):
        return result.code
    try:
        return encode(result[0]), result[1]
    except (TypeError, OverflowError, ValueError):
        return repr(result)  # no msgpack tree: `request` says so
