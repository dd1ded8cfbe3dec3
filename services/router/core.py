"""The router of one partition: sequences requests into `dispatched`, merges answers, hands keys over. Pure.

Guarantees (DESIGN section 7): a request that changes state is in flight at one system only; every accepted request ends
in an answer; what was read from `dispatched` up to the own claim is what a successor continues with. The rules are those
of `Router` in the model, method by method.
"""

import heapq
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from hal9 import wire
from hal9.control.reducer import ROUTE_SALT, SHADOW_SALT, ControlState, salt
from hal9.control.route import PinFilter, Route, Spans
from hal9.errors import Poison
from hal9.keys import bucket_of, key_error, partition_of
from hal9.log.effects import EARLIEST, Commit, Effects, NoTracer, Record, Send, Tracer
from hal9.log.validity import Validity
from schemas.base import SYSTEMS, System, encode, other
from schemas.reports import Quarantined
from schemas.state import Claim, Marker
from hal9.compare import Tolerance
from services.router.comparison import Comparer
from services.router.entry import Entry, Key, Result
from services.router.identities import Identities, Known
from services.router.ledger import Ledger
from services.router.outcomes import OutcomeBook

KEYS_REMEMBERED = 100_000
METADATA_BYTES = 3900
RESPONSES: dict[str, System] = {f"responses.{s}": s for s in SYSTEMS}


@dataclass(frozen=True, slots=True)
class RouterConfig:
    """Plain values; `unique` makes ids of claims (randomness comes from outside)."""

    migration: str
    partitions: int
    instance: str
    unique: Callable[[], str]
    book: OutcomeBook
    limits: wire.Limits = field(default_factory=wire.Limits)
    requests_topic: str = "hal9.requests"
    id_window_ms: float = 60_000
    id_window_bytes: int = 16 * 1024 * 1024
    in_flight_max: int = 20_000
    tolerance: Tolerance = field(default_factory=Tolerance)
    comparison_grace_ms: float = 2_000


