"""The outsider judges a world from requests and answers alone; here the worlds are written by hand.

A line of a play is `> LABEL OPERATION`, a request that lands, or `< LABEL STATUS [LABELS]`, an answer that lands.
"""

import json
from dataclasses import replace
from itertools import product

import msgspec
import pytest

from hal9 import wire
from hal9.keys import partition_of
from hal9.testing.memory import MemoryLogs
from simulation.history import Violation
from simulation.linearizability import Operation, Verdict, judge
from simulation.outsider import UNORDERED, Outsider, line, ordered

KEY, PARTITIONS = b"a0", 3
HOME = partition_of(KEY, PARTITIONS)
AWAY = (HOME + 1) % PARTITIONS
OTHERWISE = "answered otherwise when repeated"


class Play:
    """Logs with an outsider that sees what lands in them."""

    def __init__(self) -> None:
        self.outsider = Outsider(PARTITIONS)
        self._logs = MemoryLogs(self.outsider.landed)

    def ask(self, label: str, operation: str, *, partition: int = HOME, name: str | None = None) -> int:
        """The offset of a request; `name`: its id, "" for none."""
        named = label if name is None else name
        headers = [(wire.OPERATION, operation.encode()), *([(wire.ID, named.encode())] if named else [])]
        return self._logs["requests", partition].append(KEY, label.encode(), headers).offset

    def answer(self, name: str, status: str, *labels: str, raw: bytes | None = None) -> None:
        """`refused`, `quarantined`: errors of that code; `fallback`: an answer of a replica."""
        headers = [(wire.ID, name.encode())]
        if status in {"refused", "quarantined"}:
            headers += [(wire.STATUS, b"error"), (wire.ERROR, status.encode())]
        elif status == "fallback":
            headers += [(wire.STATUS, b"ok"), (wire.FALLBACK, b"1")]
        else:
            headers.append((wire.STATUS, status.encode()))
        value = msgspec.msgpack.encode(labels) if raw is None else raw
        self._logs["responses", HOME].append(KEY, value, headers)

    def perform(self, script: str) -> None:
        """Lines, divided by `;`."""
        for direction, name, what, *labels in (part.split() for part in script.split(";")):
            if direction == ">":
                self.ask(name, what)
            else:
                self.answer(name, what, *labels)


