"""Coroutines that live and die together, and one that is not to be cut short."""

import asyncio
from collections.abc import Coroutine
from typing import Any

AGAIN_S = 12.0
"""When a cancelled task is cancelled again: longer than any clean-up of ours (the guardian's host has 10 s)."""
REASON_S = 1.0
"""How long a connecting client is waited for that nobody needs any more; a broker that answers needs milliseconds."""


async def until_first(*coroutines: Coroutine[Any, Any, None], again_s: float = AGAIN_S) -> None:
    """Run them until the first one ends or fails, cancel the others, and raise what the first one raised.

    A library may swallow a cancellation and go on (redis-py does, while it connects): who has not ended after `again_s`
    is cancelled again.
    """
    tasks = [asyncio.create_task(coroutine) for coroutine in coroutines]
    outside: asyncio.CancelledError | None = None
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    except asyncio.CancelledError as error:
        outside = error
    ended = [task for task in tasks if task.done()]
    while left := [task for task in tasks if not task.done()]:
        for task in left:
            task.cancel()
        try:
            await asyncio.wait(left, timeout=again_s)
        except asyncio.CancelledError as error:  # once more, so they are, too: none of them is left behind
            outside = error
    for task in tasks:
        task.cancelled() or task.exception()  # looked at: what the others raise while they end is not told
    if outside is not None:
        raise outside
    for task in ended:
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
