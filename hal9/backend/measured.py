"""Calls of a handler that is somewhere else, measured: how many are under way, how they end, how long they take."""

import asyncio
from collections.abc import Sequence

from hal9.backend.bodies import FAILED
from hal9.backend.handler import Missing, Outcome, Refused
from hal9.log.calling import Calling
from hal9.log.effects import Call
from hal9.telemetry.families import HANDLER_CALLS, HANDLER_DURATION, HANDLER_IN_FLIGHT
from hal9.telemetry.metrics import Metrics

ENDS = ("answered", "failed", "slow", "unreached")


def ended(outcomes: Sequence[Outcome]) -> str:
    """The worst that came of a batch: one of `ENDS`."""
    if Missing.UNREACHED in outcomes:
        return "unreached"
    if Missing.SLOW in outcomes:
        return "slow"
    failed = any(isinstance(outcome, Refused) and outcome.code == FAILED for outcome in outcomes)
    return "failed" if failed else "answered"


class Measured:
    """Carries calls out as `calling` does. One that is cancelled, as at the end of the service, counts nowhere."""

    def __init__(self, calling: Calling, metrics: Metrics) -> None:
        self._calling = calling
        self._in_flight = metrics.gauge(HANDLER_IN_FLIGHT)
        self._calls = {end: metrics.counter(HANDLER_CALLS, outcome=end) for end in ENDS}
        self._durations = {end: metrics.histogram(HANDLER_DURATION, outcome=end) for end in ENDS}

    async def __call__(self, call: Call) -> Sequence[Outcome]:
        """See `hal9.log.calling`."""
        loop = asyncio.get_running_loop()
        began_s = loop.time()
        with self._in_flight.track_inprogress():
            outcomes = await self._calling(call)
        end = ended(outcomes)
        self._calls[end].inc()
        self._durations[end].observe(loop.time() - began_s)
        return outcomes
