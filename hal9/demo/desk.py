"""Where the workload asks: paced to a rate, and every `learn` request remembered for the audit."""

import asyncio
from collections.abc import AsyncIterator, Sequence

from hal9.client import Answer, Client
from hal9.demo.audit import Taught
from hal9.demo.board import Traffic

BURST_S = 0.05
"""How far the pace may be caught up after a pause: an open door afterwards would be a wave, not a rate."""


class Pace:
    """Lets through `rate` per second, in the order of asking."""

    def __init__(self, rate: float) -> None:
        self._gap_s = 1.0 / rate
        self._next_s = 0.0

    async def turn(self) -> None:
        """Returns when the next one may go."""
        now_s = asyncio.get_running_loop().time()
        mine_s = max(self._next_s, now_s - BURST_S)
        self._next_s = mine_s + self._gap_s
        if mine_s > now_s:
            await asyncio.sleep(mine_s - now_s)


class Desk:
    """Callable as the workload wants it: many `(key, operation, value)` in, their answers out, in order."""

    def __init__(self, client: Client, rate: float, deadline_s: float) -> None:
        self._client, self._deadline_s = client, deadline_s
        self._pace = Pace(rate)
        self.taught: list[Taught] = []
        self._learned = 0

    async def __call__(self, asks: Sequence[tuple[str, str, bytes]]) -> list[Answer]:
        """Ask them all, and wait for all."""
        answers = await self._client.request_many(self._paced(asks), deadline_s=self._deadline_s)
        for (key, operation, value), answer in zip(asks, answers, strict=True):
            if operation == "learn":
                self.taught.append(Taught(answer.id, key, value, answer.status))
                self._learned += answer.status == "ok"
        return answers

    async def _paced(self, asks: Sequence[tuple[str, str, bytes]]) -> AsyncIterator[tuple[str, str, bytes]]:
        for ask in asks:
            await self._pace.turn()
            yield ask

    def traffic(self) -> Traffic:
        """The counts so far."""
        counts = self._client.counts
        return Traffic(
            sent=counts.sent,
            answered=counts.answered,
            ok=counts.ok,
            error=counts.error,
            rejected=counts.rejected,
            timeout=counts.timeout,
            learned=self._learned,
        )
