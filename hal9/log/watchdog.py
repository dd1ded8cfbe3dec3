"""Whether partitions that have something to do do nothing. Pure.

A consumer can die without a word: it is a member, heartbeats go out, and nothing is read any more. Nobody inside can
mend that, so the process ends with the reason, and whoever supervises it starts a new one.
"""

from collections.abc import Mapping
from dataclasses import dataclass

LOOK_S = 2.0
"""A look counts for no more than this: a process that was stopped for a minute is not guilty of that minute."""


@dataclass(frozen=True, slots=True)
class Pulse:
    """One partition at one moment: records that wait for it, how often anything has moved, whom it waits for."""

    lag: int
    moves: int
    awaits: str | None = None


@dataclass(slots=True)
class _Still:
    moves: int
    for_s: float = 0.0


class Watchdog:
    """Looked at every second or so; `limit_s` 0 is never."""

    def __init__(self, limit_s: float) -> None:
        self._limit_s = limit_s
        self._still: dict[int, _Still] = {}
        self._looked_s: float | None = None

    def look(self, pulses: Mapping[int, Pulse], now_s: float) -> str | None:
        """Why the process must end, if it must; `pulses` of the partitions that could move now, others are let off."""
        step_s = 0.0 if self._looked_s is None else min(now_s - self._looked_s, LOOK_S)
        self._looked_s = now_s
        for gone in self._still.keys() - pulses.keys():
            del self._still[gone]
        for partition, pulse in pulses.items():
            still = self._still.setdefault(partition, _Still(pulse.moves))
            if pulse.moves != still.moves or not pulse.lag or pulse.awaits:
                still.moves, still.for_s = pulse.moves, 0.0
                continue
            still.for_s += step_s
            if self._limit_s and still.for_s >= self._limit_s:
                return (
                    f"partition {partition} is assigned, {pulse.lag} records wait for it, "
                    f"and nothing has moved for {still.for_s:.0f} s"
                )
        return None
