"""A process is named by its id and its start: an id alone may be another process by the time it is used."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

_POLL_S = 0.02
_STARTTIME_AFTER_STATE = 19


def _linux_start(pid: int) -> str | None:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text("utf-8", "replace")
        boot = Path("/proc/sys/kernel/random/boot_id").read_text("utf-8").strip()
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = stat.rpartition(")")[2].split()
    if fields[0] in "ZXx":  # ended, and only not yet collected by its parent
        return None
    return f"{boot}/{fields[_STARTTIME_AFTER_STATE]}"


def _portable_start(pid: int) -> str | None:
    listing = subprocess.run(
        ["/bin/ps", "-o", "state=,lstart=", "-p", str(pid)], capture_output=True, text=True, check=False
    )
    state, _, started = listing.stdout.strip().partition(" ")
    return None if not state or state.startswith("Z") else started.strip()


def start_of(pid: int) -> str | None:
    """When this process started, in the system's own words; None when there is no such live process."""
    return _linux_start(pid) if sys.platform == "linux" else _portable_start(pid)


@dataclass(frozen=True)
class ProcessId:
    """One process, and never another one that got its number later."""

    pid: int
    start: str

    @classmethod
    def of(cls, pid: int) -> "ProcessId | None":
        """The process that has this number now, or None."""
        start = start_of(pid)
        return None if start is None else cls(pid, start)

    def is_alive(self) -> bool:
        """Whether it still runs; one that ended and waits to be collected does not."""
        return start_of(self.pid) == self.start

    def signal(self, number: signal.Signals) -> None:
        """Sends a signal; to a process that is gone, nothing."""
        if self.is_alive():
            with contextlib.suppress(ProcessLookupError):  # it ended after the look
                os.kill(self.pid, number)

    def ends_within(self, seconds: float) -> bool:
        """Waits until it has ended, and says whether it did."""
        deadline = time.monotonic() + seconds
        while self.is_alive():
            if time.monotonic() >= deadline:
                return False
            time.sleep(_POLL_S)
        return True

    def stop(self, grace_s: float) -> None:
        """SIGTERM, and SIGKILL for what still runs after the grace; returns when it has ended."""
        self.signal(signal.SIGTERM)
        if not self.ends_within(grace_s):
            self.signal(signal.SIGKILL)
            self.ends_within(grace_s)