class RouterCore:
    """One partition, one incarnation; see `hal9.log.effects.PartitionCore` for the calls."""

    reads: ClassVar[tuple[str, ...]] = ("requests", "dispatched", *RESPONSES)
    claimed: ClassVar[tuple[str, ...]] = ("dispatched",)

    def __init__(self, partition: int, config: RouterConfig, tracer: Tracer | None = None) -> None:
        self.partition, self.config, self.tracer = partition, config, tracer or NoTracer()
        self.effects = Effects()
        self.phase = "claim"
        """claim: reading `dispatched` to the own claim; answers: reading `responses` to its end; serve."""
        self.term = -1
        self.epoch, self.route, self.moved = 0, Route(), Spans()
        self.in_flight: dict[int, Entry] = {}
        self.queues: dict[bytes, list[Entry]] = {}
        self.away: dict[bytes, int] = {}
        """Per key, how many of its requests are in flight from before a move of its bucket."""
        self.settled: set[int] = set()
        self.marked = 0
        self.ledger = Ledger(config.id_window_ms)
        self.identities = Identities(config.id_window_ms, config.id_window_bytes)
        self.comparer = Comparer(partition, config.book, config.tolerance, config.comparison_grace_ms)
        self.repeated = 0
        self._validity = Validity()
        self._claim = b""
        self._control: ControlState | None = None
        self._pins = PinFilter(partition, config.partitions)
        self._salts = (salt(config.migration, ROUTE_SALT), salt(config.migration, SHADOW_SALT))
        self._next = dict.fromkeys(self.reads, 0)
        self._answers_next = 0
        self._keys: dict[bytes, Key] = {}
        self._deadlines: list[tuple[float, int]] = []
        self._rejections: dict[int, Entry] = {}
        self._answers_end = 0
        self._open = 0

    def __repr__(self) -> str:
        waiting = sum(map(len, self.queues.values()))
        return (
            f"<RouterCore {self.partition} {self.phase}, term {self.term}, epoch {self.epoch}, "
            f"{len(self.in_flight)} in flight, {waiting} waiting>"
        )

    # ------------------------------------------------------------------ taking over
    def start(self, committed: Mapping[str, Commit], now_ms: float) -> Mapping[str, int]:  # noqa: ARG002
        """Claim `dispatched`; read it from the restore point."""
        restore = committed.get("dispatched", Commit(EARLIEST))
        answers, _, saved = restore.metadata.partition(";")
        self._answers_next = int(answers) if answers.isdecimal() else 0
        try:
            self._validity.restore(saved)
        except Poison:
            restore = Commit(EARLIEST)
            self._answers_next = 0
        if self._validity.marker is not None:
            self._adopt(self._validity.marker)
        positions = {log: committed.get(log, Commit(EARLIEST)).offset for log in self.reads}
        positions["dispatched"] = restore.offset
        self._next = {log: max(offset, 0) for log, offset in positions.items()}
        self._claim = wire.CLAIM + self.config.unique().encode()
        self._send("dispatched", self._claim, encode(Claim(instance=self.config.instance)), [])
        return positions

    def wants(self, log: str) -> bool:
        """Requests and responses once it serves; requests not while too many are under way (they wait in the log)."""
        if log == "requests":
            return self.phase == "serve" and self._open + len(self.ledger.unacked) < self.config.in_flight_max
        return self.phase == "serve"

    def read(self, log: str, records: Sequence[Record], now_ms: float) -> None:
        """Records of one log, in order."""
        if not records:
            return
        if log == "requests":
            for record in records:
                self._request(record, now_ms)
        elif log == "dispatched":
            for record in records:
                self._dispatched(record, now_ms)
        else:
            system = RESPONSES[log]
            for record in records:
                self._response(system, record, now_ms)
        self._next[log] = records[-1].offset + 1

    def end(self, log: str, offset: int, now_ms: float) -> None:  # noqa: ARG002
        """The end of `responses` when the claim was read: read up to there, then serve."""
        if offset <= self._answers_next:
            self._serve(now_ms)
        else:
            self._answers_end = offset
            self.effects.scan.append(("responses", self._answers_next, offset))

    def scanned(self, log: str, records: Sequence[Record], next_offset: int, now_ms: float) -> None:  # noqa: ARG002
        """Answers that predecessors gave."""
        for record in records:
            name = wire.text(record.headers, wire.ID)
            if name is not None:
                self.identities.answer(record.key, name, list(record.headers), record.value, now_ms)
        self._answers_next = max(self._answers_next, next_offset)
        if next_offset >= self._answers_end:
            self._serve(now_ms)

    def _serve(self, now_ms: float) -> None:
        """In flight is what was validly dispatched and has no answer."""
        self.phase = "serve"
        for entry in list(self.in_flight.values()):
            known = self.identities.first(entry.key, entry.request.id)
            if known is not None and known.headers is not None:
                entry.answered = True
                self._open -= 1
                self._leave(entry)
        for entry in list(self._rejections.values()):
            known = self.identities.first(entry.key, entry.request.id)
            if known is not None and known.headers is not None:
                entry.answered = True
            else:
                self._reply(entry, "rejected", None, entry.rejected, now_ms)
        self._rejections.clear()
        if self._control is not None:
            self.control(self._control, now_ms)

    # ------------------------------------------------------------------ the dispatched log, as read back
    def _dispatched(self, record: Record, now_ms: float) -> None:
        kind = self._validity.feed(record)
        if kind == "claim":
            if record.key == self._claim:
                self.term, self.phase = record.offset, "answers"
                self.effects.ask_end.append("responses")
            elif self.term >= 0:
                self.effects.restart = "another router claimed the partition"
        elif kind == "marker" and self._validity.marker is not None:
            self.marked = self._validity.epoch
            if self.phase == "claim":
                self._adopt(self._validity.marker)
                self._mark_away(self.marked)
        elif kind == "data":
            if self.phase == "claim":
                self._restore(record, now_ms)
            else:
                self._confirm(record, now_ms)

    def _confirm(self, record: Record, now_ms: float) -> None:
        """An own record was read back as valid."""
        if isinstance(record, Send):
            entry = record.token
        else:
            position = wire.parse_position(wire.header(record.headers, wire.POSITION))
            entry = self.ledger.entries.get(position[1]) if position else None
        if not isinstance(entry, Entry):
            return
        entry.sending -= 1
        self.ledger.dispatched(entry, record.offset, now_ms)
        if entry.rejected is not None and not entry.answered:
            self._reply(entry, "rejected", None, entry.rejected, now_ms)

    def _restore(self, record: Record, now_ms: float) -> None:
        """A predecessor's record: what it dispatched, this incarnation has in flight."""
        try:
            found = wire.parse_dispatched(record)
        except Poison as error:
            self._quarantine("dispatched", record, error, now_ms)
            return
        entry = self.in_flight.get(found.position) or self._restored(found, record, now_ms)
        self._unhold(entry)
        entry.epoch, entry.owner = found.epoch, found.primary
        self.ledger.dispatched(entry, record.offset, now_ms)

    def _restored(self, found: wire.Dispatched, record: Record, now_ms: float) -> Entry:
        request = wire.Request(
            id=found.id,
            operation=found.operation,
            deadline_ms=found.deadline_ms,
            explicit_deadline=True,
            traceparent=found.traceparent,
            passed_on=_user_headers(record),
            rejected=found.rejected,
        )
        known = self._known(record.key) if record.key is not None and key_error(record.key) is None else None
        entry = Entry(found.position, record.key, known, request, record.value)
        entry.received_ms, entry.answers_at = now_ms, self._answers_next
        self.identities.see(entry.key, found.id, found.position, now_ms)
        if found.rejected is None:
            self._open += 1
            self.in_flight[found.position] = entry
            heapq.heappush(self._deadlines, (found.deadline_ms, found.position))
        else:
            self._rejections[found.position] = entry
        return entry

    # ------------------------------------------------------------------ requests
    def _request(self, record: Record, now_ms: float) -> None:
        position = record.offset
        if position in self.ledger.entries:
            return
        key = record.key
        wrong_key = None if key in self._keys else key_error(key)
        request = wire.parse_request(record, self.config.requests_topic, self.partition, now_ms, self.config.limits)
        known = None
        if wrong_key is not None or key is None:
            request.rejected = "bad-key"
            key = None if not key or key[:1] == b"\0" else key
        else:
            known = self._known(key)
        entry = Entry(position, key, known, request, record.value)
        entry.received_ms, entry.answers_at = now_ms, self._answers_next
        first = self.identities.first(key, request.id)
        if first is not None and first.position != position:
            self.repeated += 1
            self._repeat(entry, first, now_ms)
            return
        if known is not None and known.misplaced_to is not None and request.rejected is None:
            self._move(entry, known.misplaced_to, record)
            return
        self.ledger.read(entry)
        self.identities.see(key, request.id, position, now_ms)
        if request.traceparent is not None:
            entry.span, request.traceparent = self.tracer.begin(
                "process requests", request.traceparent, {"hal9.operation": request.operation}
            )
        if request.rejected is not None or known is None or key is None:
            self._reject(entry)
            return
        self._open += 1
        heapq.heappush(self._deadlines, (request.deadline_ms, position))
        if key in self.queues or key in self.away:
            self.queues.setdefault(key, []).append(entry)
            self._pump(key)
        else:
            self._dispatch(entry, known)

    def _known(self, key: bytes) -> Key:
        found = self._keys.get(key)
        if found is None:
            if len(self._keys) >= KEYS_REMEMBERED:
                self._keys.clear()
            at = partition_of(key, self.config.partitions)
            route_salt, shadow_salt = self._salts
            found = self._keys[key] = Key(
                key.decode(),
                bucket_of(route_salt, key),
                bucket_of(shadow_salt, key),
                None if at == self.partition else at,
            )
        return found

    def _repeat(self, entry: Entry, first: Known, now_ms: float) -> None:
        """One id is one request: a repeat gets the answer of the first, now or when it is there."""
        if first.headers is None:
            return
        self.ledger.read(entry)
        entry.answered = True
        self.ledger.unacked[entry.position] = entry
        if first.gone:
            headers = self._answer_headers(entry, "timeout", "answer-gone")
            self._send("responses", entry.key, None, headers, entry)
        else:
            self._send("responses", entry.key, first.value, first.headers, entry)
        entry.value = None
        self.ledger.forget(now_ms)

    def _move(self, entry: Entry, partition: int, record: Record) -> None:
        """A request on the wrong partition goes to the right one, its id and deadline fixed first."""
        self.ledger.read(entry)
        entry.answered = True
        self.ledger.unacked[entry.position] = entry
        headers = [*_user_headers(record), *_fixed(entry.request)]
        self.effects.sends.append(Send("requests", entry.key, entry.value, headers, entry, partition))

    def _reject(self, entry: Entry) -> None:
        """A rejection is first a record in `dispatched`, so that no successor dispatches what was rejected."""
        request = entry.request
        entry.value = None
        headers = [
            *_fixed(request),
            (wire.POSITION, wire.position_header(self.partition, entry.position)),
            (wire.EPOCH, wire.decimal(self.epoch)),
            (wire.REJECTED, (entry.rejected or "rejected").encode()),
            (wire.TERM, wire.decimal(self.term)),
        ]
        entry.sending += 1
        self._send("dispatched", entry.key, None, headers, entry)

    def _pump(self, key: bytes) -> None:
        """Dispatch what waits for `key`, unless one of its requests is in flight from before a move of its bucket."""
        if key in self.away:
            return
        for entry in self.queues.pop(key, ()):
            self._dispatch(entry, self._known(key))

    def _dispatch(self, entry: Entry, known: Key) -> None:
        owner = self.route.owner(known.bucket, known.text)
        entry.epoch, entry.owner, entry.away = self.epoch, owner, None
        entry.primary = entry.shadowed = entry.shadow = None
        request = entry.request
        headers = [
            *request.passed_on,
            *_fixed(request),
            (wire.POSITION, b"%d:%d" % (self.partition, entry.position)),
            (wire.EPOCH, b"%d" % self.epoch),
            (wire.PRIMARY, owner.encode()),
            (wire.AFTER_SEAL, b"%d" % self.moved.at(known.bucket, known.text)),
            (wire.TERM, b"%d" % self.term),
        ]
        if known.shadow_bucket < self.route.shadow_bound:
            entry.shadow = other(owner)
            headers.append((wire.SHADOW, entry.shadow.encode()))
            self.comparer.expect(entry)
        self.in_flight[entry.position] = entry
        entry.sending += 1
        self.effects.sends.append(Send("dispatched", entry.key, entry.value, headers, entry))

    # ------------------------------------------------------------------ answers
    def _response(self, system: System, record: Record, now_ms: float) -> None:
        try:
            response = wire.parse_response(record)
        except Poison as error:
            if record.key is None or record.key[:1] != b"\0":
                self._quarantine(f"responses.{system}", record, error, now_ms)
            return
        result = Result(
            response.status == "ok", response.error, record.value, response.state_version, response.state_diff
        )
        if response.role != b"primary":
            found = self.comparer.shadow(system, response, result, now_ms)
            self._report(found)
            return
        entry = self.in_flight.get(response.position)
        if entry is None or entry.owner != system or entry.epoch != response.epoch:
            return
        entry.response_offset = record.offset
        if entry.shadow is not None and response.status != "timeout":
            self._report(self.comparer.primary(entry, result, now_ms))
        code = response.error.decode("utf-8", "replace") if response.error is not None else None
        self._reply(entry, response.status, record.value, code, now_ms)

    def _reply(self, entry: Entry, status: str, value: bytes | None, error: str | None, now_ms: float) -> None:
        headers = self._answer_headers(entry, status, error)
        entry.answered = True
        entry.value = None
        self.ledger.unacked[entry.position] = entry
        self.identities.answer(entry.key, entry.request.id, headers, value, now_ms)
        self._send("responses", entry.key, value, headers, entry)
        if entry.span is not None:
            self.tracer.end(entry.span, status)
        if status == "rejected":
            self.config.book.rejected(now_ms)
        elif entry.known is not None:
            owner = entry.owner or self.route.owner(entry.known.bucket, entry.known.text)
            self._open -= 1
            self.config.book.answered(owner, entry.epoch or self.epoch, status, now_ms - entry.received_ms, now_ms)
        self._leave(entry)

    def _answer_headers(self, entry: Entry, status: str, error: str | None) -> list[tuple[str, bytes]]:
        headers = [
            (wire.ID, entry.request.id.encode()),
            (wire.STATUS, status.encode()),
            (wire.EPOCH, b"%d" % entry.epoch),
        ]
        if error is not None:
            headers.append((wire.ERROR, error.encode()))
        if status in ("ok", "error") and entry.owner is not None:
            headers.append((wire.SERVED_BY, entry.owner.encode()))
        if entry.request.traceparent is not None:
            headers.append((wire.TRACEPARENT, entry.request.traceparent))
            headers += [h for h in entry.request.passed_on if h[0] == wire.TRACESTATE]
        return headers

    def _leave(self, entry: Entry) -> None:
        """Out of the table and of the queue of its key."""
        if self.in_flight.get(entry.position) is entry:
            del self.in_flight[entry.position]
        self._unhold(entry)
        key = entry.key
        if key is None:
            return
        queue = self.queues.get(key)
        if queue is not None:
            queue[:] = [e for e in queue if e is not entry]
            if not queue:
                del self.queues[key]
        if key in self.queues:
            self._pump(key)

    # ------------------------------------------------------------------ the hand-over
    def control(self, state: ControlState, now_ms: float) -> None:
        """Take back what settled; put down a marker for the newest epoch, which stands for all older ones."""
        self._control = state
        if self.phase != "serve":
            return
        self.settled |= state.settled.get(self.partition, {}).keys()
        self._resolve()
        if state.epoch <= self.epoch:
            return
        epoch, route = state.epoch, state.route
        moved = self.moved.moved(self.route, route, epoch, self._salts[0])
        marker = Marker(route=route.mark(epoch, self._pins), moved=moved.wire(self._pins))
        self._send("dispatched", wire.MARKER + b"%d" % epoch, encode(marker), [(wire.TERM, b"%d" % self.term)])
        self.epoch, self.route, self.moved = epoch, route, moved
        self._mark_away(epoch)
        for key in list(self.queues):
            self._pump(key)

    def _adopt(self, marker: Marker) -> None:
        self.epoch = self.marked = marker.route.epoch
        self.route, self.moved = Route.of(marker.route), Spans.of(marker.moved)

    def _mark_away(self, epoch: int) -> None:
        if self.moved.newest() != epoch:
            return
        for entry in self.in_flight.values():
            known = entry.known
            if entry.away is None and known is not None and self.moved.at(known.bucket, known.text) == epoch:
                entry.away = epoch
                if entry.key is not None:
                    self.away[entry.key] = self.away.get(entry.key, 0) + 1

    def _unhold(self, entry: Entry) -> None:
        if entry.away is None or entry.key is None:
            return
        entry.away = None
        left = self.away[entry.key] - 1
        if left:
            self.away[entry.key] = left
        else:
            del self.away[entry.key]

    def _resolve(self) -> None:
        """Requests of moved keys still unanswered when their epoch settled are dispatched again, at their old positions."""
        if not self.away:
            return  # nothing in flight from before a move
        taken = [e for e in self.in_flight.values() if e.away in self.settled]
        for entry in sorted(taken, key=lambda e: e.position):
            del self.in_flight[entry.position]
            self._unhold(entry)
            if entry.key is not None:
                queue = self.queues.setdefault(entry.key, [])
                queue.append(entry)
                queue.sort(key=lambda e: e.position)
        for entry in taken:
            if entry.key is not None:
                self._pump(entry.key)

    # ------------------------------------------------------------------ time, acknowledgements, commits
    def acked(self, send: Send, now_ms: float) -> None:
        """An answer is stored, or a request moved."""
        if send.log == "responses":
            self._answers_next = max(self._answers_next, send.offset + 1)
        if isinstance(send.token, Entry) and send.log in ("responses", "requests"):
            self.ledger.unacked.pop(send.token.position, None)
            self.ledger.forget(now_ms)

    def tick(self, now_ms: float) -> None:
        """Deadlines, the id window, comparisons nobody answered."""
        if self.phase != "serve":
            return
        while self._deadlines and self._deadlines[0][0] <= now_ms:
            entry = self.ledger.entries.get(heapq.heappop(self._deadlines)[1])
            if entry is not None and not entry.answered and entry.rejected is None:
                self._report(self.comparer.abandon(entry, now_ms))
                self._reply(entry, "timeout", None, "deadline", now_ms)
        self._report(self.comparer.expire(now_ms))
        self.identities.expire(now_ms)
        self.ledger.forget(now_ms)

    def commits(self) -> Mapping[str, Commit]:
        """See `Ledger`; what a successor must know of `dispatched` rides with its position."""
        if self.phase != "serve":
            return {}
        waiting = list(self._waiting())
        found = {"requests": Commit(self.ledger.requests(self._next["requests"], waiting))}
        for log, system in RESPONSES.items():
            found[log] = Commit(self.ledger.responses(system, self._next[log]))
        dispatched = self.ledger.dispatches(self._next["dispatched"])
        metadata = f"{self.ledger.answers(self._answers_next, waiting)};{self._validity.saved(dispatched)}"
        if len(metadata) <= METADATA_BYTES:
            found["dispatched"] = Commit(dispatched, metadata)
        return found

    def idle(self) -> bool:
        """Nothing in flight, waiting, unread or unacknowledged."""
        return self.phase == "serve" and not (self._open or self.ledger.unacked)

    def _waiting(self) -> Iterable[Entry]:
        for queue in self.queues.values():
            yield from queue

    # ------------------------------------------------------------------ sends
    def _report(self, divergences: Iterable[tuple[bytes | None, bytes]]) -> None:
        for key, value in divergences:
            self._send("divergences", key, value, [])

    def _quarantine(self, log: str, record: Record, error: Poison, now_ms: float) -> None:
        found = Quarantined(
            service="router",
            topic=log,
            partition=self.partition,
            offset=record.offset,
            reason=error.code,
            detail=error.detail[:4096],
            key=record.key,
            value=(record.value or b"")[: 64 * 1024],
            headers=list(record.headers),
            at_ms=int(now_ms),
        )
        self.effects.sends.append(Send("quarantine", record.key, encode(found), [], partition=0))

    def _send(
        self,
        log: str,
        key: bytes | None,
        value: bytes | None,
        headers: Sequence[tuple[str, bytes]],
        token: object = None,
    ) -> None:
        self.effects.sends.append(Send(log, key, value, headers, token))


def _fixed(request: wire.Request) -> list[tuple[str, bytes]]:
    """The headers that every hop after the first one can rely on."""
    headers = [
        (wire.ID, request.id.encode()),
        (wire.OPERATION, request.operation.encode()),
        (wire.DEADLINE, b"%d" % request.deadline_ms),
    ]
    if request.traceparent is not None:
        headers.append((wire.TRACEPARENT, request.traceparent))
    return headers


def _user_headers(record: Record) -> list[tuple[str, bytes]]:
    """What the user sent beside the headers that `_fixed` and the dispatch write anew."""
    ours = (wire.ID, wire.OPERATION, wire.DEADLINE, wire.TRACEPARENT)
    return [(name, value or b"") for name, value in record.headers if name not in wire.OURS and name not in ours]
