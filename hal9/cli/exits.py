"""Exit codes: one place says which failure ends a command with which code."""

import asyncio
import sys
from collections.abc import Callable, Coroutine
from typing import Any, NoReturn, TypeVar

from hal9.errors import ConfigError, Hal9Error, Refused, Unreachable

NOT_ACHIEVED, WRONG_USAGE, UNREACHABLE, REFUSED, INTERRUPTED = 1, 2, 3, 4, 130
"""0 is done; a refused command is illegal from the present state, or the epoch moved on."""

T = TypeVar("T")


def code_of(error: Hal9Error) -> int:
    """The exit code of a failure."""
    if isinstance(error, ConfigError):
        return WRONG_USAGE
    if isinstance(error, Unreachable):
        return UNREACHABLE
    return REFUSED if isinstance(error, Refused) else NOT_ACHIEVED


def guarded(command: Callable[[], Any]) -> NoReturn:
    """Run a command line and exit; errors raised on purpose become one line on stderr and a code."""
    try:
        command()
    except Hal9Error as error:
        fail(error)
    except ExceptionGroup as group:
        first = _leaves(group)[0]
        if not isinstance(first, Hal9Error):
            raise
        fail(first)
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    sys.exit(0)


def fail(error: Hal9Error) -> NoReturn:
    """Say what went wrong and exit."""
    sys.stderr.write(f"error: {error}\n")
    sys.exit(code_of(error))


def _leaves(group: ExceptionGroup[Exception]) -> list[Exception]:
    return [leaf for one in group.exceptions for leaf in (_leaves(one) if isinstance(one, ExceptionGroup) else [one])]


def perform(work: Coroutine[Any, Any, T], timeout_s: float | None = None) -> T:
    """Run a verb's work to its end, within its `--timeout`."""

    async def bounded() -> T:
        async with asyncio.timeout(timeout_s):
            return await work

    try:
        return asyncio.run(bounded())
    except TimeoutError as error:
        raise Hal9Error(f"not done within {timeout_s:g} s (--timeout)") from error
