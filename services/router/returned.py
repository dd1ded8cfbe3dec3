"""Requests that a system gave back, and reads that it did not serve, until they are dispatched anew. Pure.

A successor that takes over before that must find the response again, or it would wait for an answer nobody gives.
"""

from schemas.base import System
from services.router.entry import Entry


class Returned:
    """Where the responses lie that gave requests back."""

    def __init__(self) -> None:
        self._held: dict[int, list[tuple[System, int, Entry]]] = {}
        self._before: dict[int, int] = {}
        """Per position: records of the request that were on their way when it was given back. None is the new one."""

    def __bool__(self) -> bool:
        return bool(self._held)

    def add(self, entry: Entry, system: System, offset: int) -> None:
        """A request was given back by the response of `system` at `offset`."""
        self._held.setdefault(entry.position, []).append((system, offset, entry))
        self._before[entry.position] = entry.sending

    def read_back(self, entry: Entry, *, again: bool) -> None:
        """A record of `entry` was read back; `again`: it is in flight, at whom it was asked of last.

        A system may answer before the router has read back what it asked: that record is none of a new dispatch.
        """
        before = self._before.get(entry.position, 0)
        if before:
            self._before[entry.position] = before - 1
        elif again and not entry.sending:
            self._held.pop(entry.position, None)
            self._before.pop(entry.position, None)

    def first(self, system: System, next_offset: int, unacked: dict[int, Entry]) -> int:
        """What may be committed of the responses of a system."""
        done = [position for position, held in self._held.items() if held[0][2].answered and position not in unacked]
        for position in done:
            del self._held[position]
            self._before.pop(position, None)
        return min([next_offset, *(at for held in self._held.values() for by, at, _ in held if by == system)])
