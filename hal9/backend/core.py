"""A system's side of one partition: executes what was dispatched to it once per position, answers what was read back.

Pure. Guarantees (DESIGN section 7): a position is applied once; an answer leaves only when the own changes before it
were read back as valid, so it stays true whoever forwards it; a request of a moved bucket waits for its seal; a seal is
sent when all before its marker was executed. The rules are those of `Backend` in the model, method by method.
"""

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import ClassVar

from msgspec.structs import replace

from hal9 import wire
from hal9.backend.asking import GIVEN_UP, Asking, Known, Question
from hal9.backend.beside import Beside
from hal9.backend.config import BackendConfig
from hal9.backend.execution import Executed, mutating, read_only, run
from hal9.backend.handler import BatchHandler, Item, Outcome, Result
from hal9.backend.layers import Layers
from hal9.backend.own import OwnChanges
from hal9.backend.queues import Queues, Task
from hal9.backend.reads import Read
from hal9.backend.responses import Outbox, Response
from hal9.backend.store import NOTHING, Held, Store, envelope, layer_of_unit, read_change
from hal9.control.reducer import ROUTE_SALT, ControlState, salt
from hal9.control.route import Route
from hal9.errors import Poison
from hal9.keys import is_mark
from hal9.log.effects import EARLIEST, Call, Commit, Effects, NoTracer, Record, Send, Tracer
from hal9.log.quarantine import QUARANTINED as CODE
from hal9.log.quarantine import quarantine
from hal9.log.validity import Validity
from schemas.base import FLAT, HIERARCHICAL, System, encode
from schemas.state import ArchitectureLayer, Claim, Marker, Seal

