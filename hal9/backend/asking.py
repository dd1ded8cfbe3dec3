"""Asking a handler that is somewhere else: what is under way, and what of the answers still holds. Pure.

A handler is pure, so a result is a fact about a state, an operation and a value, whenever it was found out. A core asks
ahead and goes on with everything else; when a result comes back, every condition of executing the request is looked at
again, and it is executed then, at once, if its key still has the very state that was asked about. Else it is asked
again. So no rule of the core knows that an answer took time: order per key, seals, claims are those of a handler at
hand. What cannot be reached changes nothing: the request stays where it is, first of its key, until its deadline.
"""

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from hal9.backend.execution import Executed
from hal9.backend.handler import Missing, Outcome, Refused, Result
from hal9.backend.queues import Task
from hal9.backend.reads import Read
from hal9.backend.shadows import Aligned
from hal9.backend.store import Held, Store
from hal9.backend.twins import Twin

PAUSE_MS = 200
"""Before a handler that was not reached is tried again."""
BESIDE_LIMIT = 1_000
"""Shadows, twins and reads that may wait to be asked: what is more is incomparable, or left out."""
GIVEN_UP = Executed("timeout", "handler-unreachable", None, None)

Run = Aligned | Twin | Read
"""What runs beside the owner's requests, each on a state of its own."""
Known = Mapping[int, tuple[Held, Result]]
"""Results by where their requests lie on `dispatched`, each with the state that was asked about."""


@dataclass(frozen=True, slots=True)
class Question:
    """A request, and the state it was asked about."""

    task: Task
    held: Held


@dataclass(frozen=True, slots=True)
class Sorted:
    """Requests whose results are known on the state that their keys have now, that nobody waits for, to be asked."""

    known: list[tuple[Task, Result]]
    given_up: list[Task]
    questions: list[Question]


@dataclass(slots=True)
class Asking:
    """One batch of primaries under way at most, beside it one of shadows and twins.

    After trouble one request alone is the probe; each batch that was answered doubles the next one, up to `most`. So a
    request that hangs its handler ends alone in a batch, and that one is answered `handler-timeout`.
    """

    most: int
    beside: deque[Run] = field(default_factory=deque)
    down: bool = False
    _limit: int = 0
    _busy: bool = False
    _busy_beside: bool = False
    _not_before: float = 0.0

    def __post_init__(self) -> None:
        self._limit = self.most

    def room(self, now_ms: float) -> int:
        """How many requests may be asked about now."""
        return 0 if self._busy or now_ms < self._not_before else self._limit

    def sort(self, tasks: Iterable[Task], store: Store, known: Known, now_ms: float) -> Sorted:
        """What becomes of requests that may be executed; if any are to be asked about, they are under way from now."""
        found = Sorted([], [], [])
        for task in tasks:
            held, result = store.held(task.key), known.get(task.offset)
            if result is not None and result[0] is held:
                found.known.append((task, result[1]))
            elif self.down and task.request.deadline_ms <= now_ms:
                found.given_up.append(task)
            else:
                found.questions.append(Question(task, held))
        del found.questions[self.room(now_ms) :]
        self._busy = self._busy or bool(found.questions)
        return found

    def heard(self, questions: Sequence[Question], outcomes: Sequence[Outcome], now_ms: float) -> Known:
        """The batch is back: what is known now."""
        self._busy = False
        missing = [outcome for outcome in outcomes if isinstance(outcome, Missing)]
        self._note(missing, now_ms)
        if len(questions) == 1 and missing == [Missing.SLOW]:
            outcomes = [Refused("handler-timeout")]
        return {
            question.task.offset: (question.held, outcome)
            for question, outcome in zip(questions, outcomes, strict=True)
            if not isinstance(outcome, Missing)
        }

    def _note(self, missing: Sequence[Missing], now_ms: float) -> None:
        self.down = bool(missing)
        if not missing:
            self._limit = min(self._limit * 2, self.most)
            return
        self._limit = 1
        if Missing.UNREACHED in missing:
            self._not_before = now_ms + PAUSE_MS

    # ------------------------------------------------------------------ shadows and twins
    def add(self, runs: Iterable[Run]) -> list[Run]:
        """To be asked about beside the primaries; returns those for which there is no room."""
        surplus = []
        for one in runs:
            if len(self.beside) >= BESIDE_LIMIT:
                surplus.append(one)
            else:
                self.beside.append(one)
        return surplus

    def take_beside(self, now_ms: float) -> list[Run]:
        """The next ones, which count as under way; none while some are, or while the handler is not reached."""
        if self._busy_beside or not self.beside or now_ms < self._not_before:
            return []
        self._busy_beside = True
        return [self.beside.popleft() for _ in range(min(self._limit, len(self.beside)))]

    def heard_beside(self, outcomes: Sequence[Outcome], now_ms: float) -> None:
        """They are back."""
        self._busy_beside = False
        if any(outcome is Missing.UNREACHED for outcome in outcomes):
            self._not_before = now_ms + PAUSE_MS
