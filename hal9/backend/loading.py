"""Loading: states from outside become the first versions of their keys in a change log, before the system runs.

The loader is a writer like the system itself: it claims each partition, reads up to its claim, and appends with that
term. A key that either log of the system holds already is never overwritten: the load is refused, nothing is written.
"""

import asyncio
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any, TypeVar
from uuid import uuid4

from aiokafka.errors import KafkaError

from hal9 import wire
from hal9.backend.core import CHANGES, REPLICA
from hal9.backend.store import State, envelope
from hal9.control.reducer import ROUTE_SALT, salt
from hal9.errors import Fenced, Refused, Transient
from hal9.keys import is_mark, partition_of
from hal9.log.effects import Record
from hal9.log.positions import refuse_members
from hal9.log.producer import start_producer, stop_producer
from hal9.log.reading import read_range
from hal9.log.validity import Validity
from hal9.settings import Settings
from hal9.topics import Topics
from schemas.base import System, encode
from schemas.state import Claim

T = TypeVar("T")
_NAMED = 3
_AT_ONCE = 2_000


@dataclass(frozen=True, slots=True)
class Loaded:
    """What was (or would be) loaded."""

    keys: int
    partitions: int
    size: int


class Loader:
    """Loads one system's state; a value is the envelope of a state."""

    def __init__(self, settings: Settings, system: System, *, deadline_s: float) -> None:
        self._settings, self._system, self._deadline_s = settings, system, deadline_s
        self._topics = Topics.of(settings.topics)
        self._changes, self._replica = (self._topics.name(log) for log in (CHANGES[system], REPLICA[system]))

    async def load(self, states: Mapping[bytes, State], *, dry_run: bool = False) -> Loaded:
        """All of them or none.

        Raises:
            Refused: the system runs, or holds one of the keys, or a state is too large.
            Transient: Kafka did not take it in time; what was taken then is refused the next time as held.
            Fenced: another writer claimed the log meanwhile.
        """
        kafka = self._settings.kafka
        await refuse_members(kafka, [self._topics.prefix + self._system], self._deadline_s)
        values = {key: envelope(state, None) for key, state in states.items()}
        for key, value in values.items():
            if len(value) > self._settings.system.state_bytes:
                raise Refused(f"the state of {key.decode()} has {len(value)} bytes, more than a system keeps")
        by_partition: dict[int, dict[bytes, bytes]] = {}
        for key, value in values.items():
            by_partition.setdefault(partition_of(key, self._topics.partitions), {})[key] = value
        floors = {number: await self._refuse_held(number, held) for number, held in by_partition.items()}
        if not dry_run:
            producer = await start_producer(kafka, self._deadline_s)
            try:
                for number, held in by_partition.items():
                    await self._append(producer, number, held, floors[number])
            except KafkaError as error:
                raise Transient(f"{self._changes}: {error!r}") from error
            finally:
                await stop_producer(producer)
        return Loaded(len(values), len(by_partition), sum(map(len, values.values())))

    async def _refuse_held(self, number: int, wanted: Mapping[bytes, bytes]) -> int:
        """Refused, or the greatest version that a key may have had which the logs know no more."""
        held: set[bytes] = set()
        validity = Validity()
        for topic in (self._changes, self._replica):
            for record in await self._read(topic, number):
                validity.feed(record)
                if not is_mark(record.key):
                    held.add(record.key or b"")
                elif (record.key or b"").startswith(wire.SEAL):
                    raise Refused("the route has moved already: load before the first migration starts")
        if both := sorted(held & wanted.keys()):
            some = ", ".join(key.decode() for key in both[:_NAMED])
            raise Refused(f"{len(both)} of the keys are held already ({some}): nothing of them is overwritten")
        return validity.floor

    async def _append(self, producer: Any, number: int, values: Mapping[bytes, bytes], floor: int) -> None:
        """Claim, read up to the claim, append, and see that no other claim came between."""
        claim, unique = encode(Claim(instance=f"load-{uuid4().hex}")), uuid4().hex.encode()
        async with asyncio.timeout(self._deadline_s):
            placed = await producer.send_and_wait(self._changes, claim, key=wire.CLAIM + unique, partition=number)
            change = wire.Change(floor + 1, None, 0, "load", None, None, follows=0 if floor else None)
            headers = wire.change_headers(change, number, placed.offset)
            for some in batched(values.items(), _AT_ONCE):
                sent = [
                    await producer.send(self._changes, value, key=key, partition=number, headers=headers)
                    for key, value in some
                ]
                await asyncio.gather(*sent)
        validity = Validity(system=self._system, salt=salt(self._settings.migration.id, ROUTE_SALT))
        for record in await self._read(self._changes, number):
            validity.feed(record)
        if validity.claim != placed.offset:
            raise Fenced(f"another writer claimed {self._changes}-{number} meanwhile")

    async def _read(self, topic: str, number: int) -> list[Record]:
        return await read_range(self._settings.kafka, topic, number, deadline_s=self._deadline_s)


def batched(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Pieces of at most `size` items."""
    rest = iter(items)
    while piece := list(islice(rest, size)):
        yield piece
