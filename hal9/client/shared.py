"""One client for all who ask in one process: they share its connections, its reader and its bounds."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from weakref import WeakKeyDictionary

from msgspec.structs import replace

from hal9.client.client import Client
from hal9.settings import Settings


@dataclass
class _Shared:
    users: int = 0
    client: Client | None = None
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)


_clients: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[Settings, _Shared]] = WeakKeyDictionary()


@asynccontextmanager
async def shared_client(bootstrap: str | None = None, settings: Settings | None = None) -> AsyncIterator[Client]:
    """The client of this event loop with these settings: opened by the first to enter, closed by the last to leave.

    Raises:
        Unreachable, Transient: as opening a `Client`; the next to enter tries again.
    """
    settings = settings or Settings()
    if bootstrap is not None:
        settings = replace(settings, kafka=replace(settings.kafka, bootstrap=bootstrap))
    shared = _clients.setdefault(asyncio.get_running_loop(), {}).setdefault(settings, _Shared())
    async with shared.turn:
        if shared.client is None:
            client = Client(settings=settings)
            await client.__aenter__()
            shared.client = client
        shared.users += 1
    try:
        yield shared.client
    finally:
        shared.users -= 1
        if shared.users == 0:
            async with shared.turn:
                if shared.users == 0 and shared.client is not None:
                    client, shared.client = shared.client, None
                    await client.__aexit__(None, None, None)