GOOD = {
    "changes append, and their answers show the list after them": "> a mut; < a ok a; > b odd; < b ok a b",
    "a conditional change applies to an even length": "> a cond; < a ok a",
    "a conditional change is refused at an odd length": "> a mut; < a ok a; > b cond; < b refused",
    "what refuses always refuses": "> a err; < a refused; > r read; < r ok",
    "a delete answers the list before it and empties it": "> a mut; < a ok a; > d del; < d ok a; > r read; < r ok",
    "a delete of nothing answers an empty list": "> d del; < d ok",
    "a read may show a change that is under way": "> r read; > a mut; < r ok a; < a ok a",
    "a read may be before a change that was asked for after it": "> r read; > a mut; < a ok a; < r ok",
    "what timed out may have been done": "> a mut; < a timeout; > r read; < r ok a",
    "what timed out may be done long after": "> a mut; < a timeout; > r read; < r ok; > s read; < s ok a",
    "what timed out may never be done": "> a mut; < a timeout; > b mut; < b ok b",
    "what changes nothing at first does not rule out what timed out before it": (
        "> r read; > a mut; > d del; > e del; < d timeout; < a timeout; < r ok a; < e ok"
    ),
    "a timeout that turned out to be done is explained": "> a mut; < a timeout; < a ok a; > r read; < r ok a",
    "a change that timed out is overtaken, and done later": "> a mut; < a timeout; > r read; < r ok; < a ok a",
    "what has no answer is like what timed out": "> a mut; > b mut; < b ok a b",
    "what timed out may have emptied the list": "> a mut; < a ok a; > d del; < d timeout; > r read; < r ok",
    "what timed out may have been refused": "> a mut; < a ok a; > b cond; < b timeout; > r read; < r ok a",
    "what is rejected has no effect": "> a mut; < a rejected; > r read; < r ok",
    "an error that is no refusal has no effect": "> a mut; < a ok a; > b mut; < b quarantined; > r read; < r ok a",
    "an error that is no refusal says nothing of the length": "> b cond; < b quarantined; > r read; < r ok",
    "a replica may show an old state": "> a mut; < a ok a; > r read; < r fallback",
    "a repeat is the same request": "> a mut; > a mut; < a ok a; > a mut; < a ok a; > r read; < r ok a",
    "a repeat keeps its place": "> a mut; > b mut; > a mut; < a ok a; < b ok a b",
    "a read that a replica answered first may be early": "> a mut; > r read; < r fallback; < r ok; < a ok a",
    "the value of a rejection says nothing": "> a mut; < a rejected x",
    "a change may be answered again with a timeout": "> a mut; < a ok a; > a mut; < a timeout; > r read; < r ok a",
    "a read may be answered again otherwise": "> r read; < r ok; > a mut; < a ok a; < r ok a",
}
LOST = {
    "an update is lost": "> a mut; < a ok a; > b mut; < b ok b",
    "an update is doubled": "> a mut; < a ok a; > r read; < r ok a a",
    "an answer shows the list before its change": "> a mut; < a ok",
    "a read is stale": "> a mut; < a ok a; > r read; < r ok",
    "a read goes back": "> a mut; > r read; < r ok a; > s read; < s ok; < a ok a",
    "a read shows what nobody asked for": "> r read; < r ok x",
    "a read shows what was asked for after it": "> r read; < r ok a; > a mut; < a ok a",
    "a conditional change applies to an odd length": "> a mut; < a ok a; > b cond; < b ok a b",
    "a conditional change is refused at an even length": "> a cond; < a refused",
    "what refuses always answers ok": "> a err; < a ok",
    "what always applies is refused": "> a mut; < a refused",
    "what is refused takes effect": "> a mut; < a ok a; > b cond; < b refused; > r read; < r ok a b",
    "what is rejected takes effect": "> a mut; < a rejected; > r read; < r ok a",
    "an error takes effect": "> a mut; < a quarantined; > r read; < r ok a",
    "a timeout with an error in the end takes effect": "> a mut; < a timeout; < a quarantined; > r read; < r ok a",
    "a delete answers the list after it": "> a mut; < a ok a; > d del; < d ok",
    "a delete leaves something": "> a mut; < a ok a; > d del; < d ok a; > r read; < r ok a",
    "what timed out is done before it was asked for": "> r read; < r ok a; > a mut; < a timeout",
    "what timed out is undone": "> a mut; < a timeout; > r read; < r ok a; > s read; < s ok",
    "a timeout that turned out to be done is not seen": "> a mut; < a timeout; < a ok a; > r read; < r ok",
    "what timed out is done twice": "> a mut; < a timeout; > d del; < d ok a; > r read; < r ok a",
    "a repeat is executed again": "> a mut; < a ok a; > a mut; > b mut; < b ok a a b",
    "an unknown operation is answered ok": "> a what; < a ok",
}
DISORDERED = {
    "two changes at a time in the other order": "> a mut; > b mut; < b ok b; < a ok b a",
    "a change that timed out, after a later one": "> a mut; < a timeout; > b mut; < b ok b; > r read; < r ok b a",
    "a delete before a change that precedes it": "> a mut; > d del; < d ok; < a ok a",
    "a refusal after a change that it precedes": "> c cond; > a mut; < a ok a; < c refused",
    "a read before a change that precedes it": "> a mut; > r read; < r ok; < a ok a",
    "a change that timed out, after a later delete": (
        "> x mut; < x ok x; > a mut; < a timeout; > d del; < d ok x; > c cond; < c refused"
    ),
}


@pytest.mark.parametrize("script", GOOD.values(), ids=GOOD)
def test_what_is_promised_passes(script: str) -> None:
    play = Play()
    play.perform(script)
    play.outsider.check()
    assert play.outsider.undecided == 0


@pytest.mark.parametrize(
    ("promise", "script"),
    [
        *(pytest.param("not linearizable", script, id=name) for name, script in LOST.items()),
        *(pytest.param(UNORDERED, script, id=name) for name, script in DISORDERED.items()),
    ],
)
def test_a_broken_promise_is_seen_and_told_as_a_story(promise: str, script: str) -> None:
    play = Play()
    play.perform(script)
    with pytest.raises(Violation) as broken:
        play.outsider.check()
    assert broken.value.promise == promise
    assert "b'a0': " in str(broken.value)


def test_what_is_out_of_order_is_linearizable_all_the_same() -> None:
    for script in DISORDERED.values():
        play = Play()
        play.perform(script)
        ((_, operations),) = play.outsider.histories()
        assert judge(operations) is Verdict.LINEARIZABLE


