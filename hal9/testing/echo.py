"""The smallest core that does all a core may do: it puts requests in order and answers each with its own value. Pure.

To test runtimes with. It checks what it is promised (`faults` says what was not kept) and follows the rules of a
writer: it claims, reads up to its claim, and answers a request only when its record was read back as valid.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import ClassVar

from hal9 import wire
from hal9.control.reducer import ControlState
from hal9.log.effects import EARLIEST, Commit, Effects, Record, Send
from hal9.log.validity import Validity


class EchoCore:
    """One partition, one incarnation; `unique` makes ids of claims.

    Attributes:
        served: positions answered by this incarnation, in order.
        restored_from: where it began to read.
        claim_before: the newest claim before that, as the committed restore data says.
        faults: promises of `PartitionCore` that the runtime broke.
    """

    reads: ClassVar[tuple[str, ...]] = ("requests", "dispatched")
    claimed: ClassVar[tuple[str, ...]] = ("dispatched",)

    def __init__(self, partition: int, unique: Callable[[], str], *, limit: int = 10_000) -> None:
        self.partition = partition
        self.effects = Effects()
        self.term, self.serving = -1, False
        self.served: list[int] = []
        self.faults: list[str] = []
        self.restored_from: Mapping[str, int] = {}
        self.claim_before = -1
        self.epoch = -1
        self.ticks = 0
        self._limit, self._claim = limit, wire.CLAIM + unique().encode()
        self._validity = Validity()
        self._next: dict[str, int] = {}
        self._known: dict[int, int] = {}
        """Position -> offset of its valid record, of those whose answer is not known to be stored."""
        self._open: set[int] = set()
        self._old: list[tuple[int, bytes | None, bytes | None]] = []
        self._restored_below = 0

    def __repr__(self) -> str:
        return f"<EchoCore {self.partition}, term {self.term}, {len(self._open)} open, {len(self.served)} served>"

    def start(self, committed: Mapping[str, Commit], now_ms: float) -> Mapping[str, int]:  # noqa: ARG002  not needed
        """Claim; go on where the group was."""
        dispatched = committed.get("dispatched", Commit(0))
        self._validity.restore(dispatched.metadata)
        self.claim_before = self._validity.claim
        starts = {"requests": committed.get("requests", Commit(EARLIEST)).offset, "dispatched": dispatched.offset}
        self.restored_from = starts
        self._next = {log: max(0, at) for log, at in starts.items()}
        self._restored_below = self._next["requests"]
        self.effects.sends.append(Send("dispatched", self._claim, b"", []))
        return starts

    def wants(self, log: str) -> bool:
        """Requests, while not too many are open."""
        return log == "requests" and self.serving and len(self._open) < self._limit

    def read(self, log: str, records: Sequence[Record], now_ms: float) -> None:  # noqa: ARG002  not needed
        """Requests are dispatched; what was dispatched is answered."""
        for record in records:
            if record.offset < self._next[log]:
                self.faults.append(f"{log}[{record.offset}] came when {self._next[log]} was the next")
            self._next[log] = record.offset + 1
            if log == "requests":
                self._request(record)
            else:
                self._dispatched(record)

    def _request(self, record: Record) -> None:
        if not self.serving:
            self.faults.append(f"requests[{record.offset}] came though it was not wanted")
        if record.offset in self._known or record.offset < self._restored_below:
            return
        self._open.add(record.offset)
        headers = [(wire.POSITION, wire.position_header(self.partition, record.offset)), (wire.TERM, b"%d" % self.term)]
        self.effects.sends.append(Send("dispatched", record.key, record.value, headers, token=record.offset))

    def _dispatched(self, record: Record) -> None:
        kind = self._validity.feed(record)
        if kind == "claim" and record.key == self._claim:
            self.term, self.serving = record.offset, True
            for position, key, value in self._old:
                self._answer(position, key, value)
            self._old.clear()
            self.effects.ask_end.append("responses")
        elif kind == "claim" and self.serving:
            self.effects.restart = "somebody else claimed"
        elif kind == "data":
            found = wire.parse_position(wire.header(record.headers, wire.POSITION))
            if found is None or found[1] in self._known:
                return
            self._known[found[1]] = record.offset
            if self.serving:
                self._answer(found[1], record.key, record.value)
            else:
                self._open.add(found[1])
                self._old.append((found[1], record.key, record.value))

    def _answer(self, position: int, key: bytes | None, value: bytes | None) -> None:
        headers = [(wire.POSITION, wire.position_header(self.partition, position))]
        self.effects.sends.append(Send("responses", key, value, headers, token=position))

    def acked(self, send: Send, now_ms: float) -> None:  # noqa: ARG002  not needed
        """An answer is stored."""
        if isinstance(send.token, int):
            self._open.discard(send.token)
            self.served.append(send.token)

    def end(self, log: str, offset: int, now_ms: float) -> None:  # noqa: ARG002  not needed
        """The end of the answers: scan the last ones, to have scanned something."""
        self.effects.scan.append((log, max(0, offset - 10), offset))

    def scanned(self, log: str, records: Sequence[Record], next_offset: int, now_ms: float) -> None:  # noqa: ARG002
        """Answers given before."""
        if any(record.offset >= next_offset for record in records):
            self.faults.append(f"a scan of {log} went beyond {next_offset}")

    def control(self, state: ControlState, now_ms: float) -> None:  # noqa: ARG002  not needed
        """Remember the newest epoch."""
        self.epoch = state.epoch

    def tick(self, now_ms: float) -> None:  # noqa: ARG002  not needed
        """Count."""
        self.ticks += 1

    def commits(self) -> Mapping[str, Commit]:
        """Up to the first request without a stored answer; in the claimed log, up to its record."""
        if not self.serving:
            return {}
        unanswered = min(self._open, default=self._next["requests"])
        first = min((at for position, at in self._known.items() if position >= unanswered), default=None)
        dispatched = self._next["dispatched"] if first is None else first
        for position in [p for p in self._known if p < unanswered]:
            del self._known[position]
        self._restored_below = max(self._restored_below, unanswered)
        return {"requests": Commit(unanswered), "dispatched": Commit(dispatched, self._metadata(dispatched))}

    def _metadata(self, before: int) -> str:
        """What a successor must know of the log before the position it reads from."""
        return self._validity.saved(before)

    def idle(self) -> bool:
        """Nothing is open."""
        return self.serving and not self._open
