"""Room for requests: by count and by bytes, first come, first served, nothing lost when a caller goes."""

import asyncio
from random import Random

import pytest

from hal9.client.room import Room


async def turns() -> None:
    """Let everybody run who can."""
    for _ in range(5):
        await asyncio.sleep(0)


async def test_no_more_than_so_many_and_no_more_than_so_many_bytes() -> None:
    room = Room(2, 100)
    await room.enter(60)
    big, small = asyncio.create_task(room.enter(50)), asyncio.create_task(room.enter(1))
    await turns()
    # The small one would fit, and waits for its turn all the same.
    assert repr(room) == "<Room: 1 requests, 60 bytes, 2 waiting>"
    room.leave(60)
    await asyncio.gather(big, small)
    assert repr(room) == "<Room: 2 requests, 51 bytes, 0 waiting>"


async def test_what_is_greater_than_the_room_goes_alone() -> None:
    room = Room(10, 100)
    await room.enter(1)
    huge, after = asyncio.create_task(room.enter(1_000)), asyncio.create_task(room.enter(1))
    await turns()
    assert not huge.done()
    room.leave(1)
    await turns()
    assert (huge.done(), after.done()) == (True, False)
    room.leave(1_000)
    await after


@pytest.mark.parametrize("seed", range(5))
async def test_callers_that_go_leave_their_place_to_others(seed: int) -> None:
    random, room, most = Random(seed), Room(3, 50), 0

    async def one(size: int) -> None:
        nonlocal most
        await room.enter(size)
        try:
            most = max(most, room.requests)
            assert room.requests == 1 or room.size <= 50
            await asyncio.sleep(0)
        finally:
            room.leave(size)

    tasks = [asyncio.create_task(one(random.randrange(60))) for _ in range(200)]
    for _ in range(400):
        await asyncio.sleep(0)
        tasks[random.randrange(200)].cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert most == 3
    assert repr(room) == "<Room: 0 requests, 0 bytes, 0 waiting>"
