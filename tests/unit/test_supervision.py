"""Coroutines that live and die together."""

import asyncio

import pytest

from hal9.log.supervision import until_first

DEADLINE_S = 10.0


class Library:
    """Waits, and goes on where it was cancelled, as often as it is told to swallow that."""

    def __init__(self, swallows: int) -> None:
        self.swallows, self.cancelled = swallows, 0

    async def wait(self) -> None:
        while True:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                self.cancelled += 1
                if self.cancelled > self.swallows:
                    raise


async def fails() -> None:
    raise ValueError("the first one")


async def ends() -> None:
    await asyncio.sleep(0)


async def test_the_first_failure_is_raised_and_the_others_are_cancelled() -> None:
    other = Library(swallows=0)
    with pytest.raises(ValueError, match="the first one"):
        await until_first(other.wait(), fails())
    assert other.cancelled == 1


async def test_a_task_whose_library_swallowed_its_cancellation_is_cancelled_again() -> None:
    other = Library(swallows=2)
    async with asyncio.timeout(DEADLINE_S):
        await until_first(other.wait(), ends(), again_s=0.01)
    assert other.cancelled == 3


async def test_one_that_is_cancelled_from_outside_ends_with_all_of_them() -> None:
    one, two = Library(swallows=0), Library(swallows=0)
    together = asyncio.create_task(until_first(one.wait(), two.wait()))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    together.cancel()
    with pytest.raises(asyncio.CancelledError):
        await together
    assert (one.cancelled, two.cancelled) == (1, 1)
