"""The router of one partition: sequences requests into `dispatched`, merges answers, hands keys over. Pure.

Guarantees (DESIGN section 7): a request that changes state is in flight at one system only; every accepted request
ends in an answer; what was read from `dispatched` up to the own claim is what a successor continues with. The rules
are those of `Router` in the model, method by method; `Succession`, `Admission` and `Reading` have some of them.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import ClassVar

from hal9 import wire
from hal9.control.reducer import ControlState
from hal9.errors import Poison
from hal9.keys import is_mark
from hal9.log.effects import Commit, Effects, Headers, NoTracer, Record, Send, Tracer
from hal9.log.quarantine import QUARANTINED, quarantine
from hal9.log.validity import Validity
from schemas.base import HIERARCHICAL, SYSTEMS, System, encode, other
from schemas.state import Claim
from services.router import headers
from services.router.admission import Admission, status_of
from services.router.comparison import MAX_PAIRS, Comparer, Report, judged
from services.router.config import RouterConfig
from services.router.deadlines import Deadlines
from services.router.entry import Course, Entry
from services.router.handover import Handover
from services.router.identities import Identities, Identity
from services.router.keybook import Key, KeyBook
from services.router.ledger import Ledger
from services.router.load import Load
from services.router.misplaced import Moved, Moves
from services.router.numbering import Numbering
from services.router.passed import Passed
from services.router.reading import Extra, Reading
from services.router.returned import Returned
from services.router.shadowing import Shadowing
from services.router.succession import Succession
from services.router.twins import Twins

_QUARANTINED = QUARANTINED.encode()
PRESSED = 0.75
"""Share of the requests in flight that a partition may have, above which nothing is shadowed."""
RESPONSES: dict[str, System] = {f"responses.{s}": s for s in SYSTEMS}


class RouterCore:
    """One partition, one incarnation; see `hal9.log.effects.PartitionCore` for the calls."""

    reads: ClassVar[tuple[str, ...]] = ("requests", "dispatched", *RESPONSES)
    claimed: ClassVar[tuple[str, ...]] = ("dispatched",)
    identified: ClassVar[tuple[str, ...]] = ("requests",)

    def __init__(self, partition: int, config: RouterConfig, tracer: Tracer | None = None) -> None:
        self.partition, self.config, self.tracer = partition, config, tracer or NoTracer()
        self._traced = not isinstance(self.tracer, NoTracer)
        self.effects = Effects()
        self.protection, self._gate = config.protection, config.protection.gate
        self.phase = "claim"
        """claim: reading `dispatched` to the own claim; answers: reading `responses` to its end; serve."""
        self.term = -1
        self.marked = 0
        """Epoch of the newest marker read back."""
        self.in_flight: dict[int, Entry] = {}
        self.queues: dict[bytes, list[Entry]] = {}
        self.handover = Handover(config.migration, partition, config.partitions)
        self.ledger = Ledger(config.id_window_ms)
        self.moves = Moves(config.partitions)
        self.identities = Identities(config.id_window_ms, config.id_window_bytes)
        twins = Twins(config.migration, config.book, config.rules, judged)
        self.comparer = Comparer(partition, config.book, config.rules, config.comparison_grace_ms, twins)
        self.shadowing = Shadowing(self._gate)
        self.load = Load(config.protection.policy.load, config.protection.budget)
        self.keys = KeyBook(config.migration, partition, config.partitions, config.remembered_ms)
        self.numbering = Numbering()
        self.validity = Validity()
        self._claim = b""
        self._control: ControlState | None = None
        self.positions = dict.fromkeys(self.reads, 0)
        self.answers_next = 0
        """Where the next answer lies on `responses`, or after it."""
        self.deadlines = Deadlines()
        self.returned = Returned()
        self.admission = Admission(self)
        self.reading = Reading(self)
        self.succession = Succession(self)

    def __repr__(self) -> str:
        return (
            f"<RouterCore {self.partition} {self.phase}, term {self.term}, epoch {self.epoch}, "
            f"{len(self.in_flight)} in flight, {self.waiting} waiting>"
        )

    @property
    def epoch(self) -> int:
        """Epoch of the newest marker put down."""
        return self.handover.epoch

    @property
    def waiting(self) -> int:
        """Requests that wait for their key to be handed over."""
        return sum(map(len, self.queues.values()))

    # ------------------------------------------------------------------ taking over
    def identify(self, ids: Mapping[str, str]) -> None:
        """The ids of the topics in `identified`, as they are now; before `start`."""
        self.numbering.topic = ids["requests"]

    def start(self, committed: Mapping[str, Commit], now_ms: float) -> Mapping[str, int]:  # noqa: ARG002  the protocol's
        """Claim `dispatched`; read it from the restore point."""
        positions = self.succession.start(committed)
        self.marked = self.epoch
        self.positions = {log: max(offset, 0) for log, offset in positions.items()}
        self.passed = Passed({log: self.positions[log] for log in RESPONSES})
        self._claim = wire.CLAIM + self.config.unique().encode()
        self._send("dispatched", self._claim, encode(Claim(instance=self.config.instance)), [])
        return positions

    def wants(self, log: str) -> bool:
        """Requests and responses once it serves; requests not while too many are under way (they wait in the log)."""
        if log == "requests":
            return self.phase == "serve" and self.numbering.read_back and self.load.takes(len(self.ledger.unacked))
        return self.phase == "serve"

    def read(self, log: str, records: Sequence[Record], now_ms: float) -> None:
        """Records of one log, in order."""
        if not records:
            return
        if log == "requests":
            self.load.chunk(records, self._table(), now_ms)
            for record in records:
                self._request(record, now_ms)
            self.load.report()
        elif log == "dispatched":
            for record in records:
                self._dispatched(record, now_ms)
        else:
            system = RESPONSES[log]
            for record in records:
                self._response(system, record, now_ms)
        self.positions[log] = records[-1].offset + 1 + (self.numbering.base if log == "requests" else 0)

    def end(self, log: str, offset: int, now_ms: float) -> None:  # noqa: ARG002  the protocol's
        """The end of `responses` when the claim was read: read up to there, then serve."""
        self.succession.end(offset, now_ms)

    def scanned(self, log: str, records: Sequence[Record], next_offset: int, now_ms: float) -> None:  # noqa: ARG002
        """Answers that predecessors gave."""
        self.succession.scanned(records, next_offset, now_ms)

    def serve(self, now_ms: float) -> None:
        """What predecessors left is known."""
        self.phase = "serve"
        self._count_on()
        if self._control is not None:
            self.control(self._control, now_ms)

    def _count_on(self) -> None:
        """Which positions the requests of the topic as it is now have."""
        numbering, assumed = self.numbering, self.numbering.offset
        mark = numbering.decide(self.validity.requests)
        if numbering.offset != assumed:
            self.effects.rewind.append("requests")
        self.positions["requests"] = numbering.base + max(numbering.offset, 0)
        if mark is not None:
            key = wire.REQUESTS + mark.topic.encode()
            self._send("dispatched", key, encode(mark), [(wire.TERM, b"%d" % self.term)])
        if numbering.anew:
            self.effects.notes.append(("requests_made_anew", {"topic_id": numbering.topic, "base": numbering.base}))

    def _table(self) -> Iterator[bytes | None]:
        """The keys of all requests in flight and waiting."""
        for entry in self.in_flight.values():
            yield entry.key
        for key, queue in self.queues.items():
            yield from (key for entry in queue if entry.position not in self.in_flight)

    # ------------------------------------------------------------------ the dispatched log, as read back
    def _dispatched(self, record: Record, now_ms: float) -> None:
        if self.effects.restart is not None:
            return  # what follows a foreign claim is its writer's: nothing of it confirms an own record
        kind = self.validity.feed(record)
        if kind == "claim":
            if record.key == self._claim:
                self.term, self.phase = record.offset, "answers"
                self.effects.ask_end.append("responses")
            elif self.term >= 0:
                self.effects.restart = "another router claimed the partition"
        elif kind == "marker" and self.validity.marker is not None:
            self.marked = self.validity.epoch
            if self.phase != "claim":
                self.effects.notes.append(("marker", {"epoch": self.marked}))
            else:
                self.handover.adopt(self.validity.marker)
                self.handover.mark_away(self.in_flight.values())
        elif kind == "requests":
            self.numbering.back(self.validity.requests if self.phase == "serve" else None)
        elif kind == "data":
            if self.phase == "claim":
                self.succession.dispatched(record, now_ms)
            else:
                self._confirm(record, now_ms)

    def _confirm(self, record: Record, now_ms: float) -> None:
        """An own record was read back as valid."""
        if isinstance(record, Send):
            entry = record.token
        else:
            position = wire.parse_position(wire.header(record.headers, wire.POSITION))
            entry = self.ledger.entries.get(position[1]) if position else None
            if entry is not None and entry.offset is not None and wire.header(record.headers, wire.FALLBACK):
                entry = Extra(entry)
        if not isinstance(entry, Entry):
            if isinstance(entry, Extra):
                entry.entry.sending -= 1
                self.passed.read_back()
                if self.returned:
                    self.returned.read_back(entry.entry, again=False)
                if entry.entry.rejected is not None:
                    self._refuse(entry.entry, now_ms)
            return
        entry.sending -= 1
        self.passed.read_back()
        self.ledger.dispatched(entry, record.offset, now_ms)
        if self.returned:
            there = self.in_flight.get(entry.position) is entry and entry.course is not Course.ELSEWHERE
            self.returned.read_back(entry, again=there)
        if entry.shadow is not None:
            entry.dispatched_ms = now_ms
        if entry.rejected is not None:
            self._refuse(entry, now_ms)

    def _refuse(self, entry: Entry, now_ms: float) -> None:
        """Answer what was rejected, once all that was sent of it was read back, the rejection last."""
        if not (entry.answered or entry.sending):
            self.load.rejecting -= 1
            self.returned.read_back(entry, again=True)
            self.reply(entry, status_of(entry.rejected), None, entry.rejected, now_ms)

    # ------------------------------------------------------------------ requests
    def _request(self, record: Record, now_ms: float) -> None:
        config, base = self.config, self.numbering.base
        position = base + record.offset
        if position in self.ledger.entries:
            return
        key = record.key
        request = wire.parse_request(record, config.requests_topic, self.partition, now_ms, config.limits, base)
        known = self.keys.seen(key)
        if known is None:
            key, known = self.admission.unseen(key, request)
        entry = Entry(position, key, known, request, record.value, now_ms, self.answers_next, request.rejected)
        identity = Identity(key, request.id, request.base)
        first = self.identities.first(identity)
        if first is not None and first.position != position:
            self.admission.repeat(entry, first, now_ms)
            return
        # Whether an expired one may be rejected only its own partition knows: an earlier copy may have been executed.
        if known is not None and known.misplaced_to is not None and request.rejected in (None, "expired"):
            self.admission.move(entry, known.misplaced_to, record)
            return
        self.ledger.read(entry)
        if first is None:
            self.identities.add(identity, position, now_ms)
        if request.traceparent is not None or self._traced:
            self._trace(entry)
        if self.load.crowd is not None and request.rejected is None:
            self.admission.refuse_if_crowded(entry)
        if request.rejected is not None or known is None or key is None:
            self.admission.reject(entry)
            return
        self.admit(entry, now_ms)
        if key in self.queues or self.handover.holds(key):
            self.queues.setdefault(key, []).append(entry)
            self.pump(key)
        else:
            self._dispatch(entry, known)

    def admit(self, entry: Entry, now_ms: float) -> None:
        """A request that is to be answered by a system, or by its deadline."""
        deadline_ms = entry.request.deadline_ms
        self.load.take(entry.value)
        self.deadlines.add(deadline_ms, entry.position)
        self.reading.came(deadline_ms - now_ms)

    def _trace(self, entry: Entry) -> None:
        request = entry.request
        given = request.traceparent
        entry.span, request.traceparent = self.tracer.begin(
            "process requests", given, {"hal9.operation": request.operation}
        )
        if request.passed_on and not headers.same_trace(given, request.traceparent):
            request.passed_on = [h for h in request.passed_on if h[0] != wire.TRACESTATE]

    def pump(self, key: bytes) -> None:
        """Dispatch what waits for `key`, unless one of its requests is in flight from before a move of its bucket."""
        if self.handover.holds(key):
            return
        queue = self.queues.pop(key, ())
        if queue:
            self.reading.unordered()
        for entry in queue:
            if entry.known is not None:  # one of them may know what was forgotten: all of them go to one system
                self.keys.learn(key, entry.known.layer, entry.known.layer_version)
        for entry in queue:
            self._dispatch(entry, self.keys.of(key))

    def _dispatch(self, entry: Entry, known: Key) -> None:
        owner = self.handover.owner(known)
        entry.epoch, entry.owner = self.epoch, owner
        entry.primary = entry.shadowed = entry.shadow = None
        if (self.protection.tripped or self.handover.route.reads) and self.reading.elsewhere(entry, known, owner):
            return
        routed = known.shadow_bucket < self.handover.route.shadow_bound
        if (routed or self._gate.probing) and self._shadows(entry, other(owner), routed):
            self.comparer.expect(entry, other(owner), self.handover.route.twin_bound)
        self.in_flight[entry.position] = entry
        entry.sending += 1
        self.passed.sent()
        after_seal = self.handover.after_seal(known)
        written = headers.of_dispatch(entry, known, owner, self.partition, after_seal, self.term)
        self.effects.sends.append(Send("dispatched", entry.key, entry.value, written, entry))

    def _shadows(self, entry: Entry, system: System, routed: bool) -> bool:
        pressed = self.load.open >= PRESSED * self.load.policy.count or len(self.comparer) >= MAX_PAIRS
        return self.shadowing.goes(system, entry.position, entry.request.deadline_ms, routed=routed, pressed=pressed)

    # ------------------------------------------------------------------ answers
    def _response(self, system: System, record: Record, now_ms: float) -> None:
        if is_mark(record.key):
            return
        try:
            response = wire.parse_response(record)
            if response.partition != self.partition:
                self.effects.sends.append(self.moves.move(f"responses.{system}", record, response.partition))
                return
        except Poison as error:
            found = quarantine("router", f"responses.{system}", self.partition, record, error, now_ms)
            self.effects.sends.append(found)
            return
        if response.role != b"primary":
            if response.role == b"fallback":
                self.reading.answered(system, record, response, now_ms)
            else:
                if self.shadowing.probes:
                    self.shadowing.answered(system, response)
                self.report(self.comparer.shadow(system, response, now_ms))
            return
        entry = self.in_flight.get(response.position)
        if entry is None or entry.owner != system or entry.epoch != response.epoch:
            return
        unusual = response.error is not None or response.status == wire.MOVED
        if unusual and self._not_his(system, entry, response, record, now_ms):
            return
        entry.response_offset = record.offset
        if entry.shadow is not None and response.status != "timeout":
            self.report(self.comparer.primary(entry, response, now_ms))
        code = response.error.decode("utf-8", "replace") if response.error is not None else None
        self.reply(entry, response.status, record.value, code, now_ms)

    def _not_his(self, system: System, entry: Entry, response: wire.Response, record: Record, now_ms: float) -> bool:
        """Whether what the system asked says is no answer: another is to be asked, or nobody is."""
        if response.status == wire.MOVED:
            self._gave_back(entry, response, record.offset)
            return True
        if response.error == _QUARANTINED:
            self.report(self.comparer.abandon(entry, now_ms))
            self.admission.bar(entry, system, record.offset)
            return True
        return self.reading.unaligned(system, entry, response, record, now_ms)

    def _gave_back(self, entry: Entry, response: wire.Response, offset: int) -> None:
        """Its layer stays at flat: once nothing of its key is at hierarchical any more, it goes there."""
        if entry.key is None:
            return
        self.keys.learn(entry.key, response.layer, response.layer_version)
        entry.known = self.keys.of(entry.key)
        self.returned.add(entry, HIERARCHICAL, offset)
        del self.in_flight[entry.position]
        self.handover.gave_back(entry, self.in_flight.values())
        self._queue_again([entry])

    def _queue_again(self, taken: Sequence[Entry]) -> None:
        """Requests that left the table without an answer wait in front of later ones, or are dispatched at once."""
        for entry in taken:
            if entry.course is not None:
                self.reading.left(entry)
                entry.course = None
            if entry.key is not None:
                queue = self.queues.setdefault(entry.key, [])
                queue.append(entry)
                queue.sort(key=lambda e: e.position)
        for key in dict.fromkeys(e.key for e in taken if e.key is not None):
            self.pump(key)

    def reply(
        self,
        entry: Entry,
        status: str,
        value: bytes | None,
        error: str | None,
        now_ms: float,
        beside: Headers = (),
    ) -> None:
        """Answer a request; `beside` are headers beside those of every answer."""
        told = headers.of_answer(entry, status, error)
        if beside:
            told = (*told, *beside)
        self.load.bytes += len(value or b"") - len(entry.value or b"")
        entry.answered, entry.value = True, None
        self.ledger.unacked[entry.position] = entry
        self.identities.answer(Identity(entry.key, entry.request.id, entry.request.base), told, value, now_ms)
        self._send("responses", entry.key, value, headers.identified(entry.request, told), entry)
        if entry.span is not None:
            self.tracer.end(entry.span, status)
        if status == "rejected":
            self.config.book.rejected(now_ms)
        elif entry.known is not None:
            self.load.open -= entry.rejected is None
            if entry.course is not None:
                self.reading.left(entry)
            if entry.course is not Course.FELL_BACK:
                owner = entry.owner or self.handover.owner(entry.known)
                self.config.book.answered(owner, entry.epoch or self.epoch, status, now_ms - entry.received_ms, now_ms)
        self.leave(entry)

    def leave(self, entry: Entry) -> None:
        """Out of the table and of the queue of its key, which may go on."""
        if self.in_flight.get(entry.position) is entry:
            del self.in_flight[entry.position]
        self.handover.release(entry)
        key = entry.key
        if key is None or key not in self.queues:
            return
        self.unqueue(entry, key)
        if key in self.queues:
            self.pump(key)

    def unqueue(self, entry: Entry, key: bytes) -> None:
        """Out of the queue of its key."""
        left = [e for e in self.queues[key] if e is not entry]
        if left:
            self.queues[key] = left
        else:
            del self.queues[key]

    # ------------------------------------------------------------------ the hand-over
    def control(self, state: ControlState, now_ms: float) -> None:  # noqa: ARG002  the protocol's
        """Dispatch again what settled without an answer; put down a marker for the newest epoch."""
        self._control = state
        self.protection.control(state)
        if self.phase != "serve":
            return
        self._queue_again(self.reading.settled(self.handover.take_back(self.in_flight, state)))
        marker = self.handover.advance(state)
        if marker is None:
            return
        self._send("dispatched", wire.MARKER + b"%d" % self.epoch, encode(marker), [(wire.TERM, b"%d" % self.term)])
        self.handover.mark_away(self.in_flight.values())
        for key in list(self.queues):
            self.pump(key)

    # ------------------------------------------------------------------ time, acknowledgements, commits
    def acked(self, send: Send, now_ms: float) -> None:
        """An answer is stored, or a request moved."""
        if send.log == "responses":
            self.answers_next = max(self.answers_next, send.offset + 1)
        if isinstance(send.token, Moved):
            self.moves.acked(send.token)
        elif isinstance(send.token, Entry):
            self.load.bytes -= len(send.value or b"")
            unacked = self.ledger.unacked
            unacked.pop(send.token.position, None)
            if not unacked:  # before that `tick` does it
                self.ledger.forget(now_ms)

    def tick(self, now_ms: float) -> None:
        """Deadlines, the id window, comparisons nobody answered."""
        if self.phase != "serve":
            return
        self.protection.tick(now_ms)
        self.shadowing.expire(now_ms)
        self.load.tick(len(self.ledger.unacked), next(iter(self.in_flight), None), self._table(), now_ms)
        for position in self.deadlines.due(now_ms):
            entry = self.ledger.entries.get(position)
            if entry is not None and not entry.answered and entry.rejected is None:
                self.report(self.comparer.abandon(entry, now_ms))
                self.reply(entry, "timeout", None, "deadline", now_ms)
        self.reading.tick(self.load.open, now_ms)
        self.report(self.comparer.expire(now_ms))
        self.identities.expire(now_ms)
        self.keys.expire(now_ms)
        self.ledger.forget(now_ms)

    def commits(self) -> Mapping[str, Commit]:
        """See `Ledger`; what a successor must know of `dispatched` rides with its position."""
        if self.phase != "serve":
            return {}
        passed = self.passed.at({log: self.positions[log] for log in RESPONSES})
        waiting = [entry for queue in self.queues.values() for entry in queue]
        found = {}
        if self.numbering.read_back:
            found["requests"] = self.numbering.commit(self.ledger.requests(self.positions["requests"], waiting))
        for log, system in RESPONSES.items():
            offset = self.moves.held(log, self.ledger.responses(system, min(passed[log], self.positions[log])))
            found[log] = Commit(self.returned.first(system, offset, self.ledger.unacked))
        dispatched = self.ledger.dispatches(self.positions["dispatched"])
        metadata = f"{self.ledger.answers(self.answers_next, waiting)};{self.validity.saved(dispatched)}"
        if len(metadata) <= self.config.metadata_bytes:
            found["dispatched"] = Commit(dispatched, metadata)
        return found

    def forget(self) -> None:
        """Forget the keys seen, with their layers: nothing depends on it."""
        self.keys.forget()

    def idle(self) -> bool:
        """Nothing in flight, waiting or unacknowledged."""
        return self.phase == "serve" and not (self.load.open or self.ledger.unacked or self.moves)

    # ------------------------------------------------------------------ sends
    def report(self, divergences: Iterable[Report]) -> None:
        """Write down what two answers differ in."""
        for key, value in divergences:
            self._send("divergences", key, value, [])

    def _send(self, log: str, key: bytes | None, value: bytes | None, written: Headers, token: object = None) -> None:
        self.effects.sends.append(Send(log, key, value, written, token))
