"""A script that breaks a promise, made as short as it gets: every action that is left is needed for the harm.

Actions that are not possible are passed over, and what the script leaves undone is done afterwards in a fixed order; so
any part of a script is a script, and the rest of it means the same without the part that was taken out.
"""

from collections.abc import Callable, Iterator

from simulation.director import Action
from simulation.history import Violation
from simulation.world import World

ATTEMPTS = 4_000
"""Replays, at the most: some milliseconds each."""
DISTURBING = (
    "clock",
    "compact",
    "crash",
    "cut",
    "lose_producer",
    "stop",
    "rebalance",
    "resume",
    "sink",
    "tick",
    "commit",
)
PEOPLE = ("ask", "repeat", "route", "rollback", "pin")

Make = Callable[[], World]
"""A world as it was before the first action."""


def broken(make: Make, script: list[Action]) -> tuple[str | None, World]:
    """The promise that a script breaks (None: none), and the world it left."""
    world = make()
    try:
        world.replay(script)
    except Violation as violation:
        return violation.promise, world
    return None, world


class Shrinking:
    """Shortens one script. `script` is the shortest one found so far that breaks the same promise."""

    def __init__(self, make: Make, script: list[Action], promise: str) -> None:
        self._make, self._promise = make, promise
        self.script = list(script)
        self.attempts = 0

    def run(self) -> list[Action]:
        """Whole kinds of actions first, then ever smaller pieces, until no single action can go."""
        before = None
        while before != len(self.script) and self.attempts < ATTEMPTS:
            before = len(self.script)
            for verb in (*DISTURBING, *PEOPLE, "ack", "feed", "land", "fold", "answer"):
                self._try([action for action in self.script if action[0] != verb])
            for verb in (*DISTURBING, *PEOPLE):
                for action in [action for action in self.script if action[0] == verb]:
                    self._try([kept for kept in self.script if kept is not action])
            self._pieces()
            self._try(_merged(self.script))
        return self.script

    def _pieces(self) -> None:
        size = max(1, len(self.script) // 2)
        while size >= 1 and self.attempts < ATTEMPTS:
            for start in self._starts(size):
                self._try(self.script[:start] + self.script[start + size :])
            size //= 2

    def _starts(self, size: int) -> Iterator[int]:
        """From the end, so that what is taken out moves nothing that is still to be tried."""
        return iter(range(max(0, len(self.script) - size), -1, -size))

    def _try(self, script: list[Action]) -> bool:
        if len(script) == len(self.script) or self.attempts >= ATTEMPTS:
            return False
        self.attempts += 1
        promise, world = broken(self._make, script)
        if promise != self._promise:
            return False
        self.script = world.script[: len(script)]
        return True


def _merged(script: list[Action]) -> list[Action]:
    """The same with one step of the clock where several follow each other."""
    merged: list[Action] = []
    for action in script:
        if merged and action[0] == merged[-1][0] == "clock":
            merged[-1] = ("clock", int(action[1] or 0) + int(merged[-1][1] or 0))
        else:
            merged.append(action)
    return merged


def shrunk(make: Make, script: list[Action]) -> list[Action]:
    """The shortest script found that breaks what `script` breaks; `script` itself if that breaks nothing."""
    promise, _ = broken(make, script)
    return script if promise is None else Shrinking(make, script, promise).run()