def test_the_labels_in_an_answer_have_the_order_of_their_positions_also_where_a_search_would_take_too_long() -> None:
    for shown in (("b", "a"), ("a", "a"), ("x",)):
        asked = [Operation(label, "mut", label, at, at) for at, label in enumerate("ab")]
        read = Operation("r", "read", "r", 2, 2, 3, "ok", None, shown)
        assert not ordered([*asked, read])
        assert ordered([*asked, replace(read, answer=("a", "b"))])


def test_an_answer_to_a_change_is_the_same_each_time() -> None:
    for script in ("> a mut; < a ok a; < a ok", "> a mut; < a ok a; < a rejected", "> a mut; < a rejected; < a ok a"):
        with pytest.raises(Violation) as broken:
            Play().perform(script)
        assert broken.value.promise == OTHERWISE


def test_an_answer_to_nobody_is_seen() -> None:
    with pytest.raises(Violation, match="an answer to no request"):
        Play().answer("a", "ok", "a")


@pytest.mark.parametrize("operation", ["read", "err"])
def test_an_answer_that_is_no_list_explains_nothing(operation: str) -> None:
    play = Play()
    play.ask("r", operation)
    play.answer("r", "ok", raw=b"\xc1")
    with pytest.raises(Violation, match="not linearizable"):
        play.outsider.check()


def test_an_answer_without_a_value_is_an_empty_list() -> None:
    play = Play()
    play.ask("r", "read")
    play.answer("r", "ok", raw=b"")
    play.outsider.check()


def test_a_request_that_is_moved_is_one_request_from_its_first_record_on() -> None:
    play = Play()
    play.ask("r", "read")
    play.ask("a", "mut", partition=AWAY)
    play.answer("r", "ok", "a")
    play.ask("a", "mut")
    play.answer("a", "ok", "a")
    play.outsider.check()


def test_the_order_is_that_of_the_partition_of_the_key() -> None:
    play = Play()
    play.ask("a", "mut", partition=AWAY)
    play.ask("b", "mut")
    play.ask("a", "mut")
    play.answer("b", "ok", "b")
    play.answer("a", "ok", "b", "a")
    play.outsider.check()


def test_what_never_lay_on_the_partition_of_its_key_takes_no_effect() -> None:
    play = Play()
    play.ask("a", "mut", partition=AWAY)
    play.perform("< a ok a")
    with pytest.raises(Violation, match=UNORDERED):
        play.outsider.check()


def test_a_request_without_an_id_has_that_of_its_place_also_where_it_is_moved() -> None:
    play = Play()
    name = wire.default_id("hal9.requests", AWAY, play.ask("a", "mut", partition=AWAY, name=""))
    play.ask("a", "mut", name=name)
    play.answer(name, "ok", "a")
    play.perform("> r read; < r ok a")
    play.outsider.check()
    assert [one.id for _, operations in play.outsider.histories() for one in operations] == [f"{name}@0", "r"]


def test_other_logs_are_none_of_its_business() -> None:
    outsider = Outsider(1)
    logs = MemoryLogs(outsider.landed)
    for log, partition in product(("dispatched", "neurons.changes", "responses.flat", "control"), range(2)):
        logs[log, partition].append(KEY, b"", [(wire.ID, b"a")])
    outsider.check()
    assert list(outsider.histories()) == []


def test_a_search_that_would_take_too_long_is_undecided_and_counted() -> None:
    play = Play()
    for number in range(16):
        play.perform(f"> a{number} mut; < a{number} timeout")
    play.perform("> e err; < e ok")
    play.outsider.check()
    assert play.outsider.undecided == 1
    ((_, operations),) = play.outsider.histories()
    assert judge(operations) is Verdict.UNDECIDED
    assert judge(operations[-1:]) is Verdict.NOT_LINEARIZABLE


def test_a_history_is_written_as_one_line_of_plain_data() -> None:
    one = Operation("a", "mut", "a", 1, 0, 2, "ok", None, ("a",))
    written = line(KEY, [one, Operation("b", "read", "b", 3)])
    assert "\n" not in written
    assert json.loads(written) == {
        "key": "a0",
        "operations": [
            {
                "id": "a", "operation": "mut", "label": "a", "position": 0, "invoked": 1, "returned": 2,
                "status": "ok", "error": None, "answer": ["a"],
            },
            {
                "id": "b", "operation": "read", "label": "b", "position": None, "invoked": 3, "returned": None,
                "status": None, "error": None, "answer": None,
            },
        ],
    }  # fmt: skip
