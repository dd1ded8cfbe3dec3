"""Calls that cores make to a handler that is somewhere else: each is carried out beside everything else.

An answer for an incarnation that is over is thrown away. How many are under way at once is the cores' business, how
long one takes that of whoever carries it out; a call that raises ends the service.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from hal9.backend.handler import Outcome
from hal9.log.effects import Call
from hal9.log.holding import Holding

Calling = Callable[[Call], Awaitable[Sequence[Outcome]]]


class Calls:
    """Carries calls out, if the service says how."""

    def __init__(self, calling: Calling | None) -> None:
        self._calling = calling
        self._made: asyncio.Queue[tuple[Holding, Call]] = asyncio.Queue()
        self.under_way = 0

    def make(self, holding: Holding, call: Call) -> None:
        """A core asked."""
        self._made.put_nowait((holding, call))

    async def run(self) -> None:
        """Carry out what is asked, until cancelled."""
        async with asyncio.TaskGroup() as group:
            while True:
                holding, call = await self._made.get()
                if self._calling is None:
                    raise RuntimeError(f"{holding!r} calls a handler, and the service has none to call")
                if not holding.dropped:
                    group.create_task(self._carry_out(self._calling, holding, call))

    async def _carry_out(self, calling: Calling, holding: Holding, call: Call) -> None:
        self.under_way += 1
        try:
            outcomes = await calling(call)
        finally:
            self.under_way -= 1
        holding.called(call, outcomes)
