"""What a system runs beside the owner's requests: shadows, twins, reads. Pure.

Each runs on a state of its own, at any time, changes nothing, and leaves nothing but its response. `shadows`, `reads`
and `twins` say when and on which state; here they are run, or asked of a handler that is somewhere else, and answered.
"""

from collections.abc import Iterable, Sequence
from functools import partial
from typing import ClassVar, Protocol

import msgspec

from hal9 import wire
from hal9.backend.asking import Asking, Run
from hal9.backend.config import BackendConfig
from hal9.backend.execution import Executed, read_only, run
from hal9.backend.freshness import Freshness
from hal9.backend.handler import BatchHandler, Missing, Outcome, Result
from hal9.backend.own import OwnChanges
from hal9.backend.queues import Queues
from hal9.backend.reads import UNREACHED, Read, Reads, answer
from hal9.backend.responses import Outbox, Response
from hal9.backend.shadows import Aligned, Shadow, Shadows
from hal9.backend.store import NOTHING, Held, Store
from hal9.backend.twins import Twin, TwinQueue
from hal9.compare import tree_differences
from hal9.log.effects import Call, Effects, Record, Tracer
from schemas.base import FLAT, System
from schemas.state import ArchitectureLayer

INCOMPARABLE = Executed("error", wire.INCOMPARABLE.decode(), None, None)


class Partition(Protocol):
    """What they share with the requests beside which they run: a core."""

    system: ClassVar[System]
    config: BackendConfig
    handler: BatchHandler
    off: frozenset[ArchitectureLayer]
    asking: Asking | None
    tracer: Tracer
    effects: Effects
    store: Store
    own: OwnChanges
    queues: Queues
    outbox: Outbox

    def replica_complete(self) -> bool:
        """Whether the replica log was read to where it ended when this incarnation began."""
        ...

    def proceed(self, now_ms: float) -> None:
        """Do whatever became possible."""
        ...


