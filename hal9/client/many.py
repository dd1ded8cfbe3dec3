"""Many requests, bounded in number, and their answers: as a list or one after another, in order or as they come."""

import asyncio
from collections import deque
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Generator, Iterable
from typing import Any

from hal9.client.answer import Answer, Ask

Askable = Ask | tuple[str | bytes, str, bytes]
Asks = Iterable[Askable] | AsyncIterable[Askable]


class Answers:
    """`await` it for a list, or `async for` over it, once; whoever leaves early cancels what is under way.

    A failure of the asks, or of a request (`Client.request` says which), ends it.
    """

    def __init__(self, asks: Asks, one: Callable[[Ask], Awaitable[Answer]], concurrency: int, *, ordered: bool) -> None:
        self._asks, self._one, self._ordered = asks, one, ordered
        self._places = asyncio.Semaphore(concurrency)
        self._ready: deque[asyncio.Task[Answer]] = deque()
        """Not taken yet: in the order of the asks, or (unordered) done, in the order of their ends."""
        self._tasks: set[asyncio.Task[Answer]] = set()
        self._news = asyncio.Event()

    def __await__(self) -> Generator[Any, None, list[Answer]]:
        """All answers."""
        return self._list().__await__()

    async def _list(self) -> list[Answer]:
        return [answer async for answer in self]

    async def __aiter__(self) -> AsyncIterator[Answer]:
        """One answer after another."""
        asking = asyncio.create_task(self._ask())
        asking.add_done_callback(lambda _: self._news.set())
        try:
            while True:
                self._news.clear()
                while self._ready and self._ready[0].done():
                    task = self._ready.popleft()
                    self._tasks.discard(task)
                    self._places.release()
                    yield task.result()
                if asking.done() and not self._tasks:
                    break
                if asking.done() and asking.exception() is not None:
                    break
                if not self._news.is_set():
                    await self._news.wait()
            await asking
        finally:
            leaving: set[asyncio.Task[Any]] = {asking, *self._tasks}
            for task in leaving:
                task.cancel()
            await asyncio.gather(*leaving, return_exceptions=True)

    async def _ask(self) -> None:
        async for ask in _each(self._asks):
            await self._places.acquire()
            task = asyncio.create_task(self._request(ask if isinstance(ask, Ask) else Ask(*ask)))
            self._tasks.add(task)
            task.add_done_callback(self._done)
            if self._ordered:
                self._ready.append(task)

    async def _request(self, ask: Ask) -> Answer:
        return await self._one(ask)

    def _done(self, task: asyncio.Task[Answer]) -> None:
        if not self._ordered and task in self._tasks:
            self._ready.append(task)
        self._news.set()


async def _each(asks: Asks) -> AsyncIterator[Askable]:
    if isinstance(asks, AsyncIterable):
        async for ask in asks:
            yield ask
    else:
        for ask in asks:
            yield ask
