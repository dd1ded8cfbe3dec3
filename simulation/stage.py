"""A quiet stage for tests of one rule: the same cores, logs and runtimes as in the seeded world, but nothing by chance.

`run` lets everything that was started take in what is there, in a fixed order, until nothing moves; what a test wants
to happen late or never it holds back (`held`) or appends itself.
"""

from collections.abc import Callable, Collection, Sequence
from typing import Any

from hal9 import wire
from hal9.backend.handler import Outcome
from hal9.control.flags import changed
from hal9.control.reducer import ControlState, fold
from hal9.log.effects import Call, Headers, PartitionCore
from hal9.testing.memory import MemoryGroup, MemoryLogs, Stored
from hal9.testing.runtime import MemoryRuntime
from schemas.base import encode
from schemas.control import Route, SetFlags
from simulation.cast import MIGRATION, cast
from simulation.history import Violation

BEGINNING_MS = 1_700_000_000_000
ROUNDS = 1_000


class Stage:
    """One partition. `held` names logs whose sends do not land; `calls`: questions are not answered."""

    def __init__(
        self,
        *services: str,
        partition: int = 0,
        partitions: int = 1,
        calling: Callable[[Call], Sequence[Outcome]] | None = None,
        **casting: Any,
    ) -> None:
        self.partition = partition
        self.logs = MemoryLogs()
        self.now_ms = BEGINNING_MS
        self.held: set[str] = set()
        self.groups: dict[str, MemoryGroup] = {}
        self.runtimes: list[MemoryRuntime] = []
        self.calling = calling
        """What answers the calls of handlers that are somewhere else."""
        self._makers: dict[str, Callable[[str], PartitionCore]] = cast(partition, partitions, **casting)
        self._routes = 0
        for service in services:
            self.start(service)

    def start(self, service: str) -> MemoryRuntime:
        """An instance takes the partition over; the one before it goes on as a zombie."""
        group = self.groups.setdefault(service, MemoryGroup())
        name = f"{service}-{group.generation + 1}"
        make, control = self._makers[service], ControlState(MIGRATION)
        runtime = MemoryRuntime(name, self.logs, make, group, control, partition=self.partition, calling=self._call)
        runtime.open(self.now_ms)
        self.runtimes.append(runtime)
        return runtime

    def _call(self, call: Call) -> Sequence[Outcome]:
        if self.calling is None:
            raise Violation("a call that nobody answers")
        return self.calling(call)

    def run(self, only: Collection[MemoryRuntime] | None = None) -> "Stage":
        """Until nothing moves (`Violation` if that never happens); `only`: these instances and their sends alone."""
        for _ in range(ROUNDS):
            moved = [self._step(runtime) for runtime in self.runtimes if only is None or runtime in only]
            if not any(moved):
                return self
        raise Violation("never at rest")

    def _step(self, runtime: MemoryRuntime) -> bool:
        moved = False
        for name in runtime.sending():
            if name[0] not in self.held:
                runtime.land(name, self.now_ms)
                moved = True
        if runtime.alive and runtime.outlived:
            runtime.notice(self.now_ms)
            moved = True
        for name in runtime.acks() if runtime.alive else ():
            runtime.deliver_ack(name, self.now_ms)
            moved = True
        if runtime.alive and runtime.asks and "calls" not in self.held:
            moved = runtime.answer(self.now_ms) or moved
        if runtime.alive and runtime.behind_control():
            runtime.fold(1000, self.now_ms)
            moved = True
        for log in runtime.readable() if runtime.alive else ():
            runtime.feed(log, 1000, self.now_ms)
            moved = True
        return moved

    def pass_time(self, ms: int) -> "Stage":
        """The clock goes on, everybody gets a tick, and whatever follows from it happens."""
        self.now_ms += ms
        for runtime in self.runtimes:
            if runtime.alive:
                runtime.tick(self.now_ms)
        return self.run()

    def ask(
        self, key: bytes | None, operation: str, value: bytes | None = b"", *, name: str = "", headers: Headers = ()
    ) -> int:
        """A request; its position."""
        held = [*headers, (wire.OPERATION, operation.encode())]
        if name:
            held.append((wire.ID, name.encode()))
        return self.logs["requests", self.partition].append(key, value, held, self.now_ms).offset

    def route(self, percentage: float, shadow: float = 0.0) -> int:
        """A record changes the route; the epoch it makes."""
        return self._decide(Route, percentage=percentage, shadow=shadow)

    def flag(self, *assignments: str) -> int:
        """Flags are set; the epoch that makes."""
        return self._decide(SetFlags, flags=changed(self._control().flags, assignments))

    def _decide(self, kind: type[Any], **fields: Any) -> int:
        epoch = self._control().epoch
        self._routes += 1
        decided = kind(
            id=f"r{self._routes}",
            migration=MIGRATION,
            actor="test",
            at_ms=self.now_ms,
            expected_epoch=epoch,
            **fields,
        )
        self.logs["control", 0].append(MIGRATION.encode(), encode(decided), (), self.now_ms)
        return epoch + 1

    def _control(self) -> ControlState:
        state = ControlState(MIGRATION)
        for record in self.logs["control", 0]:
            fold(state, record.offset, record.value)
        return state

    def settled(self) -> dict[int, Any]:
        """What `control` says has settled here."""
        return self._control().settled.get(self.partition, {})

    def records(self, log: str, partition: int | None = None) -> list[Stored]:
        """The data records of a log: no claims, markers, seals."""
        at = self.partition if partition is None else partition
        return [record for record in self.logs[log, at] if (record.key or b"")[:1] != b"\0"]

    def marks(self, log: str, prefix: bytes) -> list[Stored]:
        """Its claims, markers or seals."""
        return [record for record in self.logs[log, self.partition] if (record.key or b"").startswith(prefix)]

    def answers(self) -> list[tuple[str, ...]]:
        """(id, status) or (id, status, error) of each answer, in order."""
        found = []
        for record in self.records("responses"):
            texts = (wire.text(record.headers, name) for name in (wire.ID, wire.STATUS, wire.ERROR))
            found.append(tuple(text for text in texts if text is not None))
        return found


def headers(record: Stored) -> dict[str, str]:
    """The headers of a record as text."""
    return {name: value.decode() for name, value in record.headers}
