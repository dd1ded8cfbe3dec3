"""The one clock of a process: wall time at the start, advanced by the monotonic clock, so that it never jumps."""

import time


class Clock:
    """Milliseconds since the epoch that only ever grow."""

    __slots__ = ("_offset_ns",)

    def __init__(self) -> None:
        self._offset_ns = time.time_ns() - time.monotonic_ns()

    def now_ms(self) -> int:
        """Milliseconds since the epoch."""
        return (self._offset_ns + time.monotonic_ns()) // 1_000_000

    def precise_ms(self) -> float:
        """The same with its fraction, for latencies."""
        return (self._offset_ns + time.monotonic_ns()) / 1_000_000
