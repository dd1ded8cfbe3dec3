"""A load whose effects can be counted: every neuron learns again and again, and remembers how often it did."""

import asyncio
from collections import Counter
from typing import Any

import msgpack

from hal9.client import Answer, Client

AT_ONCE = 3
"""Requests of one neuron under way at a time."""
LESSON = msgpack.packb({"inputs": [1.0, 0.5], "delta": 0.001})
DEADLINE_S = 60.0


class Load:
    """Learns at every neuron in turn until told to stop; counts what was answered."""

    def __init__(self, client: Client, neurons: list[str], rate: float = 0.0) -> None:
        """`rate`: requests per second at the most; 0: as many as are answered."""
        self._client, self.neurons = client, neurons
        self._pause_s = AT_ONCE * len(neurons) / rate if rate else 0.0
        self.stopping, self._moved = asyncio.Event(), asyncio.Event()
        self.sent: Counter[str] = Counter()
        self.answered: dict[str, Counter[str]] = {key: Counter() for key in neurons}

    async def create(self) -> None:
        """Every neuron, with two weights."""
        for key in self.neurons:
            neuron: dict[str, Any] = {"neuron_id": key, "weights": [0.5, 0.25]}
            answer = await self._client.request(key, msgpack.packb(neuron), operation="create", deadline_s=DEADLINE_S)
            if answer.status != "ok":
                raise RuntimeError(f"{key} was not created: {answer}")

    async def run(self) -> None:
        """Until `stopping`."""
        async with asyncio.TaskGroup() as group:
            for key in self.neurons:
                group.create_task(self._neuron(key))

    async def _neuron(self, key: str) -> None:
        while not self.stopping.is_set():
            await asyncio.gather(*(self.learn(key) for _ in range(AT_ONCE)))
            self._moved.set()
            await asyncio.sleep(self._pause_s)

    async def learn(self, key: str) -> Answer:
        """Once more, counted."""
        self.sent[key] += 1
        answer = await self._client.request(key, LESSON, operation="learn")
        self.answered[key][answer.status] += 1
        return answer

    async def go_on(self, count: int, deadline_s: float) -> None:
        """Return when so many more were sent."""
        until = self.sent.total() + count
        async with asyncio.timeout(deadline_s):
            while self.sent.total() < until:
                self._moved.clear()
                await self._moved.wait()

    def statuses(self) -> Counter[str]:
        """Answers by status, of all neurons."""
        return sum(self.answered.values(), Counter[str]())

    async def violations(self) -> list[str]:
        """What of the counter invariant does not hold: `ok <= effects <= ok + timeout`, and everything answered."""
        wrong: list[str] = []
        for key, counts in self.answered.items():
            if counts.total() != self.sent[key]:
                wrong.append(f"{key}: {counts.total()} of {self.sent[key]} answered")
            found = await self._effects(key)
            if not counts["ok"] <= found <= counts["ok"] + counts["timeout"]:
                wrong.append(f"{key}: {found} effects, {dict(counts)}")
        return wrong

    async def _effects(self, key: str) -> int:
        answer = await self._client.request(key, b"", operation="read", deadline_s=DEADLINE_S)
        if answer.status != "ok" or answer.value is None:
            raise RuntimeError(f"{key} cannot be read: {answer}")
        return int(msgpack.unpackb(answer.value)["memory"].get("learned", 0))
