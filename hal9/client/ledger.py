"""Which answer counts: the first one for an id. Pure.

An id is remembered for a while after its end, so that repeats and late answers are told from other clients' answers.
"""

from collections import deque
from typing import Literal

Arrival = Literal["first", "late", "repeated", "foreign"]
_OPEN, _GIVEN_UP, _ANSWERED = 0, 1, 2


class Ledger:
    """The requests of one client. Times are seconds of one monotonic clock."""

    def __init__(self, memory_s: float) -> None:
        self._memory_s = memory_s
        self._states: dict[bytes, int] = {}
        self._ended: deque[tuple[float, bytes]] = deque()
        self._until_s: dict[bytes, float] = {}

    def __len__(self) -> int:
        """How many ids are known, open or remembered."""
        return len(self._states)

    def __contains__(self, request_id: bytes) -> bool:
        """Whether an answer with this id would be one of this client's."""
        return request_id in self._states

    def open(self, request_id: bytes) -> None:
        """A request is about to be sent; ValueError if its id is in use, or was answered.

        One that was given up may be asked again: what became of it is unknown, and by its id it is the same request.
        """
        if self._states.get(request_id, _GIVEN_UP) != _GIVEN_UP:
            raise ValueError(f"the id {request_id.decode()} is in use")
        self._states[request_id] = _OPEN
        self._until_s.pop(request_id, None)

    def arrived(self, request_id: bytes, now_s: float) -> Arrival:
        """An answer was read: what is it to this client?"""
        state = self._states.get(request_id)
        if state is None:
            return "foreign"
        if state == _ANSWERED:
            return "repeated"
        self._states[request_id] = _ANSWERED
        if state == _OPEN:
            self._remember(request_id, now_s)
            return "first"
        return "late"

    def give_up(self, request_id: bytes, now_s: float) -> None:
        """Nobody waits for the answer any more."""
        self._states[request_id] = _GIVEN_UP
        self._remember(request_id, now_s)

    def _remember(self, request_id: bytes, now_s: float) -> None:
        until_s = self._until_s[request_id] = now_s + self._memory_s
        self._ended.append((until_s, request_id))
        while self._ended[0][0] <= now_s:
            until_s, ended = self._ended.popleft()
            if self._until_s.get(ended) == until_s:  # else it was opened again since
                del self._states[ended], self._until_s[ended]
