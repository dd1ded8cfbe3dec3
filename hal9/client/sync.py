"""The client for programs without an event loop: a thread with a loop of its own, behind plain calls."""

import asyncio
import threading
from collections import OrderedDict
from collections.abc import Coroutine, Iterable, Iterator
from concurrent.futures import Future
from queue import SimpleQueue
from types import TracebackType
from typing import Any, Self, TypeVar

from hal9.client.answer import Answer, Ask, Counts
from hal9.client.client import Client
from hal9.client.errors import ClientClosed
from hal9.client.many import Askable
from hal9.client.transport import STOP_S, Transport
from hal9.settings import Settings

T = TypeVar("T")


class SyncClient:
    """`Client` in plain calls; use it as a context manager. Any number of threads may call it at a time.

    A call that is interrupted (Ctrl-C) cancels its request. After a fork the child needs one of its own.
    """

    def __init__(
        self, bootstrap: str | None = None, settings: Settings | None = None, *, transport: Transport | None = None
    ) -> None:
        self._arguments = (bootstrap, settings or Settings(), transport)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._client: Client | None = None

    def __repr__(self) -> str:
        return f"<SyncClient of {self._client!r}>"

    @property
    def counts(self) -> Counts:
        """What became of the requests so far."""
        return self._opened().counts

    def __enter__(self) -> Self:
        """Opens it; raises Unreachable or Transient."""
        loop = self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=_serve, args=(loop,), name="hal9-client", daemon=True)
        self._thread.start()
        try:
            self._client = self._call(self._open())
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Closes it: requests under way in other threads end as `closed`."""
        client, self._client = self._client, None
        try:
            if client is not None:
                self._call(client.__aexit__(None, None, None))
        finally:
            self._end()

    async def _open(self) -> Client:
        bootstrap, settings, transport = self._arguments
        client = Client(bootstrap, settings, transport=transport)
        return await client.__aenter__()

    def _end(self) -> None:
        loop, thread = self._loop, self._thread
        self._loop = self._thread = None
        if loop is not None and thread is not None:
            loop.call_soon_threadsafe(loop.stop)
            thread.join()

    def _opened(self) -> Client:
        if self._client is None:
            raise ClientClosed("the client is not open")
        return self._client

    def _submit(self, work: Coroutine[Any, Any, T]) -> "Future[T]":
        if self._loop is None:
            work.close()
            raise ClientClosed("the client is not open")
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    def _call(self, work: Coroutine[Any, Any, T]) -> T:
        future = self._submit(work)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def request(
        self,
        key: str | bytes,
        value: bytes = b"",
        *,
        operation: str = "process",
        deadline_s: float | None = None,
        request_id: str | None = None,
        retries: int | None = None,
    ) -> Answer:
        """As `Client.request`; blocks until the answer is there."""
        return self._call(
            self._opened().request(
                key, value, operation=operation, deadline_s=deadline_s, request_id=request_id, retries=retries
            )
        )

    def request_many(
        self,
        asks: Iterable[Askable],
        *,
        concurrency: int | None = None,
        deadline_s: float | None = None,
        retries: int | None = None,
        ordered: bool = True,
    ) -> Iterator[Answer]:
        """As `Client.request_many`: answers one after another, while at most `concurrency` requests are under way.

        The asks are drawn in the calling thread, as answers are taken. Leaving early cancels what is under way.
        """
        client = self._opened()
        most = concurrency or self._arguments[1].client.in_flight_max
        under_way: OrderedDict[Future[Answer], None] = OrderedDict()
        done: SimpleQueue[Future[Answer]] = SimpleQueue()

        def take() -> Answer:
            future = next(iter(under_way)) if ordered else done.get()
            answer = future.result()
            del under_way[future]
            return answer

        try:
            for one in asks:
                ask = one if isinstance(one, Ask) else Ask(*one)
                if len(under_way) >= most:
                    yield take()
                future = self._submit(
                    client.request(
                        ask.key,
                        ask.value,
                        operation=ask.operation,
                        deadline_s=deadline_s if ask.deadline_s is None else ask.deadline_s,
                        request_id=ask.id,
                        retries=retries,
                    )
                )
                under_way[future] = None
                if not ordered:
                    future.add_done_callback(done.put)
            while under_way:
                yield take()
        finally:
            for future in under_way:
                future.cancel()


def _serve(loop: asyncio.AbstractEventLoop) -> None:
    """The thread: runs the loop until it is stopped, then what is left on it to its end."""
    asyncio.set_event_loop(loop)
    try:
        loop.run_forever()
        if left := asyncio.all_tasks(loop):
            # Each was told that the client is closed, and is about to tell its caller.
            loop.run_until_complete(asyncio.wait(left, timeout=STOP_S))
        loop.run_until_complete(loop.shutdown_asyncgens())
    finally:
        loop.close()
