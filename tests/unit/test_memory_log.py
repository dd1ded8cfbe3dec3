"""The in-memory log, group and runtime keep the promises that cores rely on; the harness catches bad handlers."""
# ruff: noqa: ARG002  the names are the protocol's

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import pytest

from hal9.backend import Refused
from hal9.control.reducer import ControlState
from hal9.log.effects import EARLIEST, Commit, Effects, Record, Send
from hal9.testing import BrokenPromise, HandlerHarness, MemoryGroup, MemoryLog, MemoryLogs, MemoryRuntime


class Notes:
    """A core that claims `own`, reads `input`, and writes down what it is given."""

    reads: ClassVar[tuple[str, ...]] = ("input", "own")
    claimed: ClassVar[tuple[str, ...]] = ("own",)

    def __init__(self, name: str) -> None:
        self.partition, self.effects, self.name = 0, Effects(), name
        self.own: list[int] = []
        self.input: list[int] = []
        self.handed_back = 0

    def start(self, committed: Mapping[str, Commit], now_ms: float) -> Mapping[str, int]:
        self.append(b"claim")
        return {"input": committed.get("input", Commit(EARLIEST)).offset, "own": EARLIEST}

    def append(self, key: bytes) -> None:
        self.effects.sends.append(Send("own", key, None, []))

    def wants(self, log: str) -> bool:
        return True

    def read(self, log: str, records: Sequence[Record], now_ms: float) -> None:
        (self.own if log == "own" else self.input).extend(record.offset for record in records)
        self.handed_back += sum(isinstance(record, Send) for record in records)

    def end(self, log: str, offset: int, now_ms: float) -> None: ...
    def scanned(self, log: str, records: Sequence[Record], next_offset: int, now_ms: float) -> None: ...
    def acked(self, send: Send, now_ms: float) -> None: ...
    def control(self, state: ControlState, now_ms: float) -> None: ...
    def tick(self, now_ms: float) -> None: ...

    def commits(self) -> Mapping[str, Commit]:
        return {"input": Commit(len(self.input), "so far")}

    def idle(self) -> bool:
        return True


OWN = ("own", 0)


@pytest.fixture
def logs() -> MemoryLogs:
    return MemoryLogs()


def opened(logs: MemoryLogs, group: MemoryGroup, name: str = "one") -> tuple[MemoryRuntime, Notes]:
    runtime = MemoryRuntime(name, logs, Notes, group, ControlState("m"))
    runtime.open(0)
    core = runtime.core
    assert isinstance(core, Notes)
    return runtime, core


def send(runtime: MemoryRuntime, core: Notes, key: bytes) -> None:
    core.append(key)
    runtime.tick(0)


def test_compaction_keeps_the_newest_record_of_a_key_and_never_reuses_an_offset() -> None:
    log = MemoryLog(("neurons.changes", 0))
    for key in (b"a", b"b", b"a", b"\0seal/1/x", b"a"):
        log.append(key, b"")
    assert log.compact(4) == [0]
    assert [record.offset for record in log] == [1, 2, 3, 4]
    assert log.end == 5
    assert log.append(b"c", None).offset == 5


def test_a_replaced_member_commits_nothing() -> None:
    group = MemoryGroup()
    old = group.join()
    new = group.join()
    assert not group.commit(old, {"input": Commit(7)})
    assert group.commit(new, {"input": Commit(3, "x")})
    assert group.committed == {"input": Commit(3, "x")}


def test_metadata_that_a_broker_would_refuse_is_an_error() -> None:
    group = MemoryGroup()
    with pytest.raises(ValueError, match="metadata"):
        group.commit(group.join(), {"input": Commit(1, "x" * 4096)})


def test_own_records_come_back_at_their_acknowledgement_when_nobody_wrote_between(logs: MemoryLogs) -> None:
    runtime, core = opened(logs, MemoryGroup())
    send(runtime, core, b"a")
    for _ in range(2):
        runtime.land(OWN, 0)
        runtime.deliver_ack(OWN, 0)
    assert core.own == [0, 1]
    assert core.handed_back == 2


def test_a_foreign_record_between_makes_the_log_itself_be_read_once_and_in_order(logs: MemoryLogs) -> None:
    runtime, core = opened(logs, MemoryGroup())
    runtime.land(OWN, 0)
    runtime.deliver_ack(OWN, 0)
    send(runtime, core, b"a")
    logs[OWN].append(b"foreign", None)
    runtime.land(OWN, 0)
    assert runtime.readable() == []  # something own is on its way: its acknowledgement says what to read
    runtime.deliver_ack(OWN, 0)
    assert core.own == [0]
    assert runtime.readable() == ["own"]
    runtime.feed("own", 10, 0)
    assert core.own == [0, 1, 2]
    assert runtime.readable() == []


