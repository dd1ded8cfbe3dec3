"""Judges a world as its clients could, from `requests` and `responses` alone: linearizability, key by key.

A second opinion beside `simulation.witness`, which shares nothing with it: the outsider knows no state log, no epoch,
no owner. What it knows are requests as they landed, answers as they landed, and what the operations mean. It does not
see what no answer shows, and it does not judge answers of replicas (`fallback`), which promise less.
"""

import json
from collections.abc import Iterator, Sequence

import msgspec

from hal9 import wire
from hal9.keys import partition_of
from hal9.testing.memory import Name, Stored
from simulation.counting import Counting
from simulation.history import Violation
from simulation.linearizability import Labels, Operation, Verdict, judge

ID_WINDOW_MS = 60_000
"""For how long an id is one request."""
UNORDERED = "effects of a key out of order"

_labels = msgspec.msgpack.Decoder(tuple[str, ...])


class Outsider:
    """Keeps the history of every key; `check` says whether it can have been so.

    Attributes:
        undecided: histories that `check` left undecided, because they would have taken too long.
    """

    def __init__(self, partitions: int, counting: Counting | None = None) -> None:
        """`counting` knows which topic is `requests` now, and what a request is called."""
        self._counting, self.undecided = counting or Counting(), 0
        self._partitions, self._landed = partitions, 0
        self._operations: dict[bytes, dict[str, Operation]] = {}
        self._since: dict[str, int] = {}
        """Id -> when it was seen first."""

    def landed(self, name: Name, record: Stored) -> None:
        """A record was stored in any log. Raises `Violation` for an answer that contradicts an earlier one."""
        if name[0] == "requests":
            self._landed += 1
            self._request(name[1], record)
        elif name[0] == "responses":
            self._landed += 1
            self._answer(record)

    def _request(self, partition: int, record: Stored) -> None:
        key = record.key or b""
        counting = self._counting
        name = counting.name(record.headers) or counting.default_id(partition, record.offset)
        operations = self._operations.setdefault(key, {})
        asked = operations.get(name)
        if asked is None:
            operation = wire.text(record.headers, wire.OPERATION) or ""
            asked = operations[name] = Operation(name, operation, (record.value or b"").decode(), self._landed)
            self._since[name] = record.timestamp
        if asked.position is None and not asked.floating and partition == partition_of(key, self._partitions):
            asked.position = counting.number(record.offset)

    def made_anew(self) -> None:
        """The topic `requests` is another one from now on."""
        for _, operations in self.histories():
            for one in operations:
                if one.open:
                    one.floating, one.position = True, None

    def _answer(self, record: Stored) -> None:
        name = self._counting.name(record.headers)
        asked = self._operations.get(record.key or b"", {}).get(name)
        if asked is None:
            raise Violation("an answer to no request", record)
        if wire.header(record.headers, wire.FALLBACK) is not None:
            asked.deferred = True
            return
        status, answer = wire.text(record.headers, wire.STATUS), _shown(record)
        if asked.open:
            asked.deferred = asked.deferred or status == "timeout"
            asked.status, asked.error = status, wire.text(record.headers, wire.ERROR)
            asked.returned, asked.answer = self._landed, answer if status == "ok" else None
        elif record.timestamp > self._since[asked.id] + ID_WINDOW_MS:
            return  # to a copy that was moved after the window, a new request by then
        elif not asked.reads and status != "timeout" and not _same(asked, status, answer):
            raise Violation("answered otherwise when repeated", f"{told(asked)}, then {status} {answer}")

    def histories(self) -> Iterator[tuple[bytes, list[Operation]]]:
        """Each key with its operations, in the order in which they were invoked."""
        for key, operations in self._operations.items():
            yield key, list(operations.values())

    def check(self) -> None:
        """Raises `Violation` if the answers so far contradict what is promised of one key."""
        for key, operations in self.histories():
            self._check(key, operations)

    def _check(self, key: bytes, operations: Sequence[Operation]) -> None:
        verdict = judge(operations, in_order=True)
        if verdict is Verdict.LINEARIZABLE and ordered(operations):
            return
        plain = judge(operations)
        if plain is Verdict.NOT_LINEARIZABLE:
            raise Violation("not linearizable", story(key, operations))
        if verdict is Verdict.NOT_LINEARIZABLE or not ordered(operations):
            raise Violation(UNORDERED, story(key, operations))
        self.undecided += 1


def ordered(operations: Sequence[Operation]) -> bool:
    """Whether every answered list has its labels in the order of the positions of their requests, none of them twice.

    A label of a request that never lay on the partition of its key cannot be in an answer.
    """
    positions = {one.label: one.position for one in operations}
    floating = {one.label for one in operations if one.floating}
    for answered in operations:
        last, shown = -1, answered.answer or ()
        if len(set(shown)) < len(shown):
            return False
        for label in (each for each in shown if each not in floating):
            position = positions.get(label)
            if position is None or position <= last:
                return False
            last = position
    return True


def _same(asked: Operation, status: str | None, answer: Labels | None) -> bool:
    """Whether a repeated answer to a change says what the first one said."""
    return status == asked.status and (status != "ok" or answer == asked.answer)


def _shown(record: Stored) -> Labels | None:
    """The labels in an answer; None if it is no list of them."""
    try:
        return _labels.decode(record.value or b"\x90")
    except msgspec.MsgspecError:
        return None


def told(operation: Operation) -> str:
    """One operation, in short: what was asked, its position, when, and the answer."""
    until = "" if operation.returned is None else operation.returned
    answer = "" if operation.answer is None else f" [{' '.join(operation.answer)}]"
    outcome = " ".join(word for word in (operation.status or "unanswered", operation.error) if word)
    name = "" if operation.id == operation.label else f" ({operation.id})"
    at = "" if operation.position is None else f" @{operation.position}"
    return f"{operation.operation} {operation.label}{name}{at} {operation.invoked}..{until} {outcome}{answer}"


def story(key: bytes, operations: Sequence[Operation]) -> str:
    """The history of a key, in short: operations as they were invoked."""
    return f"{key!r}: {'; '.join(told(operation) for operation in operations)}"


def line(key: bytes, operations: Sequence[Operation]) -> str:
    """The history of a key as one line of JSON, for another checker to read."""
    fields = ("id", "operation", "label", "position", "invoked", "returned", "status", "error", "answer")
    plain = [{name: getattr(one, name) for name in fields} for one in operations]
    return json.dumps({"key": key.decode("utf-8", "replace"), "operations": plain})