FORGOTTEN = Executed("timeout", "forgotten", None, None)
QUARANTINED = Executed("error", CODE, None, None)
"""To whoever asks for a key whose state could not be mapped to this system's: nothing is executed on an older one."""
MOVED = Executed(wire.MOVED, None, None, None)
CHANGES: dict[System, str] = {FLAT: "neurons.changes", HIERARCHICAL: "units.changes"}
REPLICA: dict[System, str] = {FLAT: "neurons.replica", HIERARCHICAL: "units.replica"}


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
        self.changes, self.replica = CHANGES[self.system], REPLICA[self.system]
        self.responses = f"responses.{self.system}"
        self.phase = "claim"
        """claim: reading the own change log to the own claim; serve."""
        layered = self.system == HIERARCHICAL
        self.store = Store(config.answers_ms, layer_of_unit) if layered else Store(config.answers_ms)
        self.validity = Validity(system=self.system, salt=salt(config.migration, ROUTE_SALT))
        self.own = OwnChanges(
            self.changes, partition, self.system, self.store, self.validity, self.effects, config.unique
        )
        self.layers = Layers(self.system, self.validity)
        self._replica_validity = Validity()
        self._dispatch_validity = Validity()
        self.off: frozenset[ArchitectureLayer] = frozenset()
        """Architecture layers that the newest marker switches off."""
        self._route: Route | None = None
        """Of the newest marker, if that holds layers at flat."""
        self._claim = b""
        self._next = dict.fromkeys(self.reads, 0)
        self._replica_end: int | None = None
        self._committed = self._offered = 0
        """What of `dispatched` was to be committed the time before last, and last: the last one may not be yet."""
        self._undone: dict[int, None] = {}
        self._marks: deque[tuple[int, Marker]] = deque()
        self._sealing: set[int] = set()
        self.queues, self.outbox = Queues(), Outbox()
        self.asking = Asking(config.batch) if config.remote else None
        self.beside = Beside(self)

    @property
    def term(self) -> int:
        """Offset of the own claim; -1 until it was read."""
        return self.own.term

    def __repr__(self) -> str:
        return (
            f"<{type(self).__name__} {self.partition} {self.phase}, term {self.term}, {len(self.store.states)} keys, "
            f"{len(self.queues)} to execute, {len(self.outbox)} to answer>"
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
        self.effects.sends.append(Send(self.changes, self._claim, encode(Claim(instance=self.config.instance)), []))
        return {"dispatched": restore.offset, self.changes: EARLIEST, self.replica: EARLIEST}

    def wants(self, log: str) -> bool:
        """Once it serves; no requests while too many wait."""
        if log == "dispatched" and len(self.queues) + len(self.outbox) >= self.config.backlog:
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
        self.proceed(now_ms)

    def end(self, log: str, offset: int, now_ms: float) -> None:  # noqa: ARG002  the protocol's
        """How far the replica log went when this incarnation began to serve."""
        self._replica_end = offset
        self.beside.caught_up(now_ms)

    def scanned(self, log: str, records: Sequence[Record], next_offset: int, now_ms: float) -> None:
        """Nothing is scanned here."""

    def control(self, state: ControlState, now_ms: float) -> None:
        """The route reaches a system by markers alone."""

    # ------------------------------------------------------------------ the own change log, as read back
    def _own(self, record: Record, now_ms: float) -> None:
        kind = self.validity.feed(record)
        self.store.floor = max(self.store.floor, self.validity.floor)
        if kind == "claim":
            if record.key == self._claim:
                self.own.term, self.phase = record.offset, "serve"
                self.effects.ask_end.append(self.replica)
            elif self.term >= 0:
                self.effects.restart = f"another {self.system} claimed the partition"
        elif kind == "seal" and self.term >= 0:
            self.effects.notes.append(("sealed", {"epoch": self.sealed_epoch}))
        if is_mark(record.key) or record.key is None:
            return
        try:
            self.own.read(record, record.key, kind == "data", now_ms)
        except Poison as error:
            self._quarantine(self.changes, record, error, now_ms)

    # ------------------------------------------------------------------ the replica log
    def _replicated(self, record: Record, now_ms: float) -> None:
        kind = self._replica_validity.feed(record)
        self.store.floor = max(self.store.floor, self._replica_validity.floor)
        if kind == "seal" and self._replica_validity.seal is not None:
            self.queues.seal_read(self._replica_validity.seal.route.epoch)
        if kind != "data" or record.key is None:
            return
        try:
            change, found = read_change(record)
        except Poison as error:
            self._quarantine(self.replica, record, error, now_ms)
            return
        key, before = record.key, self.store.held(record.key)
        held = self.store.learn(key, change, found, record.timestamp, now_ms)
        newest = self.store.held(key) is held
        self.own.replicated(key, before, held, now_ms, forgotten=record.value is None)
        if newest:
            self.beside.replicated(key, before, held, change, now_ms)

    def replica_complete(self) -> bool:
        """Whether the replica log was read to where it ended when this incarnation began."""
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
        if request.aligned or request.fallback:
            if request.primary == self.system:
                offset = None if request.aligned else record.offset
                if offset is not None:
                    self._undone[offset] = None
                self.beside.read(Read(key, request, value, offset), now_ms)
            return
        changes = request.operation not in self.handler.read_only
        if changes or request.shadow is not None:
            self.beside.dispatched(record, key, request, changes, now_ms)
        if request.primary == self.system:
            self._undone[record.offset] = None
            self.queues.add(Task(record.offset, key, request, value, changes, route=self._route))

    def _routed(self) -> None:
        """What the newest marker says of how, and for which layers, this system works."""
        marker = self._dispatch_validity.marker
        self.off = frozenset(marker.route.off) if marker is not None else frozenset()
        holds = marker is not None and marker.route.held and self.system == HIERARCHICAL
        self._route = Route.of(marker.route) if marker is not None and holds else None

    # ------------------------------------------------------------------ execution
    def proceed(self, now_ms: float) -> None:
        """Do whatever became possible."""
        if self.phase != "serve" or self.effects.restart is not None:
            return
        self.queues.look_again()
        if self.replica_complete():
            self.queues.replica_read()
        while keys := self.queues.ready(self.config.batch if self.asking is None else self.asking.room(now_ms)):
            self._round(keys, now_ms)
        self.beside.look_again(now_ms)
        self._seal()
        self.own.repair()
        self._respond()

    def _round(self, keys: Iterable[bytes], now_ms: float, known: Known | None = None) -> None:
        """Take the first request of each ready key, run them as one batch; of a handler elsewhere, what is known."""
        tasks = [task for key in keys if (task := self._take(key, now_ms)) is not None]
        for task in tasks:
            if task.request.traceparent is not None and task.span is None:
                task.span, task.request.traceparent = self.tracer.begin(
                    "process dispatched", task.request.traceparent, {"hal9.operation": task.request.operation}
                )
        if self.asking is None:
            items: list[Item] = [(self.store.held(t.key).state, t.request.operation, t.value) for t in tasks]
            done = list(zip(tasks, run(self.handler, items, self.off), strict=True))
        else:
            done = self._ask(tasks, known or {}, self.asking, now_ms)
        for task, result in done:
            self.queues.pop(task.key)
            self._executed(task, result, now_ms)

    def _ask(self, tasks: Sequence[Task], known: Known, asking: Asking, now_ms: float) -> list[tuple[Task, Result]]:
        """Those whose results are known on the state that their keys have now; the others are asked about."""
        found = asking.sort(tasks, self.store, known, now_ms)
        for task in found.given_up:
            self.queues.pop(task.key)
            self._unreached(task, now_ms)
        for question in found.questions:
            self.queues.wait_for_answer(question.task.key)
        if found.questions:
            items = [(q.held.state, q.task.request.operation, q.task.value) for q in found.questions]
            self.effects.calls.append(Call(items, partial(self._heard, found.questions, asking), self.off))
        return found.known

    def _unreached(self, task: Task, now_ms: float) -> None:
        """A request could not be asked about until its deadline. Of one that changes state a version says so.

        An instance that was replaced, and does not know it, may give up what its successor executed: a read after it
        would be answered on the older state, if it did not wait for this version, which is void, to be read back.
        """
        if not task.changes:
            self._answer(task, GIVEN_UP, NOTHING, self.own.sent)
            return
        current = self.store.held(task.key)
        executed = replace(GIVEN_UP, state=current.state, change=envelope(current.state, None))
        held = self.own.executed(task.key, task.request, current, executed, self.layers.of(task, current), now_ms)
        self._answer(task, executed, held, self.own.sent)
        self.beside.executed(task.key, task.request.position, now_ms, self.own.sent)

    def _heard(self, questions: Sequence[Question], asking: Asking, outcomes: Sequence[Outcome], now_ms: float) -> None:
        """The handler answered, or was not reached."""
        known = asking.heard(questions, outcomes, now_ms)
        keys = [question.task.key for question in questions]
        self.queues.answered(keys)
        self._round(keys, now_ms, known)
        self.proceed(now_ms)

    def _take(self, key: bytes, now_ms: float) -> Task | None:
        """The first request of a key, if it is to be executed now; it stays the first one until it is.

        Cases: it waits for a seal; it waits for own changes to be read back, or for the end of the replica log; a seal
        voids it already; it is answered from what is kept; its layer stays at flat; its answer is forgotten; its state
        could not be mapped; it is to be executed.
        """
        task = self.queues.first(key)
        request, current = task.request, self.store.held(key)
        after = request.after_seal
        if after and after not in self._replica_validity.seals:
            self.queues.wait_for_seal(key, after)
            return None
        if after and current.epoch < after and current.sequence > self.own.verified:
            self.queues.wait_for_read_back(key)
            return None
        layer = self.layers.of(task, current)
        if not self.replica_complete() and self._may_lie_further_on(task, current, layer):
            self.queues.wait_for_replica(key)
            return None
        voided = self.layers.voided(task, layer)
        if current.version < request.layer_version and not voided:
            self.queues.wait_for_read_back(key)  # of the other system's, by the replica log
        elif voided:
            self.queues.pop(key)
            self._undone.pop(task.offset, None)
        elif self._answered(task, current, layer, now_ms):
            self.queues.pop(key)
        else:
            return task
        return None

    def _may_lie_further_on(self, task: Task, current: Held, layer: str | None) -> bool:
        """Whether the replica log may say more of a key, behind the seal that its request waits for.

        Its deletion, in front of which an older state still lies, if the own log may have forgotten it. Its layer, if
        that stays at flat: flat goes on with such keys, and compaction takes what lay in front of the seal.
        """
        return bool(self.store.floor and not current.own) or (task.route is not None and layer is None)

    def _answered(self, task: Task, current: Held, layer: str | None, now_ms: float) -> bool:
        """Whether a request is answered without being executed."""
        request, changes = task.request, task.changes
        kept = self.store.kept.get(request.position) if changes else None
        if kept is not None:
            self._answer(task, Executed(kept.status, kept.error, kept.answer, None), kept.held, kept.held.sequence)
        elif layer is not None and task.route is not None and self.layers.stays(task, layer):
            if current.forgotten:
                self._give_up(task, current, layer, now_ms)  # flat may know nothing of a version to wait for
            else:
                self._answer(task, MOVED, replace(current, layer=layer), self.own.sent)
        elif changes and request.position <= current.position:
            self._answer(task, FORGOTTEN, NOTHING, self.own.sent)
        elif current.unmapped:
            self._answer(task, QUARANTINED, NOTHING, self.own.sent)
        else:
            return False
        return True

    def _executed(self, task: Task, result: Result, now_ms: float) -> None:
        current, request = self.store.held(task.key), task.request
        if not task.changes:
            self._answer(task, read_only(result, self.config.limits), current, self.own.sent)
            if request.twin:
                self.beside.twin(request, task.key, task.value, current, None)
            return
        executed = mutating(result, current.state, self.config.limits)
        layer = self.layers.of(task, current)
        if layer is None:
            layer = self.store.layer_of(executed.state)
            if layer is not None and self.layers.stays(task, layer):
                self._give_up(task, current, layer, now_ms)
                return
        held = self.own.executed(task.key, request, current, executed, layer, now_ms)
        self._answer(task, executed, held, self.own.sent)
        if request.twin:
            self.beside.twin(request, task.key, task.value, current, executed)
        self.beside.executed(task.key, request.position, now_ms, self.own.sent)

    def _give_up(self, task: Task, current: Held, layer: str, now_ms: float) -> None:
        """What was to be made is of a layer that stays at flat: it is not made, but the key is of that layer now.

        That is a version of its own: flat goes on from it, and whoever takes over here knows it.
        """
        held = self.own.of_layer(task.key, task.request.epoch, current, layer, now_ms)
        self._answer(task, MOVED, held, self.own.sent)

    # ------------------------------------------------------------------ answers
    def _answer(self, task: Task, executed: Executed, held: Held, needs: int) -> None:
        """The response to a primary; `read` is the version before an operation that makes a new one."""
        read = held.made_on if task.changes else held.version
        response = Response(
            needs, task.request, task.key, b"primary", executed, held, read, task.offset, None, task.span
        )
        self.outbox.add(response)

    def _respond(self) -> None:
        """Send what is true by now."""
        for response in self.outbox.true_by(self.own.verified):
            if response.span is not None:
                self.tracer.end(response.span, response.executed.status)
            headers, value = response.headers(self.partition), response.executed.answer
            self.effects.sends.append(Send(self.responses, response.key, value, headers, response))

    # ------------------------------------------------------------------ seals
    def _seal(self) -> None:
        """Seal each epoch when all that precedes its marker was executed and sent."""
        for offset, marker in self._marks:
            epoch = marker.route.epoch
            first = self.queues.oldest()
            if first is not None and first < offset:
                return
            if epoch in self.validity.seals or epoch in self._sealing:
                continue
            self._sealing.add(epoch)
            key, value = wire.seal_key(epoch, self.config.unique()), encode(Seal(route=marker.route))
            self.effects.sends.append(Send(self.changes, key, value, []))

    # ------------------------------------------------------------------ time, acknowledgements, commits
    def acked(self, send: Send, now_ms: float) -> None:  # noqa: ARG002
        """A response is stored: its request need not be read again."""
        token = send.token
        if isinstance(token, Response) and token.offset is not None:
            self._undone.pop(token.offset, None)

    def tick(self, now_ms: float) -> None:
        """Deadlines of what runs beside, answers nobody can ask for, deletions whose answer is no longer needed."""
        if self.phase != "serve":
            return
        for offset in self.beside.tick(now_ms):
            self._undone.pop(offset, None)
        self.store.expire(now_ms)
        if self.replica_complete():  # before that nobody knows what the other system has put down
            self.own.expire(now_ms - self.config.answers_ms, self._next["dispatched"], self._committed)
        self.proceed(now_ms)

    def commits(self) -> Mapping[str, Commit]:
        """`dispatched` up to the first request without an acknowledged response, or marker without a seal."""
        if self.phase != "serve":
            return {}
        while self._marks and self._marks[0][1].route.epoch in self.validity.seals:
            self._marks.popleft()
        held = [*([next(iter(self._undone))] if self._undone else []), *(offset for offset, _ in self._marks)]
        self.beside.freshness.proven(self.own.verified)
        if (missing := self.beside.freshness.oldest()) is not None:
            held.append(missing)  # so that a successor knows what its store does not show
        position = min(held, default=self._next["dispatched"])
        metadata = self._dispatch_validity.saved(position)
        if len(metadata) > self.config.metadata_bytes:
            return {}
        self._committed, self._offered = self._offered, position
        return {"dispatched": Commit(position, metadata)}

    def idle(self) -> bool:
        """Nothing to execute, to answer or to have acknowledged."""
        return self.phase == "serve" and not (self.queues or self.outbox or self._undone) and self.own.idle

    @property
    def awaits(self) -> str | None:
        """Whom it waits for, if it can do nothing itself: a watchdog asks."""
        epoch = self.queues.seal_awaited()
        return None if epoch is None else f"the copy of seal {epoch}"

    @property
    def in_flight(self) -> int:
        """Requests read whose responses are not acknowledged."""
        return len(self._undone)

    @property
    def sealed_epoch(self) -> int:
        """The newest epoch sealed in the own change log."""
        return max(self.validity.seals, default=0)

    def _quarantine(self, log: str, record: Record, error: Poison, now_ms: float) -> None:
        self.effects.sends.append(quarantine(self.system, log, self.partition, record, error, now_ms))


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
