"""Many records at once: batches are built before the clock starts, so that loading takes little of what is measured."""

import asyncio
import time
import uuid
from collections.abc import Iterable, Sequence
from typing import Any, Self

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from hal9.keys import partition_of

KEYS = 1_000
VALUE = b"v" * 271
DEADLINE_MS = 55_000
BATCH = 500


class Bulk:
    """Writes requests to `topic` and counts what lies on others."""

    def __init__(self, bootstrap: str, partitions: int) -> None:
        self._partitions = partitions
        self.asked = 0
        """Requests written by `ask`."""
        self._producer = AIOKafkaProducer(bootstrap_servers=bootstrap, acks="all", max_batch_size=512 * 1024)
        self._consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap)
        keys = [f"neuron-{i}".encode() for i in range(KEYS)]
        self._keys: list[list[bytes]] = [[] for _ in range(partitions)]
        for key in keys:
            self._keys[partition_of(key, partitions)].append(key)

    async def __aenter__(self) -> Self:
        """Connect."""
        await self._producer.start()
        await self._consumer.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        """Disconnect."""
        await self._consumer.stop()
        await self._producer.stop()

    def batches(self, count: int) -> Sequence[tuple[int, object, int]]:
        """(partition, batch, records) of `count` requests in all, each with an id and a deadline, spread evenly."""
        deadline = str(int(time.time() * 1000) + DEADLINE_MS).encode()
        made = []
        for number, start in enumerate(range(0, count, BATCH)):
            partition, size = number % self._partitions, min(BATCH, count - start)
            keys, batch = self._keys[partition], self._producer.create_batch()
            for i in range(size):
                headers = [("id", uuid.uuid4().hex.encode()), ("deadline-ms", deadline)]
                if batch.append(key=keys[i % len(keys)], value=VALUE, timestamp=None, headers=headers) is None:
                    raise ValueError(f"{BATCH} records do not fit into a batch")
            batch.close()
            made.append((partition, batch, size))
        return made

    async def ask(self, topic: str, requests: Iterable[tuple[bytes, str, bytes]]) -> None:
        """Write (key, operation, value), each where its key belongs; returns when they are stored."""
        deadline = str(int(time.time() * 1000) + DEADLINE_MS).encode()
        made: list[tuple[int, object, int]] = []
        open_batches: dict[int, Any] = {}
        for key, operation, value in requests:
            headers = [("id", uuid.uuid4().hex.encode()), ("operation", operation.encode()), ("deadline-ms", deadline)]
            partition = partition_of(key, self._partitions)
            batch = open_batches.get(partition)
            self.asked += 1
            if batch is None or batch.append(key=key, value=value, timestamp=None, headers=headers) is None:
                batch = open_batches[partition] = self._producer.create_batch()
                batch.append(key=key, value=value, timestamp=None, headers=headers)
                made.append((partition, batch, 0))
        for _, batch, _ in made:
            batch.close()  # type: ignore[attr-defined]
        await self.send(topic, made)

    async def send(self, topic: str, batches: Sequence[tuple[int, object, int]]) -> None:
        """Write them; returns when they are stored."""
        sent = [await self._producer.send_batch(batch, topic, partition=p) for p, batch, _ in batches]
        await asyncio.gather(*sent)

    async def touch(self, topic: str) -> None:
        """One request per partition."""
        for partition, keys in enumerate(self._keys):
            await self._producer.send_and_wait(topic, VALUE, key=keys[0], partition=partition)

    async def written(self, topic: str) -> int:
        """Records written to a topic so far."""
        places = [TopicPartition(topic, p) for p in range(self._partitions)]
        return sum((await self._consumer.end_offsets(places)).values())

    async def until(self, topic: str, count: int, deadline_s: float = 120.0) -> int:
        """How many lie on `topic`, once it is `count`; raises TimeoutError when it does not grow for so long."""
        end, before = time.monotonic() + deadline_s, -1
        while (found := await self.written(topic)) < count:
            if found > before:
                end, before = time.monotonic() + deadline_s, found
            if time.monotonic() > end:
                raise TimeoutError(f"{topic}: {found} of {count} records, and no more for {deadline_s:g} s")
            await asyncio.sleep(0.05)
        return found
