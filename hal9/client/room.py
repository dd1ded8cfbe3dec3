"""Back-pressure: how many requests, and how many bytes of them, are under way at once; first come, first served."""

import asyncio
import contextlib
from collections import deque


class Room:
    """Bounded by count and by bytes. A request greater than all the room goes alone."""

    def __init__(self, requests: int, size: int) -> None:
        self._most, self._most_bytes = requests, size
        self.requests = self.size = 0
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    def __repr__(self) -> str:
        return f"<Room: {self.requests} requests, {self.size} bytes, {len(self._waiting)} waiting>"

    def _fits(self, size: int) -> bool:
        return self.requests == 0 or (self.requests < self._most and self.size + size <= self._most_bytes)

    async def enter(self, size: int) -> None:
        """Return when there is room for one more, of `size` bytes."""
        if not self._waiting and self._fits(size):
            self._take(size)
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((size, turn))
        try:
            await turn
        except BaseException:
            if turn.done() and not turn.cancelled():
                self.leave(size)  # admitted, and gone in the same moment
            else:
                with contextlib.suppress(ValueError):  # passed over by `_admit` meanwhile
                    self._waiting.remove((size, turn))
                self._admit()
            raise

    def leave(self, size: int) -> None:
        """One has ended."""
        self.requests -= 1
        self.size -= size
        self._admit()

    def _take(self, size: int) -> None:
        self.requests += 1
        self.size += size

    def _admit(self) -> None:
        while self._waiting and self._fits(self._waiting[0][0]):
            size, turn = self._waiting.popleft()
            if not turn.done():
                self._take(size)
                turn.set_result(None)
