"""Processes of this machine take turns at a directory."""

import fcntl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from hal9.errors import ConfigError


@contextmanager
def turn(directory: Path, waiting: Callable[[str], None]) -> Iterator[None]:
    """Holds the directory, which is made; waits, and says so, while another process or thread holds it.

    The kernel ends a turn with its process, so a crash leaves nothing locked. Raises ConfigError if it cannot be made.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"the directory {directory} cannot be made: {error.strerror}") from error
    with (directory / ".lock").open("w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            waiting(f"waiting for another process that is busy in {directory}")
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
