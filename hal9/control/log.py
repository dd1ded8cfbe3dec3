"""`control` as every process has it: read from its beginning, folded by the one reducer; appended to, and read back.

Whoever appends learns the verdict from the fold of the log, never from the append: another record may have come before.
"""

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

from aiokafka import TopicPartition
from aiokafka.errors import KafkaError

from hal9.control.reducer import ControlState, Outcome, fold
from hal9.errors import Transient
from hal9.log.batches import Damaged
from hal9.log.effects import EARLIEST
from hal9.log.producer import start_producer, stop_producer
from hal9.log.reading import Reader
from hal9.settings.sections import Kafka
from hal9.telemetry.logs import logger
from hal9.topics import Topics
from schemas.base import encode
from schemas.control import AnyControl

DEADLINE_S = 10.0
"""Of an append, and of reading it back."""
REMEMBERED = 1_024
"""Verdicts kept for those who ask after the fact."""

Listener = Callable[[int, Outcome], None]

_log = logger("control.log")


class ControlFollower:
    """Folds `control`; `state` is the newest, always the same object.

    Use `following`, which has caught up when it hands the follower over.
    """

    def __init__(self, kafka: Kafka, topics: Topics, migration: str) -> None:
        self._kafka, self._at = kafka, TopicPartition(topics.name("control"), 0)
        self.state = ControlState(migration)
        self._listeners: list[Listener] = []
        self._verdicts: OrderedDict[int, Outcome] = OrderedDict()
        self._changed = asyncio.Event()
        self._following: asyncio.Task[None] | None = None
        self._trouble: Callable[[], list[str]] = list

    def __repr__(self) -> str:
        return f"<ControlFollower at {self.state.position}: {self.state!r}>"

    def listen(self, listener: Listener) -> None:
        """Call `listener(offset, outcome)` for each record that is folded from now on (and is of this migration)."""
        self._listeners.append(listener)

    def trouble(self) -> list[str]:
        """Why `state` may be behind, if so."""
        return self._trouble()

    async def watch(self) -> None:
        """Never returns; raises what made the following end. A process must not go on without it."""
        if self._following is None:
            raise Transient("control is not followed")
        await asyncio.shield(self._following)

    async def wait_until(self, predicate: Callable[[ControlState], bool], deadline_s: float = DEADLINE_S) -> None:
        """Return when `predicate(state)` holds; raises Transient after the deadline."""
        try:
            async with asyncio.timeout(deadline_s):
                while not predicate(self.state):
                    if self._following is not None and self._following.done():
                        await self.watch()
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError as error:
            raise Transient(f"what was awaited on control did not come within {deadline_s:g} s") from error

    async def verdict(self, offset: int, deadline_s: float = DEADLINE_S) -> Outcome:
        """What became of the record at `offset`; raises Transient if it is not read in time."""
        await self.wait_until(lambda state: state.position > offset, deadline_s)
        found = self._verdicts.get(offset)
        if found is None:
            raise Transient(f"record {offset} of control was folded too long ago")
        return found

    async def _follow(self, reader: Reader) -> None:
        async for chunk in reader.follow({self._at: EARLIEST}):
            for record in chunk.records:
                # A record that is damaged cannot be understood: it counts as one of an unknown kind.
                outcome = fold(self.state, record.offset, None if isinstance(record, Damaged) else record.value)
                self._verdicts[record.offset] = outcome
                if outcome.verdict == "unknown":
                    _log.error("control_record_not_understood", offset=record.offset, reason=outcome.reason)
                if outcome.verdict != "foreign":
                    for listener in self._listeners:
                        listener(record.offset, outcome)
            while len(self._verdicts) > REMEMBERED:
                self._verdicts.popitem(last=False)
            self._changed.set()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Follow while the context lasts; entered when everything written before is folded. Raises Unreachable."""
        async with Reader(self._kafka, damaged=True) as reader:
            end = (await reader.ends([self._at]))[self._at]
            self._trouble = reader.trouble
            self._following = asyncio.create_task(self._follow(reader))
            self._following.add_done_callback(lambda _: self._changed.set())
            try:
                await self.wait_until(lambda state: state.position >= end, self._kafka.wait_s)
                yield
            finally:
                self._following.cancel()
                with suppress(asyncio.CancelledError):
                    await self._following


@asynccontextmanager
async def following(kafka: Kafka, topics: Topics, migration: str) -> AsyncIterator[ControlFollower]:
    """A follower that has folded everything written before."""
    follower = ControlFollower(kafka, topics, migration)
    async with follower.running():
        yield follower


class ControlWriter:
    """Appends to `control` and says what the fold made of it."""

    def __init__(self, kafka: Kafka, topics: Topics, follower: ControlFollower) -> None:
        self._kafka, self._topic, self._follower = kafka, topics.name("control"), follower
        self._producer: Any = None
        self._lock = asyncio.Lock()

    async def append(self, record: AnyControl, deadline_s: float = DEADLINE_S) -> Outcome:
        """Append a record and read it back.

        Raises:
            Transient: it is not known whether it was appended. Append the same record again: its id makes that safe.
        """
        offset = await self._stored(record, deadline_s)
        if offset < 0:
            raise Transient(f"record {record.id} is on control, but not known where")
        return await self._follower.verdict(offset, deadline_s)

    async def _stored(self, record: AnyControl, deadline_s: float) -> int:
        async with self._lock:
            try:
                async with asyncio.timeout(deadline_s):
                    if self._producer is None:
                        self._producer = await start_producer(self._kafka, deadline_s)
                    key = record.migration.encode()
                    metadata = await self._producer.send_and_wait(self._topic, encode(record), key, 0)
                    return int(metadata.offset)
            except (KafkaError, OSError) as error:
                # A producer that failed once may refuse everything after it.
                await self._put_away()
                raise Transient(f"record {record.id} may not be on control: {error!r}") from error

    async def _put_away(self) -> None:
        producer, self._producer = self._producer, None
        if producer is not None:
            with suppress(TimeoutError):
                async with asyncio.timeout(DEADLINE_S):
                    await stop_producer(producer)

    async def close(self) -> None:
        """Disconnect."""
        await self._put_away()
