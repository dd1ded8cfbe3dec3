"""A system's side of one partition: executes what was dispatched to it once per position, answers what was read back.

Pure. Guarantees (DESIGN section 7): a position is applied once; an answer leaves only when the own changes before it
were read back as valid, so it stays true whoever forwards it; a request of a moved bucket waits for its seal; a seal is
sent when all before its marker was executed. The rules are those of `Backend` in the model, method by method.
"""

from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import ClassVar

import msgspec

from hal9 import wire
from hal9.backend.asking import GIVEN_UP, Asking, Known, Question
from hal9.backend.beside import UNREACHED, Beside, Read, answer
from hal9.backend.execution import Executed, Limits, mutating, read_only, run
from hal9.backend.freshness import Freshness
from hal9.backend.handler import BatchHandler, Item, Missing, Outcome, Result
from hal9.backend.layers import Layers
from hal9.backend.queues import Queues, Task
from hal9.backend.responses import Outbox, Response
from hal9.backend.shadows import Aligned, Shadow, Shadows
from hal9.backend.store import NOTHING, Held, Kept, Store, envelope, layer_of_unit, read_change
from hal9.backend.twins import Twin, TwinQueue
from hal9.compare import RuleBook, tree_differences
from hal9.control.reducer import ROUTE_SALT, ControlState, salt
from hal9.control.route import Route
from hal9.errors import Poison
from hal9.keys import is_mark
from hal9.log.effects import EARLIEST, Call, Commit, Effects, NoTracer, Record, Send, Tracer
from hal9.log.quarantine import quarantine
from hal9.log.validity import Validity
from schemas.base import FLAT, HIERARCHICAL, System, encode
from schemas.state import ArchitectureLayer, Claim, Marker, Seal

METADATA_BYTES = 4000
INCOMPARABLE = "incomparable"
FORGOTTEN = Executed("timeout", "forgotten", None, None)
QUARANTINED = Executed("error", "quarantined", None, None)
"""To whoever asks for a key whose state could not be mapped to this system's: nothing is executed on an older one."""
MOVED = Executed(wire.MOVED, None, None, None)
CHANGES: dict[System, str] = {FLAT: "neurons.changes", HIERARCHICAL: "units.changes"}
REPLICA: dict[System, str] = {FLAT: "neurons.replica", HIERARCHICAL: "units.replica"}


@dataclass(frozen=True, slots=True)
class BackendConfig:
    """Plain values; `unique` makes ids of claims (randomness comes from outside)."""

    migration: str
    instance: str
    unique: Callable[[], str]
    answers_ms: float = 75_000
    """Longest deadline (60 s) and some: how long an answer by position is kept."""
    limits: Limits = field(default_factory=Limits)
    batch: int = 256
    backlog: int = 10_000
    rules: RuleBook = field(default_factory=RuleBook)
    remote: bool = False
    """The handler is somewhere else: it is asked by `Effects.calls`, only its `read_only` is used here."""


@dataclass(slots=True)
class Change:
    """An own state record that was sent and not read back: a new version, or (`repair`) the present one again."""

    key: bytes
    held: Held
    repair: bool = False