class Beside:
    """Of one partition."""

    def __init__(self, partition: Partition) -> None:
        self._of = partition
        self.freshness = Freshness()
        self.shadows = Shadows(partition.store, partition.replica_complete)
        self.reads = Reads(self.freshness, partition.replica_complete)
        self.twins = TwinQueue()

    # ------------------------------------------------------------------ what happens beside which they run
    def dispatched(self, record: Record, key: bytes, request: wire.Dispatched, changes: bool, now_ms: float) -> None:
        """A change, or what is to be shadowed, was dispatched to its owner, be it this system or the other one."""
        if changes and request.position > self._of.store.held(key).position:
            at_ms = min(record.timestamp, now_ms)
            self.freshness.dispatched(key, request.position, record.offset, at_ms)
        if request.shadow == self._of.system:
            shadow = Shadow(key, request, record.value or b"", changes, self.shadows.last_change.get(key))
            if request.traceparent is not None:
                shadow.span, request.traceparent = self._of.tracer.begin(
                    "process shadow", request.traceparent, {"hal9.operation": request.operation}
                )
            self._shadow(self.shadows.add(shadow), now_ms)
        if changes:
            self.shadows.last_change[key] = request.position

    def executed(self, key: bytes, position: int, now_ms: float, own: int = 0) -> None:
        """The store shows what the request at `position` made of `key`; `own`: by an own change of that number."""
        self.freshness.applied(key, position, own)
        if self.reads.waiting:
            self._read(self.reads.applied(key, position), now_ms)

    def replicated(self, key: bytes, before: Held, after: Held, change: wire.Change, now_ms: float) -> None:
        """A change of the other system became the newest state of `key`."""
        self._shadow(self.shadows.applied(key, before, after, change, now_ms), now_ms)
        self.executed(key, after.position, now_ms)

    def caught_up(self, now_ms: float) -> None:
        """Where the replica log ended is known, and perhaps it was read to there."""
        self._shadow(self.shadows.caught_up(), now_ms)
        self._read(self.reads.caught_up(), now_ms)

    def look_again(self, now_ms: float) -> None:
        """More was read."""
        if self.reads.early:
            self._read(self.reads.caught_up(), now_ms)

    def tick(self, now_ms: float) -> list[int]:
        """Deadlines, and twins; returns where reads that nobody waits for any more lie on `dispatched`."""
        self._shadow(self.shadows.expire(now_ms), now_ms)
        late = [read.offset for read in self.reads.expire(now_ms) if read.offset is not None]
        self._run(self.twins.take(), now_ms)
        return late

    # ------------------------------------------------------------------ running them
    def _run(self, runs: Sequence[Run], now_ms: float) -> None:
        asking = self._of.asking
        if asking is None:
            results = run(self._of.handler, [one.item for one in runs], self._of.off)
            for one, result in zip(runs, results, strict=True):
                self._ran(one, result, now_ms)
            return
        for one in asking.add(runs):
            self._ran(one, Missing.SLOW, now_ms)
        self._ask(asking, now_ms)

    def _ask(self, asking: Asking, now_ms: float) -> None:
        taken = asking.take_beside(now_ms)
        if taken:
            items = [one.item for one in taken]
            self._of.effects.calls.append(Call(items, partial(self._heard, taken, asking), self._of.off))

    def _heard(self, taken: Sequence[Run], asking: Asking, outcomes: Sequence[Outcome], now_ms: float) -> None:
        asking.heard_beside(outcomes, now_ms)
        for one, outcome in zip(taken, outcomes, strict=True):
            self._ran(one, outcome, now_ms)
        self._ask(asking, now_ms)
        self._of.proceed(now_ms)

    def _ran(self, one: Run, outcome: Outcome, now_ms: float) -> None:
        if isinstance(one, Aligned):
            self._shadow_ran(one, outcome, now_ms)
        elif isinstance(one, Read):
            executed = UNREACHED if isinstance(outcome, Missing) else read_only(outcome, self._of.config.limits)
            self._of.outbox.add(answer(one, executed, self._of.own.sent, now_ms))
        elif isinstance(outcome, Missing):
            self.twins.dropped += 1
        else:
            self._twin_ran(one, outcome, now_ms)

    # ------------------------------------------------------------------ shadows
    def _shadow(self, found: Iterable[Aligned], now_ms: float) -> None:
        aligned = list(found)
        self._run([a for a in aligned if a.state is not None], now_ms)
        for a in aligned:
            if a.state is None:
                self._answer_shadow(a, INCOMPARABLE, None)

    def _shadow_ran(self, a: Aligned, outcome: Outcome, now_ms: float) -> None:
        if isinstance(outcome, Missing):
            self._answer_shadow(a, INCOMPARABLE, None)
            return
        executed, diff = read_only(outcome, self._of.config.limits), None
        if a.expected is not None and executed.status == "ok" and a.expected.change.answer_status == "ok":
            diff = self._state_diff(executed.state, a.expected.after.state, a.shadow.request.operation, now_ms)
        self._answer_shadow(a, executed, diff)
        if a.shadow.request.twin and a.state is not None:
            first = executed if a.shadow.mutating else None
            self.twin(a.shadow.request, a.shadow.key, a.shadow.value, a.state, first)

    def _answer_shadow(self, aligned: Aligned, executed: Executed, diff: bytes | None) -> None:
        shadow, held, needs = aligned.shadow, aligned.state or NOTHING, self._of.own.sent
        response = Response(needs, shadow.request, shadow.key, b"shadow", executed, held, held.version, diff=diff)
        response.span = shadow.span
        self._of.outbox.add(response)

    # ------------------------------------------------------------------ twins
    def twin(self, request: wire.Dispatched, key: bytes, value: bytes, before: Held, first: Executed | None) -> None:
        """A request was run that flat is to run again; `first` is what came of a mutating one."""
        if self._of.system == FLAT:
            ok = first is not None and first.status == "ok"
            after = first.state if first is not None and ok else None
            busy = len(self._of.queues) + len(self._of.outbox)
            self.twins.add(Twin(request, key, value, before, after, ok, self._of.own.sent), busy)

    def _twin_ran(self, t: Twin, result: Result, now_ms: float) -> None:
        executed, diff = read_only(result, self._of.config.limits), None
        if t.compared and executed.status == "ok":
            diff = self._state_diff(t.after, executed.state, t.request.operation, now_ms)
        response = Response(t.needs, t.request, t.key, b"twin", executed, t.before, t.before.version, diff=diff)
        self._of.outbox.add(response)

    def _state_diff(self, ours: object, theirs: object, operation: str, now_ms: float) -> bytes:
        """What the owner's state and ours differ in, as JSON of at most 4 KiB."""
        flat, hierarchical = (ours, theirs) if self._of.system == FLAT else (theirs, ours)
        fields = tree_differences(flat, hierarchical, self._of.config.rules, operation, now_ms=now_ms)
        found = msgspec.json.encode(fields)
        while len(found) > wire.STATE_DIFF_BYTES:
            fields = fields[: len(fields) // 2]
            found = msgspec.json.encode(fields) if fields else b'["(state)"]'
        return found

    # ------------------------------------------------------------------ reads
    def read(self, read: Read, now_ms: float) -> None:
        """A read was dispatched to this system, which need not be the owner of its key.

        One too many is refused, and asked of its owner. That nothing more of `dispatched` is read while so many wait
        would not do: the change that they wait for may lie there.
        """
        if len(self.reads) >= self._of.config.backlog:
            self._of.outbox.add(answer(read, UNREACHED, self._of.own.sent, now_ms))
        else:
            self._read(self.reads.add(read), now_ms)

    def _read(self, found: Iterable[Read], now_ms: float) -> None:
        runnable: list[Read] = []
        for read in found:
            read.held, read.stale = self._of.store.held(read.key), self.freshness.stale(read.key, now_ms)
            read.at_ms = now_ms
            refusal = read.refusal(self._of.handler.read_only)
            if refusal is None:
                runnable.append(read)
            else:
                refused = Executed("error", refusal, None, None)
                self._of.outbox.add(answer(read, refused, self._of.own.sent, now_ms))
        if runnable:
            self._run(runnable, now_ms)
