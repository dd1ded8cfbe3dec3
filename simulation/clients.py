"""What people do in the seeded world: they send requests, and they change the route. One method per action."""

from hal9 import wire
from hal9.control.flags import changed
from hal9.testing.memory import MemoryLogs
from schemas.base import encode
from schemas.control import AnyControl, Backfill, Pin, Rollback, Route, SetFlags, Start
from simulation.asked import Asked
from simulation.cast import DEADLINE_MS, MIGRATION
from simulation.witness import Witness

REPEATED_MS = 30_000
"""For how long clients repeat a request: half of the id window, so that a repeat is read within it."""


class Clients:
    """Sends what it is told to; the witness knows what was asked, and what the asker had seen by then."""

    def __init__(self, logs: MemoryLogs, witness: Witness, shadow: float) -> None:
        self._logs, self._witness, self._shadow = logs, witness, shadow
        self.sent: list[Asked] = []
        self._records = 0

    @property
    def percentage(self) -> float:
        """What the route says now."""
        return self._witness.control.route.percentage

    @property
    def held(self) -> str:
        """The layers that stay at flat now, as the flag has them."""
        return ",".join(self._witness.control.flags.held)

    # ------------------------------------------------------------------ requests
    def ask(
        self,
        label: str,
        key: bytes,
        partition: int,
        operation: str,
        deadline_ms: int | None,
        bad: bool,
        anonymous: bool,
        now_ms: int,
    ) -> bool:
        """A new request, to any partition; `anonymous`: without an id. `deadline_ms`: from now on."""
        log = self._logs["requests", partition]
        name = self._witness.default_id(partition, log.end) if anonymous else label
        due_ms = now_ms + (DEADLINE_MS if deadline_ms is None else deadline_ms)
        asked = Asked(label, name, key, operation, None if deadline_ms is None else due_ms, due_ms, bad)
        asked.asked_ms = now_ms
        asked.floor = self._seen(key)
        self._witness.asked[key, name] = asked
        if not anonymous:
            self.sent.append(asked)
        self._send(asked, partition, now_ms, anonymous=anonymous)
        return True

    def repeat(self, label: str, partition: int, now_ms: int) -> bool:
        """A request that was sent before, with its id and its deadline, well within the window of ids."""
        asked = next((asked for asked in self.sent if asked.label == label), None)
        if asked is None or now_ms > asked.asked_ms + REPEATED_MS:
            return False
        self._send(asked, partition, now_ms)
        return True

    def _send(self, asked: Asked, partition: int, now_ms: int, *, anonymous: bool = False) -> None:
        headers = [(wire.OPERATION, asked.operation.encode())]
        if not anonymous:
            headers.append((wire.ID, asked.id.encode()))
        if asked.deadline_ms is not None or asked.bad:
            headers.append((wire.DEADLINE, b"soon" if asked.bad else b"%d" % (asked.deadline_ms or 0)))
        self._logs["requests", partition].append(asked.key, asked.label.encode(), headers, now_ms)

    def _seen(self, key: bytes) -> int:
        """The newest version of a key that an answer has shown."""
        seen = 0
        for asked in self._witness.asked.values():
            if asked.key == key and asked.status == "ok":
                read = self._witness.version_read(asked, asked.answers[0].value) if asked.reads else asked.effect
                seen = max(seen, read or 0)
        return seen

    # ------------------------------------------------------------------ the route
    def route(self, percentage: float, now_ms: int) -> bool:
        """Somebody changes the percentage, after a new start if it was rolled back."""
        self._begin(now_ms)
        self._append(
            Route(
                id=self._id(),
                migration=MIGRATION,
                actor="world",
                at_ms=now_ms,
                expected_epoch=self._witness.control.epoch,
                percentage=percentage,
                shadow=self._shadow,
            )
        )
        return True

    def flag(self, assignment: str, now_ms: int) -> bool:
        """Somebody sets a flag, after a new start if it was rolled back; with shadows, flat runs twins from then on."""
        self._begin(now_ms)
        control = self._witness.control
        assignments = [assignment, "twin=100"] if self._shadow else [assignment]
        self._append(
            SetFlags(
                id=self._id(),
                migration=MIGRATION,
                actor="world",
                at_ms=now_ms,
                expected_epoch=control.epoch,
                flags=changed(control.flags, assignments),
            )
        )
        return True

    def _begin(self, now_ms: int) -> None:
        control = self._witness.control
        if control.rolled_back is not None:
            self._append(
                Start(
                    id=self._id(),
                    migration=MIGRATION,
                    actor="world",
                    at_ms=now_ms,
                    expected_epoch=control.epoch,
                    partitions=self._witness.partitions,
                    plan={},
                )
            )

    def rollback(self, now_ms: int, layer: str | None = None) -> bool:
        """Everything back to flat, or the units of one layer."""
        self._append(
            Rollback(
                id=self._id(),
                migration=MIGRATION,
                actor="world",
                at_ms=now_ms,
                expected_epoch=self._witness.control.epoch,
                trigger="manual",
                scope={} if layer is None else {"layer": layer},
            )
        )
        return True

    def rollback_layer(self, layer: str, now_ms: int) -> bool:
        """The units of one layer back to flat."""
        return self.rollback(now_ms, layer)

    def pin(self, key: bytes, now_ms: int) -> bool:
        """A key is held where it is."""
        record = Pin(id=self._id(), migration=MIGRATION, actor="world", at_ms=now_ms, keys=[key.decode()])
        self._append(record)
        return True

    def backfill(self, now_ms: int) -> bool:
        """Everything cold is to be copied."""
        self._append(Backfill(id=self._id(), migration=MIGRATION, actor="world", at_ms=now_ms, percentage=100))
        return True

    def _id(self) -> str:
        self._records += 1
        return f"w{self._records}"

    def _append(self, record: AnyControl) -> None:
        self._logs["control", 0].append(MIGRATION.encode(), encode(record), (), record.at_ms)
