"""A handler that is somewhere else, as the seeded world plays it: answers late, is not reached, is too slow.

When a call is answered is chance's (a call is one of the questions that an instance has open); what fails is counted
off, so that a script of actions is a schedule.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from hal9.backend.execution import run
from hal9.backend.handler import BatchHandler, Missing, Outcome
from hal9.log.effects import Call


@dataclass(slots=True)
class Elsewhere:
    """Every `trouble`-th call fails (0: none), in turn as unreached and as slow."""

    handler: BatchHandler
    trouble: int = 0
    calls: int = 0

    def __call__(self, call: Call) -> Sequence[Outcome]:
        """One outcome per item."""
        self.calls += 1
        if self.trouble and self.calls % self.trouble == 0:
            missing = Missing.SLOW if self.calls // self.trouble % 3 == 0 else Missing.UNREACHED
            return [missing] * len(call.items)
        return run(self.handler, list(call.items), call.off)
