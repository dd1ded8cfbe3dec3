"""Which topic is meant by a name: Kafka gives each one an id when it is made, and offsets begin at 0 again.

For logs whose positions are kept somewhere else than in their own topic's offsets. A look every few seconds, and one as
soon as fetching meets what a deleted topic would show: until it is answered nothing of that log is read.
"""

import asyncio
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress

from hal9.errors import Transient
from hal9.log.fetching import Fetching
from hal9.log.log_ends import TopicMissing
from hal9.telemetry.logs import logger
from hal9.topics import Topics

LOOK_S = 5.0
_PAUSE_S = 0.2

_log = logger("log.identified")


class Identified:
    """Ids of the topics of some logs."""

    def __init__(self, fetching: Fetching, topics: Topics, logs: Iterable[str]) -> None:
        self._fetching = fetching
        self._names = {log: topics.name(log) for log in logs}
        self._known: dict[str, str] = {}
        self._gone: set[str] = set()
        self._doubted = asyncio.Event()
        self._trouble: str | None = None

    def __bool__(self) -> bool:
        return bool(self._names)

    def trouble(self) -> list[str]:
        """Which of them is not there."""
        return [self._trouble] if self._trouble else []

    def doubt(self) -> None:
        """One of them may have been made anew."""
        self._doubted.set()

    async def now(self) -> dict[str, str]:
        """The id of each.

        Raises:
            TopicMissing: one is not there (any more, or again).
            Transient: no answer, or one from a broker that has not heard yet that a topic was made anew.
        """
        if not self._names:
            return {}
        found = await self._fetching.topic_ids(self._names.values())
        for log, name in self._names.items():
            topic_id, known = found.get(name), self._known.get(log)
            if topic_id is None:
                raise TopicMissing(f"topic {name} is not there; `hal9 topics create` makes what is missing")
            if topic_id in self._gone:
                raise Transient(f"topic {name} was made anew, and a broker does not know yet")
            if known not in (None, topic_id):
                self._gone.add(known)
                _log.warning("topic_made_anew", topic=name, topic_id=topic_id, before=known)
            self._known[log] = topic_id
        return dict(self._known)

    async def run(self, then: Callable[[Mapping[str, str]], None]) -> None:
        """Look until cancelled; `then` is told what they are."""
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(LOOK_S if self._names else None):
                    await self._doubted.wait()
            self._doubted.clear()
            try:
                then(await self.now())
                self._trouble = None
            except Transient as error:
                if str(error) != self._trouble:
                    _log.warning("topic_not_known", error=str(error))
                self._trouble = str(error)
                await asyncio.sleep(_PAUSE_S)
                self._doubted.set()