class BackendCore:
    """One partition, one incarnation; `hal9.log.effects.PartitionCore` has the calls. Subclasses name the system."""

    system: ClassVar[System]
    reads: ClassVar[tuple[str, ...]]
    claimed: ClassVar[tuple[str, ...]]

    def __init__(
        self, partition: int, config: BackendConfig, handler: BatchHandler, tracer: Tracer | None = None
    ) -> None:
        self.partition, self.config, self.handler = partition, config, handler
        self.tracer = tracer or NoTracer()
        self.effects = Effects()
        self.changes, self.replica, self.responses = (
            CHANGES[self.system],
            REPLICA[self.system],
            f"responses.{self.system}",
        )
        self.phase = "claim"
        """claim: reading the own change log to the own claim; serve."""
        self.term = -1
        self.store = (
            Store(config.answers_ms, layer_of_unit) if self.system == HIERARCHICAL else Store(config.answers_ms)
        )
        self.shadows = Shadows(self.store)
        self.freshness = Freshness()
        self.beside = Beside(self.freshness, self._replica_complete)
        self.validity = Validity(system=self.system, salt=salt(config.migration, ROUTE_SALT))
        self.layers = Layers(self.system, self.validity)
        self._replica_validity = Validity()
        self._dispatch_validity = Validity()
        self._off: frozenset[ArchitectureLayer] = frozenset()
        """Architecture layers that the newest marker switches off."""
        self._route: Route | None = None
        """Of the newest marker, if that holds layers at flat."""
        self._claim = b""
        self._next = dict.fromkeys(self.reads, 0)
        self._replica_end: int | None = None
        self._queues = Queues()
        self.asking = Asking(config.batch) if config.remote else None
        self._undone: dict[int, None] = {}
        self._marks: deque[tuple[int, Marker]] = deque()
        self._sealing: set[int] = set()
        self._sequence = self._verified = 0
        self._unconfirmed: deque[Change] = deque()
        self._outbox = Outbox()
        self.twins = TwinQueue()
        self._repairs: dict[bytes, None] = {}
        self._deleted: deque[tuple[float, bytes, int]] = deque()

    def __repr__(self) -> str:
        return (
            f"<{type(self).__name__} {self.partition} {self.phase}, term {self.term}, {len(self.store.states)} keys, "
            f"{len(self._queues)} to execute, {len(self._outbox)} to answer>"
        )

    # ------------------------------------------------------------------ taking over
    def start(self, committed: Mapping[str, Commit], now_ms: float) -> Mapping[str, int]:  # noqa: ARG002
        """Claim the change log and read it from its start; `dispatched` from the commit."""
        restore = committed.get("dispatched", Commit(EARLIEST))
        try:
            self._dispatch_validity.restore(restore.metadata)
            self._routed()
        except Poison:
            restore = Commit(EARLIEST)
        self._next["dispatched"] = max(restore.offset, 0)
        self._claim = wire.CLAIM + self.config.unique().encode()
        self._send(self.changes, self._claim, encode(Claim(instance=self.config.instance)), [])
        return {"dispatched": restore.offset, self.changes: EARLIEST, self.replica: EARLIEST}

    def wants(self, log: str) -> bool:
        """Once it serves; no requests while too many wait."""
        if log == "dispatched" and len(self._queues) + len(self._outbox) + len(self.beside) >= self.config.backlog:
            return False
        return self.phase == "serve"

    def read(self, log: str, records: Sequence[Record], now_ms: float) -> None:
        """Records of one log, in order; then whatever became possible is done."""
        if not records:
            return
        if log == "dispatched":
            for record in records:
                self._dispatched(record, now_ms)
        elif log == self.changes:
            for record in records:
                self._own(record, now_ms)
        else:
            for record in records:
                self._replicated(record, now_ms)
        self._next[log] = records[-1].offset + 1
        self._proceed(now_ms)

    def end(self, log: str, offset: int, now_ms: float) -> None:  # noqa: ARG002  the protocol's
        """How far the replica log went when this incarnation began to serve."""
        self._replica_end = offset
        self._run_shadows(self.shadows.caught_up(), now_ms)
        self._read_beside(self.beside.caught_up(), now_ms)

    def scanned(self, log: str, records: Sequence[Record], next_offset: int, now_ms: float) -> None:
        """Nothing is scanned here."""

    def control(self, state: ControlState, now_ms: float) -> None:
        """The route reaches a system by markers alone."""

    # ------------------------------------------------------------------ the own change log, as read back
    def _own(self, record: Record, now_ms: float) -> None:
        kind = self.validity.feed(record)
        if kind == "claim":
            if record.key == self._claim:
                self.term, self.phase = record.offset, "serve"
                self.shadows.complete = self._replica_complete
                self.effects.ask_end.append(self.replica)
            elif self.term >= 0:
                self.effects.restart = f"another {self.system} claimed the partition"
        elif kind == "seal" and self.term >= 0:
            self.effects.notes.append(("sealed", {"epoch": self.sealed_epoch}))
        if is_mark(record.key) or record.key is None:
            return
        key = record.key
        if self.term >= 0 and wire.number(record.headers, wire.TERM) == self.term and self._unconfirmed:
            self._confirmed(record, self._unconfirmed.popleft(), kind == "data")
        elif kind == "data":
            self._noted(key, record, now_ms)
        elif self.store.held(key).own:
            self._repairs[key] = None

    def _confirmed(self, record: Record, change: Change, valid: bool) -> None:
        if change.repair:
            if valid:
                self._repairs.pop(change.key, None)
            else:
                self._repairs[change.key] = None
            return
        if not valid:
            self.effects.restart = "an own change is void: rebuild from the logs"
            return
        self._verified = change.held.sequence
        self.store.located(change.held, record.offset)
        self._repairs.pop(change.key, None)

    def _noted(self, key: bytes, record: Record, now_ms: float) -> None:
        """A valid record of a predecessor."""
        try:
            change, found = read_change(record)
        except Poison as error:
            self._quarantine(self.changes, record, error, now_ms)
            return
        held = self.store.learn(key, change, found, record.timestamp, now_ms)
        held.own = True
        self.store.located(held, record.offset)
        if self.store.held(key) is held:
            self._repairs.pop(key, None)
            if held.state is None and record.value is not None:
                self._deleted.append((now_ms, key, held.version))

    # ------------------------------------------------------------------ the replica log
    def _replicated(self, record: Record, now_ms: float) -> None:
        kind = self._replica_validity.feed(record)
        if kind == "seal" and self._replica_validity.seal is not None:
            self._queues.seal_read(self._replica_validity.seal.route.epoch)
        if kind != "data" or record.key is None:
            return
        try:
            change, found = read_change(record)
        except Poison as error:
            self._quarantine(self.replica, record, error, now_ms)
            return
        key, before = record.key, self.store.held(record.key)
        held = self.store.learn(key, change, found, record.timestamp, now_ms)
        if self.store.held(key) is held:
            self._repairs.pop(key, None)
            self._run_shadows(self.shadows.applied(key, before, held, change, now_ms), now_ms)
            self._shown(key, held.position, now_ms)

    def _replica_complete(self) -> bool:
        return self._replica_end is not None and self._next[self.replica] >= self._replica_end

    # ------------------------------------------------------------------ dispatched requests
    def _dispatched(self, record: Record, now_ms: float) -> None:
        kind = self._dispatch_validity.feed(record)
        if kind == "marker" and self._dispatch_validity.marker is not None:
            self._marks.append((record.offset, self._dispatch_validity.marker))
            self._routed()
        if kind != "data" or record.key is None:
            return
        try:
            request = wire.parse_dispatched(record)
        except Poison as error:
            self._quarantine("dispatched", record, error, now_ms)
            return
        if request.rejected is not None:
            return
        key, value = record.key, record.value or b""
        if request.fallback or request.aligned:
            if request.primary == self.system:
                self._read_beside(self.beside.add(self._read_of(record, key, request)), now_ms)
            return
        changes = request.operation not in self.handler.read_only
        if changes and request.position > self.store.held(key).position:
            at_ms = min(record.timestamp, now_ms)
            self.freshness.dispatched(key, request.position, record.offset, at_ms)
        if request.shadow == self.system:
            self._run_shadows(self.shadows.add(self._shadow(key, request, value, changes)), now_ms)
        self.shadows.dispatched(key, request.position, changes)
        if request.primary == self.system:
            self._undone[record.offset] = None
            self._queues.add(Task(record.offset, key, request, value, route=self._route))

    def _routed(self) -> None:
        """What the newest marker says of how, and for which layers, this system works."""
        marker = self._dispatch_validity.marker
        self._off = frozenset(marker.route.off) if marker is not None else frozenset()
        holds = marker is not None and marker.route.held and self.system == HIERARCHICAL
        self._route = Route.of(marker.route) if marker is not None and holds else None

    # ------------------------------------------------------------------ execution
    def _proceed(self, now_ms: float) -> None:
        if self.phase != "serve" or self.effects.restart is not None:
            return
        self._queues.look_again()
        while keys := self._queues.ready(self.config.batch if self.asking is None else self.asking.room(now_ms)):
            self._round(keys, now_ms)
        if self.beside.early:
            self._read_beside(self.beside.caught_up(), now_ms)
        self._seal()
        self._repair()
        self._respond()

    def _round(self, keys: Iterable[bytes], now_ms: float, known: Known | None = None) -> None:
        """Take the first request of each ready key, run them as one batch; of a handler elsewhere, what is known."""
        tasks = [task for key in keys if (task := self._take(key)) is not None]
        for task in tasks:
            if task.request.traceparent is not None and task.span is None:
                task.span, task.request.traceparent = self.tracer.begin(
                    "process dispatched", task.request.traceparent, {"hal9.operation": task.request.operation}
                )
        if self.asking is None:
            items: list[Item] = [(self.store.held(t.key).state, t.request.operation, t.value) for t in tasks]
            done = list(zip(tasks, run(self.handler, items, self._off), strict=True))
        else:
            done = self._ask(tasks, known or {}, self.asking, now_ms)
        for task, result in done:
            self._queues.pop(task.key)
            self._executed(task, result, now_ms)

    def _ask(self, tasks: Sequence[Task], known: Known, asking: Asking, now_ms: float) -> list[tuple[Task, Result]]:
        """Those whose results are known on the state that their keys have now; the others are asked about."""
        done: list[tuple[Task, Result]] = []
        unknown: list[Question] = []
        for task in tasks:
            held = self.store.held(task.key)
            found = known.get(task.offset)
            if found is not None and found[0] is held:
                done.append((task, found[1]))
            elif asking.gives_up(task, now_ms):
                self._queues.pop(task.key)
                self._answer(task, GIVEN_UP, NOTHING, self._sequence)
            else:
                unknown.append(Question(task, held))
        questions = unknown[: asking.room(now_ms)]
        if questions:
            for question in questions:
                self._queues.wait_for_answer(question.task.key)
            asking.asked()
            items = [(q.held.state, q.task.request.operation, q.task.value) for q in questions]
            self.effects.calls.append(Call(items, partial(self._heard, questions, asking), self._off))
        return done

    def _heard(self, questions: Sequence[Question], asking: Asking, outcomes: Sequence[Outcome], now_ms: float) -> None:
        """The handler answered, or was not reached."""
        known = asking.heard(questions, outcomes, now_ms)
        keys = [question.task.key for question in questions]
        self._queues.answered(keys)
        self._round(keys, now_ms, known)
        self._proceed(now_ms)

    def _take(self, key: bytes) -> Task | None:
        """The first request of a key, if it is to be executed now; it stays the first one until it is.

        Cases, as in the model's `execute`: it waits for a seal; it waits for own changes to be read back; a seal voids
        it already; it is answered from what is kept; its layer stays at flat; its answer is forgotten; its state could
        not be mapped; it is to be executed.
        """
        task = self._queues.first(key)
        request, current = task.request, self.store.held(key)
        if request.after_seal and request.after_seal not in self._replica_validity.seals:
            self._queues.wait_for_seal(key, request.after_seal)
            return None
        if request.after_seal and current.epoch < request.after_seal and current.sequence > self._verified:
            self._queues.wait_for_read_back(key)
            return None
        layer = self.layers.of(task, current)
        voided = self.layers.voided(task, layer)
        if current.version < request.layer_version and not voided:
            self._queues.wait_for_read_back(key)  # of the other system's, by the replica log
            return None
        if voided:
            self._queues.pop(key)
            self._undone.pop(task.offset, None)
            return None
        if self._answered(task, current, layer):
            self._queues.pop(key)
            return None
        return task

    def _answered(self, task: Task, current: Held, layer: str | None) -> bool:
        """Whether a request is answered without being executed."""
        request, changes = task.request, task.request.operation not in self.handler.read_only
        kept = self.store.kept.get(request.position) if changes else None
        if kept is not None:
            self._answer(task, Executed(kept.status, kept.error, kept.answer, None), kept.held, kept.held.sequence)
        elif self.layers.stays(task, layer):
            self._answer(task, MOVED, replace(current, layer=layer), self._sequence)
        elif changes and request.position <= current.position:
            self._answer(task, FORGOTTEN, NOTHING, self._sequence)
        elif current.unmapped:
            self._answer(task, QUARANTINED, NOTHING, self._sequence)
        else:
            return False
        return True

    def _executed(self, task: Task, result: Result, now_ms: float) -> None:
        current, request = self.store.held(task.key), task.request
        if request.operation in self.handler.read_only:
            self._answer(task, read_only(result, self.config.limits), current, self._sequence)
            if request.twin:
                self._twin(request, task.key, task.value, current, None, self._sequence)
            return
        executed = mutating(result, current.state, self.config.limits)
        layer = self.layers.of(task, current)
        if layer is None:
            layer = self.store.layer_of(executed.state)
            if layer is not None and self.layers.stays(task, layer):
                self._give_up(task, current, layer, now_ms)
                return
        self._sequence += 1
        held = Held(
            current.version + 1,
            executed.state,
            request.position,
            request.epoch,
            self._sequence,
            None,
            True,
            layer=layer,
        )
        self.store.states[task.key] = held
        self.store.keep(request.position, Kept(executed.status, executed.error, executed.answer, held.bare(), now_ms))
        if held.state is None:
            self._deleted.append((now_ms, task.key, held.version))
        self._append(Change(task.key, held), executed.change, executed.status, executed.error, held.epoch)
        self._answer(task, executed, held, self._sequence)
        if request.twin:
            self._twin(request, task.key, task.value, current, executed, self._sequence)
        self._shown(task.key, request.position, now_ms)

    def _give_up(self, task: Task, current: Held, layer: str, now_ms: float) -> None:
        """What was to be made is of a layer that stays at flat: it is not made, but the key is of that layer now.

        That is a version of its own: flat goes on from it, and whoever takes over here knows it.
        """
        self._sequence += 1
        held = replace(
            current,
            version=current.version + 1,
            epoch=task.request.epoch,
            sequence=self._sequence,
            offset=None,
            own=True,
            layer=layer,
        )
        self.store.states[task.key] = held
        if held.state is None:
            self._deleted.append((now_ms, task.key, held.version))
        kept = self.store.kept.get(held.position)
        value = envelope(held.state, kept.answer if kept else None)
        status, error = (kept.status, kept.error) if kept else (None, None)
        self._append(Change(task.key, held), value, status, error, held.epoch, wire.MOVE)
        self._answer(task, MOVED, held, self._sequence)

    def _append(
        self,
        change: Change,
        value: bytes | None,
        status: str | None,
        error: str | None,
        epoch: int,
        origin: str | None = None,
    ) -> None:
        held = change.held
        headers = wire.change_headers(
            wire.Change(
                held.version,
                held.position if held.position >= 0 else None,
                epoch,
                origin or self.system,
                status,
                error,
                layer=held.layer,
            ),
            self.partition,
            self.term,
        )
        self._unconfirmed.append(change)
        self._send(self.changes, change.key, value, headers, change)

    # ------------------------------------------------------------------ answers
    def _answer(self, task: Task, executed: Executed, held: Held, needs: int) -> None:
        """The response to a primary; `read` is the version before an operation that makes a new one."""
        read = held.version if task.request.operation in self.handler.read_only else max(held.version - 1, 0)
        self._outbox.add(
            Response(
                needs,
                task.request,
                task.key,
                b"primary",
                executed.status,
                executed.error,
                executed.answer,
                held,
                read,
                task.offset,
                span=task.span,
            )
        )

    def _respond(self) -> None:
        """Send what is true by now."""
        for response in self._outbox.true_by(self._verified):
            if response.span is not None:
                self.tracer.end(response.span, response.status)
            self._send(self.responses, response.key, response.value, response.headers(self.partition), response)

    # ------------------------------------------------------------------ shadows
    def _shadow(self, key: bytes, request: wire.Dispatched, value: bytes, changes: bool) -> Shadow:
        shadow = Shadow(key, request, value, changes, self.shadows.last_change.get(key))
        if request.traceparent is not None:
            shadow.span, request.traceparent = self.tracer.begin(
                "process shadow", request.traceparent, {"hal9.operation": request.operation}
            )
        return shadow

    def _run_shadows(self, found: Iterable[Aligned], now_ms: float) -> None:
        aligned = list(found)
        self._run_beside([a for a in aligned if a.state is not None], now_ms)
        for a in aligned:
            if a.state is None:
                self._shadow_answer(a, Executed("error", INCOMPARABLE, None, None), None)

    def _run_beside(self, runs: Sequence[Aligned | Twin | Read], now_ms: float) -> None:
        """Shadows, twins, reads beside the owner: each on a state of its own, at any time."""
        if self.asking is None:
            for one, result in zip(runs, run(self.handler, [_beside(one) for one in runs], self._off), strict=True):
                self._ran(one, result, now_ms)
            return
        for one in self.asking.add(runs):
            self._ran(one, Missing.SLOW, now_ms)
        self._ask_beside(self.asking, now_ms)

    def _ask_beside(self, asking: Asking, now_ms: float) -> None:
        taken = asking.take_beside(now_ms)
        if taken:
            call = Call([_beside(one) for one in taken], partial(self._heard_beside, taken, asking), self._off)
            self.effects.calls.append(call)

    def _heard_beside(
        self, taken: Sequence[Aligned | Twin | Read], asking: Asking, outcomes: Sequence[Outcome], now_ms: float
    ) -> None:
        asking.heard_beside(outcomes, now_ms)
        for one, outcome in zip(taken, outcomes, strict=True):
            self._ran(one, outcome, now_ms)
        self._ask_beside(asking, now_ms)
        self._proceed(now_ms)

    def _ran(self, one: Aligned | Twin | Read, outcome: Outcome, now_ms: float) -> None:
        if isinstance(one, Aligned):
            self._shadow_ran(one, outcome, now_ms)
        elif isinstance(one, Read):
            executed = UNREACHED if isinstance(outcome, Missing) else read_only(outcome, self.config.limits)
            self._outbox.add(answer(one, executed, self._sequence, now_ms))
        elif isinstance(outcome, Missing):
            self.twins.dropped += 1
        else:
            self._twin_ran(one, outcome, now_ms)

    def _shadow_ran(self, a: Aligned, outcome: Outcome, now_ms: float) -> None:
        if isinstance(outcome, Missing):
            self._shadow_answer(a, Executed("error", INCOMPARABLE, None, None), None)
            return
        executed, diff = read_only(outcome, self.config.limits), None
        if a.expected is not None and executed.status == "ok" and a.expected.change.answer_status == "ok":
            diff = self._state_diff(executed.state, a.expected.after.state, a.shadow.request.operation, now_ms)
        self._shadow_answer(a, executed, diff)
        if a.shadow.request.twin and a.state is not None:
            first = executed if a.shadow.mutating else None
            self._twin(a.shadow.request, a.shadow.key, a.shadow.value, a.state, first, self._sequence)

    def _shadow_answer(self, aligned: Aligned, executed: Executed, diff: bytes | None) -> None:
        shadow, held = aligned.shadow, aligned.state or NOTHING
        status, error, answer = executed.status, executed.error, executed.answer
        role, needs = b"shadow", self._sequence
        self._outbox.add(
            Response(
                needs,
                shadow.request,
                shadow.key,
                role,
                status,
                error,
                answer,
                held,
                held.version,
                diff=diff,
                span=shadow.span,
            )
        )

    def _twin(
        self, request: wire.Dispatched, key: bytes, value: bytes, before: Held, first: Executed | None, needs: int
    ) -> None:
        """Flat is to run it again; `first` is what came of a mutating one."""
        if self.system == FLAT:
            ok = first is not None and first.status == "ok"
            twin = Twin(request, key, value, before, first.state if first is not None and ok else None, ok, needs)
            self.twins.add(twin, len(self._queues) + len(self._outbox))

    def _twin_ran(self, t: Twin, result: Result, now_ms: float) -> None:
        executed, diff = read_only(result, self.config.limits), None
        if t.compared and executed.status == "ok":
            diff = self._state_diff(t.after, executed.state, t.request.operation, now_ms)
        status, error, answer = executed.status, executed.error, executed.answer
        version = t.before.version
        self._outbox.add(
            Response(t.needs, t.request, t.key, b"twin", status, error, answer, t.before, version, diff=diff)
        )

    def _state_diff(self, ours: object, theirs: object, operation: str, now_ms: float) -> bytes:
        """What the owner's state and ours differ in, as JSON of at most 4 KiB."""
        flat, hierarchical = (ours, theirs) if self.system == FLAT else (theirs, ours)
        fields = tree_differences(flat, hierarchical, self.config.rules, operation, now_ms=now_ms)
        found = msgspec.json.encode(fields)
        while len(found) > wire.STATE_DIFF_BYTES:
            fields = fields[: len(fields) // 2]
            found = msgspec.json.encode(fields) if fields else b'["(state)"]'
        return found

    # ------------------------------------------------------------------ reads beside the owner
    def _read_of(self, record: Record, key: bytes, request: wire.Dispatched) -> Read:
        if request.aligned:
            return Read(key, request, record.value or b"", None)
        self._undone[record.offset] = None
        return Read(key, request, record.value or b"", record.offset)

    def _shown(self, key: bytes, position: int, now_ms: float) -> None:
        """The store shows what the request at `position` made of `key`."""
        self.freshness.applied(key, position)
        if self.beside.waiting:
            self._read_beside(self.beside.applied(key, position), now_ms)

    def _read_beside(self, found: Iterable[Read], now_ms: float) -> None:
        runnable: list[Read] = []
        for read in found:
            read.held, read.stale, read.at_ms = (
                self.store.held(read.key),
                self.freshness.stale(read.key, now_ms),
                now_ms,
            )
            refusal = read.refusal(self.handler.read_only)
            if refusal is None:
                runnable.append(read)
            else:
                self._outbox.add(answer(read, Executed("error", refusal, None, None), self._sequence, now_ms))
        if runnable:
            self._run_beside(runnable, now_ms)

    # ------------------------------------------------------------------ seals, repairs
    def _seal(self) -> None:
        """Seal each epoch when all that precedes its marker was executed and sent."""
        for offset, marker in self._marks:
            epoch = marker.route.epoch
            first = self._queues.oldest()
            if first is not None and first < offset:
                return
            if epoch in self.validity.seals or epoch in self._sealing:
                continue
            self._sealing.add(epoch)
            self._send(self.changes, wire.seal_key(epoch, self.config.unique()), encode(Seal(route=marker.route)), [])

    def _repair(self) -> None:
        """Append a state again that a void record lies after: compaction would keep the void one alone."""
        for key in list(self._repairs):
            held = self.store.held(key)
            if held.sequence > self._verified:
                continue
            del self._repairs[key]
            if held.own:
                self._again(key, held)

    def _again(self, key: bytes, held: Held, *, forget_answer: bool = False) -> None:
        kept = self.store.kept.get(held.position)
        newest = max([held.epoch, *self.validity.seals])
        value = None if forget_answer else envelope(held.state, kept.answer if kept else None)
        status, error = (kept.status, kept.error) if kept else (None, None)
        self._append(Change(key, held, repair=True), value, status, error, newest)

    # ------------------------------------------------------------------ time, acknowledgements, commits
    def acked(self, send: Send, now_ms: float) -> None:  # noqa: ARG002
        """A response is stored: its request need not be read again."""
        if isinstance(send.token, Response) and send.token.offset is not None:
            self._undone.pop(send.token.offset, None)

    def tick(self, now_ms: float) -> None:
        """Deadlines of shadows, answers nobody can ask for, deletions whose answer is no longer needed."""
        if self.phase != "serve":
            return
        self._run_shadows(self.shadows.expire(now_ms), now_ms)
        for read in self.beside.expire(now_ms):
            if read.offset is not None:
                self._undone.pop(read.offset, None)
        self._run_beside(self.twins.take(), now_ms)
        self.store.expire(now_ms)
        while self._deleted and self._deleted[0][0] <= now_ms - self.config.answers_ms:
            _, key, version = self._deleted.popleft()
            held = self.store.held(key)
            if held.version == version and held.own and held.sequence <= self._verified:
                self._again(key, held, forget_answer=True)
        self._proceed(now_ms)

    def commits(self) -> Mapping[str, Commit]:
        """`dispatched` up to the first request without an acknowledged response, or marker without a seal."""
        if self.phase != "serve":
            return {}
        while self._marks and self._marks[0][1].route.epoch in self.validity.seals:
            self._marks.popleft()
        held = [*([next(iter(self._undone))] if self._undone else []), *(offset for offset, _ in self._marks)]
        if (missing := self.freshness.oldest()) is not None:
            held.append(missing)  # so that a successor knows what its store does not show
        position = min(held, default=self._next["dispatched"])
        metadata = self._dispatch_validity.saved(position)
        return {"dispatched": Commit(position, metadata)} if len(metadata) <= METADATA_BYTES else {}

    def idle(self) -> bool:
        """Nothing to execute, to answer or to have acknowledged."""
        return self.phase == "serve" and not (self._queues or self._outbox or self._undone or self._unconfirmed)

    @property
    def awaits(self) -> str | None:
        """Whom it waits for, if it can do nothing itself: a watchdog asks."""
        epoch = self._queues.seal_awaited()
        return None if epoch is None else f"the copy of seal {epoch}"

    @property
    def in_flight(self) -> int:
        """Requests read whose responses are not acknowledged."""
        return len(self._undone)

    @property
    def sealed_epoch(self) -> int:
        """The newest epoch sealed in the own change log."""
        return max(self.validity.seals, default=0)

    # ------------------------------------------------------------------ sends
    def _quarantine(self, log: str, record: Record, error: Poison, now_ms: float) -> None:
        self.effects.sends.append(quarantine(self.system, log, self.partition, record, error, now_ms))

    def _send(
        self,
        log: str,
        key: bytes | None,
        value: bytes | None,
        headers: Sequence[tuple[str, bytes]],
        token: object = None,
    ) -> None:
        self.effects.sends.append(Send(log, key, value, headers, token))


def _beside(one: Aligned | Twin | Read) -> Item:
    """What the handler is given for it."""
    if isinstance(one, Read):
        return one.held.state, one.request.operation, one.value
    if isinstance(one, Twin):
        return one.before.state, one.request.operation, one.value
    return one.state.state if one.state is not None else None, one.shadow.request.operation, one.shadow.value


class FlatCore(BackendCore):
    """The core of the flat system."""

    system = FLAT
    reads: ClassVar[tuple[str, ...]] = ("dispatched", CHANGES[FLAT], REPLICA[FLAT])
    claimed: ClassVar[tuple[str, ...]] = (CHANGES[FLAT],)


class HierarchicalCore(BackendCore):
    """The core of the hierarchical system."""

    system = HIERARCHICAL
    reads: ClassVar[tuple[str, ...]] = ("dispatched", CHANGES[HIERARCHICAL], REPLICA[HIERARCHICAL])
    claimed: ClassVar[tuple[str, ...]] = (CHANGES[HIERARCHICAL],)


CORES: dict[System, type[BackendCore]] = {FLAT: FlatCore, HIERARCHICAL: HierarchicalCore}
