"""Coroutines that live and die together."""

import asyncio

import pytest

from hal9.log.supervision import until_first

DEADLINE_S = 10.0
AGAIN_S = 0.01


class Library:
    """Waits, and goes on where it was cancelled, as often as it is told to swallow that."""

    def __init__(self, swallows: int) -> None:
        self.swallows, self.cancelled, self.ended = swallows, 0, False
        self.waits = asyncio.Event()

    async def wait(self) -> None:
        while True:
            self.waits.set()
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                self.cancelled += 1
                if self.cancelled > self.swallows:
                    self.ended = True
                    raise


async def fails() -> None:
    raise ValueError("the first one")


async def ends() -> None:
    pass


async def waiting(*libraries: Library) -> None:
    """Each of them waits, anew if it was asked before."""
    async with asyncio.timeout(DEADLINE_S):
        for library in libraries:
            await library.waits.wait()
            library.waits.clear()


async def test_the_first_failure_is_raised_and_the_others_are_cancelled() -> None:
    other = Library(swallows=0)
    with pytest.raises(ValueError, match="the first one"):
        await until_first(other.wait(), fails())
    assert other.cancelled == 1


async def test_a_task_whose_library_swallowed_its_cancellation_is_cancelled_again() -> None:
    other = Library(swallows=1)
    async with asyncio.timeout(DEADLINE_S):
        await until_first(other.wait(), ends(), again_s=AGAIN_S)
    assert (other.cancelled, other.ended) == (2, True)


async def test_one_within_another_leaves_nobody_behind() -> None:
    other = Library(swallows=1)
    async with asyncio.timeout(DEADLINE_S):
        inner = until_first(other.wait(), asyncio.Event().wait(), again_s=AGAIN_S)  # type: ignore[arg-type]
        await until_first(inner, ends(), again_s=AGAIN_S)
    assert other.ended


async def test_one_that_is_cancelled_from_outside_ends_with_all_of_them() -> None:
    one, two = Library(swallows=0), Library(swallows=0)
    together = asyncio.create_task(until_first(one.wait(), two.wait()))
    await waiting(one, two)
    together.cancel()
    with pytest.raises(asyncio.CancelledError):
        await together
    assert (one.cancelled, two.cancelled) == (1, 1)


async def test_one_that_is_cancelled_twice_leaves_nobody_behind() -> None:
    other = Library(swallows=2)
    together = asyncio.create_task(until_first(other.wait(), again_s=AGAIN_S))
    for _ in range(2):
        await waiting(other)
        together.cancel()
    with pytest.raises(asyncio.CancelledError):
        await together
    assert other.ended
