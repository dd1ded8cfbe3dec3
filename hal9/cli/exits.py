"""Exit codes: one place says which failure ends a command with which code."""

import asyncio
import contextlib
import errno
import os
import sys
from collections.abc import Callable, Coroutine
from typing import Any, NoReturn, TypeVar

from hal9.errors import ConfigError, Hal9Error, Refused, Unreachable

NOT_ACHIEVED, WRONG_USAGE, UNREACHABLE, REFUSED, INTERRUPTED = 1, 2, 3, 4, 130
"""0 is done; a refused command is illegal from the present state, or the epoch moved on."""

T = TypeVar("T")


_OUTPUT = (errno.EPIPE, errno.ENOSPC, errno.EIO)
"""Why output cannot be written: nobody reads it any more, the disk is full, the terminal is gone."""


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
        try:
            command()
        finally:
            sys.stdout.flush()
    except Hal9Error as error:
        fail(error)
    except ExceptionGroup as group:
        first = _leaves(group)[0]
        if not isinstance(first, Hal9Error):
            raise
        fail(first)
    except OSError as error:
        if error.filename is None and error.errno not in _OUTPUT:
            raise  # of a connection, or a bug: where it comes from matters
        _fail_file(error)
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    sys.exit(0)


def fail(error: Hal9Error) -> NoReturn:
    """Say what went wrong and exit."""
    sys.stderr.write(f"error: {error}\n")
    sys.exit(code_of(error))


def _fail_file(error: OSError) -> NoReturn:
    """A file, a directory or the output that cannot be used: the user's matter, not a traceback's."""
    if error.filename is None:
        # What could not be printed must not be tried once more when the interpreter ends.
        with contextlib.suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    if error.errno != errno.EPIPE:
        what = f"{error.filename}: " if error.filename is not None else ""
        sys.stderr.write(f"error: {what}{error.strerror}\n")
    sys.exit(NOT_ACHIEVED)


def _leaves(group: ExceptionGroup[Exception]) -> list[Exception]:
    return [leaf for one in group.exceptions for leaf in (_leaves(one) if isinstance(one, ExceptionGroup) else [one])]


def perform(work: Coroutine[Any, Any, T], timeout_s: float | None = None, wait_s: float = 0.0) -> T:
    """Run a verb's work to its end, within its `--timeout`; `wait_s` more are for servers to be reached at all."""

    async def bounded() -> T:
        async with asyncio.timeout(None if timeout_s is None else timeout_s + wait_s):
            return await work

    try:
        return asyncio.run(bounded())
    except TimeoutError as error:
        raise Hal9Error(f"not done within {timeout_s:g} s (--timeout)") from error
