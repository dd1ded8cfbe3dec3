"""Whether the answers of one key can be those of one sequence of operations: linearizability, searched. Pure.

The search is that of Wing and Gong with the memory of Lowe: operations are put into a sequence one by one, each after
all that had returned before it was invoked, and no pair of (operations done, labels held) is looked at twice. What the
operations mean is said here a second time (`simulation.applied` is the first), so that one mistake cannot hide another.
The search is exact up to its bound; beyond it the verdict is `UNDECIDED`, never a good one.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

Labels = tuple[str, ...]
"""What a key holds: the values that were applied to it, in order."""

BOUND = 20_000
"""Configurations that one search may look at, in a fraction of a second; a history of a seed needs a few dozen."""

_Configuration = tuple[int, Labels]
"""The operations that are done, as bits, and what the key holds after them."""


class Verdict(Enum):
    """What a search found."""

    LINEARIZABLE = "linearizable"
    """There is such a sequence."""
    NOT_LINEARIZABLE = "not linearizable"
    """There is none."""
    UNDECIDED = "undecided"
    """The search reached its bound before it found one."""


@dataclass(slots=True)
class Operation:
    """One request of a client, its repeats included, and the answer that counts: the first that says an outcome.

    Times are places in the order in which records landed. Without an answer `returned` and `status` are None.
    """

    id: str
    operation: str
    label: str
    invoked: int
    position: int | None = None
    """Its first place on the partition of its key; None: it is not there yet, or it is `floating`."""
    returned: int | None = None
    status: str | None = None
    error: str | None = None
    answer: Labels | None = None
    """What an `ok` shows; None also for a value that is no list of labels."""
    floating: bool = False
    """Its topic was made anew before it was answered: its place may be there, or where it was repeated."""
    deferred: bool = False
    """An earlier answer said `timeout` or came from a replica: others need not wait for this one any more."""

    @property
    def reads(self) -> bool:
        """Whether it changes nothing."""
        return self.operation == "read"

    @property
    def open(self) -> bool:
        """Whether it may take effect at any time after it was invoked, or never."""
        return self.status in {None, "timeout"}

    @property
    def executed(self) -> bool:
        """Whether its answer says what it met: `ok`, or refused by the handler."""
        return self.status == "ok" or (self.status == "error" and self.error == "refused")


def specified(held: Labels, operation: str, label: str) -> tuple[Labels, Labels | None]:
    """What a key holds after an operation, and the answer to it; None: it is refused, and nothing changed."""
    if operation == "read":
        return held, held
    if operation == "del":
        return (), held
    if operation in {"mut", "odd"} or (operation == "cond" and len(held) % 2 == 0):
        return (*held, label), (*held, label)
    return held, None


def after(held: Labels, operation: Operation) -> Labels | None:
    """What a key holds after an operation; None: an operation that meets this is not answered as this one was."""
    made, answer = specified(held, operation.operation, operation.label)
    if operation.open:
        return made
    if operation.status == "ok":
        return made if answer is not None and answer == operation.answer else None
    return held if answer is None else None


def judge(operations: Sequence[Operation], *, in_order: bool = False, bound: int = BOUND) -> Verdict:
    """Whether there is a sequence that explains every answer of one key.

    `in_order`: one, besides, in which changes take effect in the order of their positions, and no read comes before a
    change with a lower position, unless one of the two was answered `timeout` first.
    """
    history = _History(operations, in_order=in_order)
    beginning: _Configuration = (0, ())
    seen, stack = {beginning}, [beginning]
    while stack:
        done, held = stack.pop()
        if history.complete(done):
            return Verdict.LINEARIZABLE
        if len(seen) > bound:
            return Verdict.UNDECIDED
        for found in history.next(done, held):
            if found not in seen:
                seen.add(found)
                stack.append(found)
    return Verdict.NOT_LINEARIZABLE


class _History:
    """The operations that matter, as bits: those that were executed, by their return, then those that are open."""

    __slots__ = ("_before", "_forecloses", "_needed", "_not_after", "_operations")

    def __init__(self, operations: Sequence[Operation], *, in_order: bool) -> None:
        executed = sorted((one for one in operations if one.executed), key=lambda one: one.returned or 0)
        maybe = [one for one in operations if one.open and not one.reads]
        self._operations = [*executed, *maybe]
        self._needed = (1 << len(executed)) - 1
        self._before, self._not_after = [], []
        for one in self._operations:
            before = [(other.returned or 0) < one.invoked or (in_order and _first(other, one)) for other in executed]
            self._before.append(_bits(before))
            not_after = [in_order and one.open and _overtaken(one, other) for other in self._operations]
            self._not_after.append(_bits(not_after))
        self._forecloses = [
            _bits([bool(after & 1 << at) for after in self._not_after]) for at in range(len(self._operations))
        ]

    def complete(self, done: int) -> bool:
        """Whether every answer is explained."""
        return done & self._needed == self._needed

    def next(self, done: int, held: Labels) -> list[_Configuration]:
        """Where one more operation leads, the most promising last.

        An operation that was executed and changes nothing here may as well come now, if it forecloses nothing to one
        that is open: then there is no other choice.
        """
        found: list[_Configuration] = []
        for at, operation in enumerate(self._operations):
            bit = 1 << at
            if done & bit or self._before[at] & ~done or self._not_after[at] & done:
                continue
            made = after(held, operation)
            if made is None:
                continue
            if made == held and bit & self._needed and not self._forecloses[at] & ~done:
                return [(done | bit, held)]
            if made != held or bit & self._needed:
                found.append((done | bit, made))
        found.reverse()
        return found


def _bits(flags: Sequence[bool]) -> int:
    return sum(1 << at for at, flag in enumerate(flags) if flag)


def _first(one: Operation, other: Operation) -> bool:
    """Whether `one`, a change that was executed, comes before `other` by their positions."""
    if one.reads or one.position is None or other.position is None or one.position >= other.position:
        return False
    return not (other.reads and (one.deferred or other.deferred))


def _overtaken(one: Operation, other: Operation) -> bool:
    """Whether `one`, which is open, can no longer take effect when `other` has, which lies behind it."""
    if other.reads or not (other.open or other.status == "ok"):
        return False
    return one.position is not None and other.position is not None and one.position < other.position
