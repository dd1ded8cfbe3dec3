"""What every peer measures of itself: from its assignment to the last acknowledgement.

Not from its first message: by then librdkafka has fetched most of the topic ahead, which is half of the work.
"""

import json
import resource
import sys
import time
from dataclasses import dataclass
from typing import Self


@dataclass(frozen=True)
class Task:
    """What a peer is asked to do: `python -m bench.peers.NAME BOOTSTRAP SOURCE TARGET COUNT SCRATCH`."""

    bootstrap: str
    source: str
    target: str
    count: int

    @classmethod
    def given(cls) -> Self:
        """From the command line."""
        return cls(*sys.argv[1:4], int(sys.argv[4]))  # type: ignore[arg-type]


class Meter:
    """CPU (user and system, all threads) and time of `count` messages; start-up is left out."""

    def __init__(self) -> None:
        self._cpu = self._at = 0.0

    def begin(self) -> None:
        """Partitions are assigned, so fetching begins; again and again is fine."""
        if not self._at:
            self._cpu, self._at = _cpu_s(), time.monotonic()

    def tell(self, count: int) -> None:
        """All `count` are through: print what it took."""
        used, took = _cpu_s() - self._cpu, time.monotonic() - self._at
        print(json.dumps({"us": used / count * 1e6, "per_s": count / took}), file=sys.__stdout__, flush=True)


def _cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def decide(headers: object) -> bool:
    """What stands for a decision: whether the record has headers."""
    return bool(headers)
