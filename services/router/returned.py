"""Requests that hierarchical gave back, until their second dispatch is read back. Pure.

A successor that takes over before that must find the response again, or it would wait for an answer nobody gives.
"""

from services.router.entry import Entry


class Returned:
    """Where the responses lie that gave requests back."""

    def __init__(self) -> None:
        self._held: dict[int, tuple[int, Entry]] = {}

    def __bool__(self) -> bool:
        return bool(self._held)

    def add(self, entry: Entry, offset: int) -> None:
        """A request was given back by the response at `offset`."""
        self._held[entry.position] = (offset, entry)

    def read_back(self, entry: Entry) -> None:
        """A dispatch of `entry`, in flight again, was read back: the second one, if none other is on its way."""
        if not entry.sending:
            self._held.pop(entry.position, None)

    def first(self, next_offset: int, unacked: dict[int, Entry]) -> int:
        """What may be committed of the responses."""
        done = [position for position, (_, entry) in self._held.items() if entry.answered and position not in unacked]
        for position in done:
            del self._held[position]
        return min([next_offset, *(offset for offset, _ in self._held.values())])
