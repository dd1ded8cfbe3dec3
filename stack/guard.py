"""The one watcher of this process: whatever is named to it ends with this process."""

import atexit
import subprocess
import sys
import threading

from stack.identity import ProcessId


class Guard:
    """Starts the watcher on first use, and anew should it be gone; safe to use from several threads.

    Not for use in a forked child, where the watcher is still the parent's.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._watched: set[ProcessId] = set()
        self._watcher: subprocess.Popen[str] | None = None

    def watch(self, process: ProcessId) -> None:
        """From now on the process ends when this one does."""
        with self._lock:
            self._watched.add(process)
            self._tell(f"watch {process.pid} {process.start}\n")

    def forget(self, process: ProcessId) -> None:
        """The process has ended; its number may be given to another one. Repeats are harmless."""
        with self._lock:
            if process in self._watched:
                self._watched.discard(process)
                self._tell(f"forget {process.pid}\n")

    def close(self) -> None:
        """Ends what is still watched, and returns when it has ended; as the end of this process would."""
        with self._lock:
            watcher, self._watcher = self._watcher, None
            self._watched.clear()
        if watcher is not None:
            assert watcher.stdin is not None
            watcher.stdin.close()
            watcher.wait()

    def _tell(self, line: str) -> None:
        if self._watcher is not None and self._watcher.poll() is None:
            _write(self._watcher, line)
            return
        self._watcher = _start()
        _write(self._watcher, "".join(f"watch {process.pid} {process.start}\n" for process in self._watched))


def _write(watcher: subprocess.Popen[str], lines: str) -> None:
    assert watcher.stdin is not None
    watcher.stdin.write(lines)
    watcher.stdin.flush()


def _start() -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-P", "-m", "stack.watcher"],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
        start_new_session=True,  # Ctrl-C in a terminal must not end the watcher before its parent
    )


GUARD = Guard()
atexit.register(GUARD.close)
