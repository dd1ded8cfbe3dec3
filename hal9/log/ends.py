"""Questions for the ends of logs: gathered, asked together, asked again until they are answered."""

import asyncio
from collections.abc import Callable, Iterable
from functools import partial

from aiokafka import TopicPartition

from hal9.errors import Transient
from hal9.log.fetching import Fetching
from hal9.log.holding import Holding
from hal9.telemetry.logs import logger
from hal9.topics import Topics

_log = logger("log.ends")


class Ends:
    """Asks for holdings; one that is dropped meanwhile is not answered."""

    def __init__(self, fetching: Fetching, topics: Topics) -> None:
        self._fetching, self._topics = fetching, topics
        self._asked: dict[TopicPartition, list[tuple[Holding, Callable[[int], None]]]] = {}
        self._wake = asyncio.Event()

    def ask(self, log: str, holding: Holding, then: Callable[[int], None]) -> None:
        """Call `then` with the end of a log as it is from now on."""
        self._asked.setdefault(self._place(log, holding.partition), []).append((holding, then))
        self._wake.set()

    async def run(self) -> None:
        """Ask and answer until cancelled."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            asked, self._asked = self._asked, {}
            try:
                ends = await self._fetching.ends(asked)
            except Transient as error:
                _log.warning("ends_unknown", error=str(error))
                for at, who in asked.items():
                    self._asked.setdefault(at, [])[:0] = who
                self._wake.set()
                continue
            for at, who in asked.items():
                for holding, then in who:
                    if not holding.dropped:
                        then(ends[at])

    async def look(self, holdings: Iterable[Holding], *, claimed: bool) -> None:
        """See how far logs have grown that nobody fetches from, all with one question.

        Those are the logs that a core does not want now and, if `claimed`, the claimed ones of which nothing was heard.
        """
        told: dict[TopicPartition, Callable[[int], None]] = {}
        for holding in holdings:
            for cursor in holding.held_up():
                told[cursor.at] = cursor.seen
            for log in holding.unwatched() if claimed else ():
                told[self._place(log, holding.partition)] = partial(holding.grown, log)
        if not told:
            return
        try:
            for at, end in (await self._fetching.ends(told)).items():
                told[at](end)
        except Transient as error:
            _log.warning("lag_unknown", error=str(error))

    def _place(self, log: str, number: int) -> TopicPartition:
        return TopicPartition(self._topics.name(log), number)
