"""An open-loop load over Kafka and the times of its answers: a slow answer never slows the asking down.

The same bare aiokafka client measures whatever lies between two topics, so what it costs itself is on both sides.
"""

import asyncio
import itertools
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Self

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from hal9.keys import partition_of

KEYS = 600
VALUE = b"v" * 271
TICK_S = 0.001
DEADLINE_MS = 15_000


@dataclass(slots=True)
class Asked:
    """One request: where it went, when it was due to be sent and when its first answer came (monotonic, seconds)."""

    partition: int
    due_s: float
    answered_s: float | None = None
    status: str = ""


@dataclass
class Load:
    """`rate` requests a second from `source` to `target`, over all partitions, until `stop`."""

    bootstrap: str
    source: str
    target: str
    partitions: int
    rate: float
    operation: str = "process"
    value: Callable[[int], bytes] = lambda _number: VALUE
    asked: dict[bytes, Asked] = field(default_factory=dict)

    async def __aenter__(self) -> Self:
        """Connect, and begin to ask."""
        self._producer = AIOKafkaProducer(bootstrap_servers=self.bootstrap, acks="all", linger_ms=0)
        self._consumer = AIOKafkaConsumer(bootstrap_servers=self.bootstrap, auto_offset_reset="latest")
        await self._producer.start()
        await self._consumer.start()
        places = [TopicPartition(self.target, p) for p in range(self.partitions)]
        self._consumer.assign(places)
        await self._consumer.seek_to_end(*places)
        self._name = f"load-{time.monotonic_ns()}"
        self._hearing = asyncio.create_task(self._hear())
        self._asking = asyncio.create_task(self._ask())
        return self

    async def __aexit__(self, *_: object) -> None:
        """Stop asking, wait for what is open, disconnect."""
        self._asking.cancel()
        end = time.monotonic() + DEADLINE_MS / 1000 + 2
        while self.open and time.monotonic() < end:
            await asyncio.sleep(0.05)
        self._hearing.cancel()
        for task in (self._asking, self._hearing):
            with suppress(asyncio.CancelledError):
                await task
        await self._producer.stop()
        await self._consumer.stop()

    @property
    def open(self) -> int:
        """Requests without an answer."""
        return sum(1 for asked in self.asked.values() if asked.answered_s is None)

    async def _ask(self) -> None:
        keys = [f"neuron-{i}".encode() for i in range(KEYS)]
        homes = [partition_of(key, self.partitions) for key in keys]
        begun = time.monotonic()
        for number in itertools.count():
            due = begun + number / self.rate
            while (now := time.monotonic()) < due:
                await asyncio.sleep(min(TICK_S, due - now))
            name, at = f"{self._name}-{number}".encode(), number % KEYS
            deadline = str(int(time.time() * 1000) + DEADLINE_MS).encode()
            headers = [("id", name), ("operation", self.operation.encode()), ("deadline-ms", deadline)]
            self.asked[name] = Asked(homes[at], due)
            await self._producer.send(
                self.source, self.value(number), key=keys[at], partition=homes[at], headers=headers
            )

    async def _hear(self) -> None:
        async for record in self._consumer:
            held = dict(record.headers)
            asked = self.asked.get(held.get("id", b""))
            if asked is not None and asked.answered_s is None:
                asked.answered_s, asked.status = time.monotonic(), held.get("status", b"ok").decode()

    def latencies_ms(self, after_s: float = 0.0) -> list[float]:
        """Of what was due from `after_s` on, sorted; what has no answer counts as the deadline."""
        found = (a for a in self.asked.values() if a.due_s >= after_s)
        return sorted(DEADLINE_MS if a.answered_s is None else (a.answered_s - a.due_s) * 1000 for a in found)

    def recovery_s(self, since_s: float) -> float:
        """How long after `since_s` every partition had answered something that was asked after it."""
        first: dict[int, float] = {}
        for asked in self.asked.values():
            if asked.due_s >= since_s and asked.answered_s is not None and asked.status == "ok":
                held = first.get(asked.partition)
                first[asked.partition] = asked.answered_s if held is None else min(held, asked.answered_s)
        return max(first.values()) - since_s if len(first) == self.partitions else float("inf")


def percentile(values: list[float], share: float) -> float:
    """Of sorted values."""
    return values[min(len(values) - 1, int(len(values) * share))]
