"""SIGTERM as Ctrl-C: whoever is told to end cleans up the same way."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def terminated() -> Iterator[None]:
    """While entered, SIGTERM raises what SIGINT raises; for the main thread."""

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        signal.raise_signal(signal.SIGINT)

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
