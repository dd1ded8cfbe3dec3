"""What people do in the seeded world: they send requests, and they change the route."""

from hal9 import wire
from hal9.control.reducer import ControlState, fold
from hal9.testing.memory import MemoryLogs
from schemas.base import encode
from schemas.control import AnyControl, Backfill, Pin, Rollback, Route, Start
from simulation.applied import MUTATING
from simulation.cast import MIGRATION
from simulation.chance import Chance
from simulation.history import Violation
from simulation.invariants import Asked, first_answers
from simulation.schedule import Schedule


class Clients:
    """Remembers what was asked, and what the asker had seen by then; `control` is the log of that name, folded."""

    def __init__(self, rng: Chance, plan: Schedule, logs: MemoryLogs) -> None:
        self._rng, self._plan, self._logs = rng, plan, logs
        self.asked: dict[str, Asked] = {}
        self.control = ControlState(MIGRATION)
        self._records = 0

    def ask(self, now_ms: int) -> None:
        """A client sends a request, or one that it sent before."""
        rng, number = self._rng, len(self.asked)
        if self.asked and rng.hit(0.12):
            asked = rng.choice(list(self.asked.values())[-4:])
        else:
            operation = rng.choice((*MUTATING, "read", "read"))
            short = now_ms + rng.randint(5, 400) if rng.hit(self._plan.short) else None
            asked = Asked(f"i{number}", rng.choice(self._plan.keys), operation, short, rng.hit(self._plan.bad))
            answers = first_answers(self._logs, 0)
            for earlier in self.asked.values():
                answer = answers.get((asked.key, earlier.id))
                if answer is not None and wire.text(answer.headers, wire.STATUS) == "ok":
                    asked.seen.append(earlier.id)
            self.asked[asked.id] = asked
        headers = [(wire.ID, asked.id.encode()), (wire.OPERATION, asked.operation.encode())]
        if asked.deadline_ms is not None or asked.bad:
            headers.append((wire.DEADLINE, b"soon" if asked.bad else b"%d" % (asked.deadline_ms or 0)))
        record = self._logs["requests", 0].append(asked.key, asked.id.encode(), headers, now_ms)
        asked.positions.append(record.offset)

    def decide(self, now_ms: int, percentage: float | None = None) -> None:
        """Somebody changes the route; `percentage`: to what, else chance decides."""
        rng = self._rng
        self.fold()
        held = self.control.route.percentage
        wanted = rng.choice([p for p in (0.0, 50.0, 100.0) if p != held]) if percentage is None else percentage
        if percentage is None and self._plan.pins and rng.hit(0.3):
            keys = [rng.choice(self._plan.keys).decode()]
            self._append(Pin(id=self._id(), migration=MIGRATION, actor="world", at_ms=now_ms, keys=keys))
        elif wanted == 0.0 and rng.hit(0.5):
            self._append(
                Rollback(
                    id=self._id(),
                    migration=MIGRATION,
                    actor="world",
                    at_ms=now_ms,
                    expected_epoch=self.control.epoch,
                    trigger="manual",
                )
            )
        else:
            self._route(now_ms, wanted)
        self.fold()

    def _route(self, now_ms: int, percentage: float) -> None:
        epoch = self.control.epoch
        if self.control.rolled_back is not None:
            self._append(
                Start(
                    id=self._id(),
                    migration=MIGRATION,
                    actor="world",
                    at_ms=now_ms,
                    expected_epoch=epoch,
                    partitions=1,
                    plan={},
                )
            )
        self._append(
            Route(
                id=self._id(),
                migration=MIGRATION,
                actor="world",
                at_ms=now_ms,
                expected_epoch=epoch,
                percentage=percentage,
                shadow=100.0 if self._plan.shadow else 0.0,
            )
        )

    def backfill(self, now_ms: int) -> None:
        """Everything cold is to be copied."""
        self._append(Backfill(id=self._id(), migration=MIGRATION, actor="world", at_ms=now_ms, percentage=100))

    def _id(self) -> str:
        self._records += 1
        return f"w{self._records}"

    def _append(self, record: AnyControl) -> None:
        self._logs["control", 0].append(MIGRATION.encode(), encode(record), (), record.at_ms)

    def fold(self) -> None:
        """Read `control` to its end; a record that is neither accepted nor a duplicate violates something."""
        log = self._logs["control", 0]
        for record in log.read(self.control.position, log.end):
            outcome = fold(self.control, record.offset, record.value)
            if outcome.verdict not in ("accepted", "duplicate"):
                raise Violation(f"control record {record.offset}: {outcome}")
