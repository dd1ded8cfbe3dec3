"""The network at work over Kafka: created, measured, and kept reading and learning for as long as the run wants."""

import asyncio
from collections.abc import Callable

import numpy as np

from hal9.demo.board import Reading
from hal9.demo.desk import Desk
from hal9.keys import bucket_of
from schemas.base import Tree
from systems.digits.data import Images, load
from systems.digits.network import copies_for, neurons
from systems.digits.workload import Workload, subset

AT_LEAST = 5
"""So many neurons lie in the first step's share: fewer would prove nothing."""
FIRST_BOUND = 100
"""Buckets of that first step, 1 %."""
AT_ONCE = 8
"""Images read at once under load: a few, as users have them."""


class Network:
    """As many copies of the network as the first step needs.

    Args:
        desk: where it asks.
        salt: of the route.
    """

    def __init__(self, desk: Desk, salt: str) -> None:
        self._data = load()
        self._desk = desk
        self._load = Workload(desk)
        self.copies = copies_for(lambda key: bucket_of(salt, key.encode()), FIRST_BOUND, AT_LEAST)

    def initial(self) -> dict[str, Tree]:
        """All neurons as they are created."""
        made = (neurons(copy, self._data.hidden, self._data.output) for copy in range(self.copies))
        return {key: state for copy in made for key, state in copy}

    async def create(self) -> int:
        """Make the neurons; their number. Raises Transient if some cannot be made."""
        return await Workload(self._desk).create(range(self.copies), self._data.hidden, self._data.output)

    async def accuracy(self) -> float | None:
        """Share of the test images read rightly: every image once, the copies share them out among themselves."""
        measuring = Workload(self._desk)
        shares = np.array_split(np.arange(len(self._data.testing)), self.copies)
        async with asyncio.TaskGroup() as group:
            for copy, share in enumerate(shares):
                group.create_task(measuring.classify(copy, _chosen(self._data.testing, share)))
        return measuring.tally.accuracy

    def reading(self) -> Reading:
        """How well it reads under load so far."""
        tally = self._load.tally
        return Reading(tally.right, tally.classified, tally.skipped)

    async def work(self, over: Callable[[], bool]) -> None:
        """Every copy reads and learns, at once, until it is over; ends when the last answer is there."""
        async with asyncio.TaskGroup() as group:
            for copy in range(self.copies):
                group.create_task(self._read(copy, over))
                group.create_task(self._learn(copy, over))

    async def _read(self, copy: int, over: Callable[[], bool]) -> None:
        turn = 0
        while not over():
            turn += 1
            await self._load.classify(copy, subset(self._data.testing, AT_ONCE, seed=copy * 1_000_003 + turn))

    async def _learn(self, copy: int, over: Callable[[], bool]) -> None:
        chance = np.random.default_rng(copy)
        training = self._data.training
        while not over():
            index = int(chance.integers(len(training)))
            await self._load.train(copy, training.pixels[index], int(training.labels[index]))


def _chosen(images: Images, rows: "np.ndarray[tuple[int], np.dtype[np.int64]]") -> Images:
    return Images(images.pixels[rows], images.labels[rows])
