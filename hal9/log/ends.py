"""Questions for the ends of logs: gathered, asked together, asked again until they are answered."""

import asyncio
from collections.abc import Callable, Iterable

from aiokafka import TopicPartition

from hal9.errors import Transient
from hal9.log.cursor import Cursor
from hal9.log.fetching import Fetching
from hal9.log.holding import Holding
from hal9.telemetry.logs import logger

_log = logger("log.ends")


class Ends:
    """Asks for holdings; one that is dropped meanwhile is not answered."""

    def __init__(self, fetching: Fetching) -> None:
        self._fetching = fetching
        self._asked: dict[TopicPartition, list[tuple[Holding, Callable[[int], None]]]] = {}
        self._wake = asyncio.Event()

    def ask(self, at: TopicPartition, holding: Holding, then: Callable[[int], None]) -> None:
        """Call `then` with the end of a log as it is from now on."""
        self._asked.setdefault(at, []).append((holding, then))
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

    async def look(self, cursors: Iterable[Cursor]) -> None:
        """Tell cursors that are not fetched for how far their logs have grown."""
        by_place = {TopicPartition(cursor.topic, cursor.partition): cursor for cursor in cursors}
        if not by_place:
            return
        try:
            for at, end in (await self._fetching.ends(by_place)).items():
                by_place[at].highwater = max(end, by_place[at].highwater)
        except Transient as error:
            _log.warning("lag_unknown", error=str(error))
