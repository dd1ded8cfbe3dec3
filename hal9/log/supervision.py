"""Coroutines that live and die together, and one that is not to be cut short."""

import asyncio
from collections.abc import Coroutine
from typing import Any

REASON_S = 1.0
"""How long a connecting client is waited for that nobody needs any more; a broker that answers needs milliseconds."""


async def until_first(*coroutines: Coroutine[Any, Any, None]) -> None:
    """Run them until the first one ends or fails, cancel the others, and raise what the first one raised."""
    tasks = [asyncio.create_task(coroutine) for coroutine in coroutines]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    for task in done:
        task.result()


async def unbroken(coroutine: Coroutine[Any, Any, None]) -> None:
    """Run it; if this is cancelled, let it end first, within reason.

    A client of aiokafka that is cancelled while it connects leaves the connection open.
    """
    task = asyncio.ensure_future(coroutine)
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task], timeout=REASON_S)
        task.cancel()
        raise