def test_an_acknowledgement_without_an_offset_makes_the_log_be_read_to_its_end(logs: MemoryLogs) -> None:
    runtime, core = opened(logs, MemoryGroup())
    runtime.land(OWN, 0)
    runtime.deliver_ack(OWN, 0, unknown=True)
    assert core.own == []
    runtime.feed("own", 10, 0)
    assert core.own == [0]


def test_what_was_read_in_passing_is_not_handed_back_again(logs: MemoryLogs) -> None:
    runtime, core = opened(logs, MemoryGroup())
    runtime.land(OWN, 0)
    runtime.feed("own", 10, 0)  # taking over reads the log until the claim is acknowledged
    runtime.deliver_ack(OWN, 0)
    assert core.own == [0]


def test_an_idle_writer_reads_what_a_zombie_left(logs: MemoryLogs) -> None:
    runtime, core = opened(logs, MemoryGroup())
    runtime.land(OWN, 0)
    runtime.deliver_ack(OWN, 0)
    logs[OWN].append(b"late", None)
    assert runtime.readable() == ["own"]
    runtime.feed("own", 10, 0)
    assert core.own == [0, 1]


def test_sends_land_after_a_crash_and_tell_nobody(logs: MemoryLogs) -> None:
    runtime, _ = opened(logs, MemoryGroup())
    runtime.crash()
    runtime.land(OWN, 0)
    assert logs[OWN].end == 1
    assert runtime.acks() == []


def test_acknowledgements_of_an_older_incarnation_are_dropped(logs: MemoryLogs) -> None:
    runtime, core = opened(logs, MemoryGroup())
    core.effects.restart = "again"
    runtime.tick(0)
    second = runtime.core
    assert isinstance(second, Notes)
    assert second is not core
    runtime.land(OWN, 0)
    runtime.deliver_ack(OWN, 0)
    assert second.own == []
    runtime.land(OWN, 0)
    runtime.deliver_ack(OWN, 0)
    runtime.feed("own", 10, 0)
    assert second.own == [0, 1]


def test_a_superseded_instance_that_asks_to_begin_again_stops(logs: MemoryLogs) -> None:
    group = MemoryGroup()
    runtime, core = opened(logs, group)
    opened(logs, group, "two")
    core.effects.restart = "foreign claim"
    runtime.tick(0)
    assert not runtime.alive


def test_a_successor_starts_at_the_commit(logs: MemoryLogs) -> None:
    group = MemoryGroup()
    runtime, _ = opened(logs, group)
    for key in (b"a", b"b", b"c"):
        logs["input", 0].append(key, None)
    runtime.feed("input", 2, 0)
    assert runtime.commit()
    second, core = opened(logs, group, "two")
    second.feed("input", 10, 0)
    assert core.input == [2]


class Counter:
    read_only = frozenset({"read", "spoil"})

    def __call__(  # noqa: PLR0911  one way to be wrong per case
        self, state: dict[str, Any] | None, operation: str, value: bytes
    ) -> tuple[Any, Any]:
        count = state["count"] if state else 0
        match operation:
            case "add":
                return {"count": count + int(value)}, b"%d" % (count + int(value))
            case "read":
                return state, b"%d" % count
            case "spoil":
                return {"count": -1}, b""
            case "mutate" if state:
                state["count"] += 1
                return state, b""
            case "drift":
                self.drift = getattr(self, "drift", 0) + 1
                return {"count": self.drift}, b""
            case "forget":
                return None, b""
            case "text":
                return state, "no bytes"
            case "list":
                return [], b""
        raise Refused("unknown-operation")


def test_the_harness_answers_as_a_system_does() -> None:
    harness = HandlerHarness(Counter())
    assert harness.request("n", "add", b"2") == ("ok", b"2")
    assert harness.request("n", "read") == ("ok", b"2")
    assert harness.request("n", "no-such") == ("error", b"unknown-operation")
    assert harness.state("n") == {"count": 2}
    assert harness.request("n", "forget") == ("ok", b"")
    assert harness.state("n") is None


@pytest.mark.parametrize("operation", ["mutate", "spoil", "drift", "text", "list"])
def test_the_harness_names_a_broken_promise(operation: str) -> None:
    harness = HandlerHarness(Counter())
    harness.request("n", "add", b"1")
    with pytest.raises(BrokenPromise, match=operation):
        harness.request("n", operation)


def test_a_handler_that_fails_is_a_broken_promise_in_a_test() -> None:
    with pytest.raises(BrokenPromise, match="invalid literal"):
        HandlerHarness(Counter()).request("n", "add", b"x")
