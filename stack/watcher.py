"""Ends the processes that its parent named as soon as the parent is gone, however it went.

Run as `python -P -m stack.watcher` with a pipe as standard input. Lines: `watch PID START` and `forget PID`.
The end of the input is the end of the parent: the kernel closes the pipe even after kill -9, for whatever
thread started this. (PR_SET_PDEATHSIG would fire when a mere thread of the parent ends, and is Linux only.)
"""

import signal
import sys
import time
from collections.abc import Iterable

from stack.identity import ProcessId

GRACE_S = 3.0


def read(lines: Iterable[str]) -> list[ProcessId]:
    """What is still watched at the end of the input."""
    watched: dict[int, ProcessId] = {}
    for line in lines:
        verb, pid, *start = line.rstrip("\n").split(" ", 2)
        if verb == "watch":
            watched[int(pid)] = ProcessId(int(pid), start[0])
        else:
            watched.pop(int(pid), None)
    return list(watched.values())


def end(orphans: list[ProcessId]) -> None:
    """SIGTERM to all, then SIGKILL to those that are left after one grace for all."""
    for orphan in orphans:
        orphan.signal(signal.SIGTERM)
    deadline = time.monotonic() + GRACE_S
    for orphan in orphans:
        if not orphan.ends_within(deadline - time.monotonic()):
            orphan.signal(signal.SIGKILL)


def main() -> None:
    """Outlives the signals that end its parent: only the end of the input counts."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    end(read(sys.stdin))


if __name__ == "__main__":
    main()
