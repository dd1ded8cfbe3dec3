"""Coroutines that live and die together, and one that is not to be cut short."""

import asyncio
from collections.abc import Coroutine
from typing import Any

AGAIN_S = 5.0
"""When a cancelled task is cancelled again: longer than any clean-up of ours, shorter than supervisors wait."""
REASON_S = 1.0
"""How long a connecting client is waited for that nobody needs any more; a broker that answers needs milliseconds."""


async def until_first(*coroutines: Coroutine[Any, Any, None], again_s: float = AGAIN_S) -> None:
    """Run them until the first one ends or fails, cancel the others, and raise what the first one raised.

    A library may swallow a cancellation and go on (redis-py does, while it connects): who has not ended after `again_s`
    is cancelled again.
    """
    tasks = [asyncio.create_task(coroutine) for coroutine in coroutines]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        left = set(tasks)
        while left:
            for task in left:
                task.cancel()
            _, left = await asyncio.wait(left, timeout=again_s)
        await asyncio.gather(*tasks, return_exceptions=True)  # they are done: what they raised has been looked at
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
