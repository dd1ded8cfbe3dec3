import asyncio
import time
from collections.abc import AsyncIterator, Iterable
from types import SimpleNamespace
from typing import Any, cast

import pytest
from aiokafka import TopicPartition
from faust.types import TP
from prometheus_client import CollectorRegistry

from hal9.control.reducer import ControlState, fold
from hal9.control.reducer import Outcome as Folded
from hal9.errors import Hal9Error, Transient
from hal9.log.batches import Damaged, Plain
from hal9.log.clock import Clock
from hal9.log.effects import Record, Send
from hal9.settings import Guardian as GuardianSettings
from hal9.settings import Kafka
from hal9.stats.panes import Panes
from hal9.telemetry.metrics import Metrics
from schemas.base import HIERARCHICAL, encode
from schemas.control import Route
from schemas.reports import quarantined_decoder
from schemas.telemetry import Arm, Outcome
from services.guardian import app, host
from services.guardian.app import hosted, panes_of, policy_of
from services.guardian.guardian import STALLED_MS, Guardian, Ports
from services.guardian.host import FaustHost, HostFailed
from services.guardian.verdict import Command, Policy
from services.guardian.watch import Checkpoint

NOW = 1_000_000_000
AT = TopicPartition("hal9.outcomes", 0)


class ManualClock(Clock):
    def __init__(self) -> None:
        self.ms = NOW

    def now_ms(self) -> int:
        return self.ms


class Log:
    """`outcomes` in memory."""

    def __init__(self) -> None:
        self.records: list[Record] = []
        self.answers = True
        self.asked: list[tuple[int, int]] = []

    def report(self, seq: int, errors: int = 0) -> None:
        arms = [Arm(system=HIERARCHICAL, epoch=1, error=errors)]
        self.append(encode(Outcome(router="router-a", seq=seq, at_ms=NOW, arms=arms)))

    def append(self, value: bytes | None) -> None:
        self.records.append(Plain(len(self.records), NOW, b"hal9", value, ()))

    async def ends(self, partitions: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
        if not self.answers:
            raise Transient("no answer")
        return dict.fromkeys(partitions, len(self.records))

    async def range(
        self, topic: str, partition: int, start: int, end: int, *, deadline_s: float
    ) -> AsyncIterator[list[Record]]:
        assert (topic, partition) == AT
        assert deadline_s > 0
        self.asked.append((start, end))
        yield self.records[max(start, 0) : end]


class Stage:
    """A guardian whose surroundings are in memory."""

    def __init__(self) -> None:
        self.log, self.clock = Log(), ManualClock()
        self.control = ControlState("hal9")
        self.commands: list[Command] = []
        self.reports: list[Send] = []
        self.reachable = True
        fold(self.control, 0, encode(route()))
        self.metrics = Metrics(CollectorRegistry())
        ports = Ports(self.log, self.control, self.append, self.report, self.metrics, self.clock)
        self.guardian = Guardian("guardian-1", AT, Policy(min_requests=50), Panes, ports)

    async def append(self, command: Command) -> Folded:
        self.commands.append(command)
        if not self.reachable:
            raise Transient("no answer")
        return fold(self.control, self.control.position, encode(command))

    async def report(self, send: Send) -> None:
        if not self.reachable:
            raise Transient("no answer")
        self.reports.append(send)

    async def deliver(self, from_offset: int) -> None:
        for record in self.log.records[from_offset:]:
            await self.guardian.receive(record.offset, record.key, record.value)


def route() -> Route:
    return Route(id="r", migration="hal9", actor="t", at_ms=0, expected_epoch=0, percentage=10)


def saved(next_offset: int, replay_from: int) -> bytes:
    return encode(Checkpoint(next_offset=next_offset, replay_from=replay_from))


async def test_taking_the_log_over_reads_it_from_the_checkpoint_to_its_end() -> None:
    stage = Stage()
    for seq in range(5):
        stage.log.report(seq, errors=20)
    assert await stage.guardian.taken(saved(next_offset=4, replay_from=2)) == 5
    assert stage.log.asked == [(2, 5)]
    await stage.guardian.look()
    assert [command.evidence[HIERARCHICAL]["requests"] for command in stage.commands] == [60]


@pytest.mark.parametrize("checkpoint", [None, b"\xc1", saved(next_offset=9, replay_from=9)])
async def test_without_a_usable_checkpoint_the_whole_log_is_read(checkpoint: bytes | None) -> None:
    stage = Stage()
    stage.log.report(1, errors=50)
    assert await stage.guardian.taken(checkpoint) == 1
    await stage.guardian.look()
    assert len(stage.commands) == 1


async def test_a_guardian_that_holds_nothing_decides_nothing_and_saves_nothing() -> None:
    stage = Stage()
    stage.log.report(1, errors=500)
    await stage.deliver(0)
    await stage.guardian.look()
    assert (stage.commands, stage.guardian.checkpoint()) == ([], None)


async def test_a_command_that_was_not_confirmed_is_given_again_under_the_same_id() -> None:
    stage = Stage()
    stage.log.report(1, errors=500)
    await stage.guardian.taken(None)
    stage.reachable = False
    await stage.guardian.look()
    stage.reachable = True
    await stage.guardian.look()
    await stage.guardian.look()
    assert [command.id for command in stage.commands] == ["guardian/rollback/error_rate/1"] * 2
    assert stage.control.epoch == 2


async def test_what_is_unreadable_is_reported_once_whoever_reads_it_again() -> None:
    stage = Stage()
    stage.log.append(b"garbage")
    stage.log.records.append(Damaged(1, NOW, "header names", b"hal9", b"x"))
    await stage.guardian.taken(None)
    stage.guardian.lost()
    await stage.guardian.taken(None)
    reports = [quarantined_decoder.decode(send.value or b"") for send in stage.reports]
    assert [(r.topic, r.offset, r.reason) for r in reports] == [
        ("outcomes", 0, "bad-value"),
        ("outcomes", 1, "unreadable"),
    ]
    other = Stage()
    other.log.records = stage.log.records
    await other.guardian.taken(saved(next_offset=2, replay_from=0))
    assert other.reports == []


async def test_what_could_not_be_reported_is_reported_by_the_next_who_takes_over() -> None:
    stage = Stage()
    await stage.guardian.taken(None)
    stage.log.append(b"garbage")
    stage.reachable = False
    with pytest.raises(Transient):
        await stage.deliver(0)
    stage.guardian.lost()
    stage.reachable = True
    await stage.guardian.taken(None)
    assert len(stage.reports) == 1


async def test_what_the_host_passed_over_is_read_beside_it() -> None:
    stage = Stage()
    await stage.guardian.taken(None)
    stage.log.report(1, errors=60)
    stage.log.records.append(Damaged(1, NOW, "header names", b"hal9", b"x"))
    stage.log.report(2, errors=50)
    await stage.deliver(2)
    await stage.guardian.look()
    assert stage.log.asked[1:] == [(0, 2)]
    assert [command.evidence[HIERARCHICAL]["requests"] for command in stage.commands] == [110]
    assert len(stage.reports) == 1


async def test_a_log_whose_end_is_not_known_is_not_silent() -> None:
    stage = Stage()
    await stage.guardian.taken(None)
    for _ in range(100):
        stage.clock.ms += 1000
        stage.log.answers = False
        await stage.guardian.look()
    assert stage.commands == []
    stage.log.answers = True
    for _ in range(61):
        stage.clock.ms += 1000
        await stage.guardian.look()
    assert [command.trigger for command in stage.commands] == ["silence", "silence"]


async def test_records_that_never_come_are_an_error_and_not_silence() -> None:
    stage = Stage()
    await stage.guardian.taken(None)
    stage.log.report(1)
    stage.clock.ms += STALLED_MS
    await stage.guardian.look()
    assert stage.guardian.lag == 1
    stage.clock.ms += 1
    with pytest.raises(Hal9Error, match="nothing was read"):
        await stage.guardian.look()
    assert stage.commands == []


def test_settings_become_a_policy_of_whole_seconds_and_panes_that_hold_it() -> None:
    settings = GuardianSettings(error_window_s=2.5, grace_s=1.5, idle_timeout_s=0.5)
    assert (policy_of(settings).window_s, policy_of(settings).error_rate) == (3, 0.05)
    panes = panes_of(settings)
    assert (panes.retain_s > 3 + 2, panes.grace_s, panes.idle_timeout_ms) == (True, 2, 500)


class FakeHost:
    def __init__(self, log: list[str], ends: Exception | None) -> None:
        self.log, self.ends = log, ends

    async def start(self) -> None:
        self.log.append("start")

    def check(self) -> None:
        if self.ends is not None:
            raise self.ends

    async def stop(self) -> None:
        self.log.append("stop")


async def test_a_host_that_ends_is_replaced_and_several_in_a_row_end_the_service() -> None:
    log: list[str] = []
    with pytest.raises(Hal9Error, match="3 hosts in a row"):
        async with asyncio.timeout(30):
            await hosted(lambda: FakeHost(log, HostFailed("crashed")), Stage().guardian, 0.0)
    assert log == ["start", "stop"] * 3


async def test_hosts_that_lived_long_do_not_count_as_in_a_row(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app, "HEALTHY_S", -1.0)
    log: list[str] = []
    ends: list[Exception] = [HostFailed("crashed")] * 5 + [RuntimeError("a defect")]
    with pytest.raises(RuntimeError):
        await hosted(lambda: FakeHost(log, ends.pop(0)), Stage().guardian, 0.0)
    assert log == ["start", "stop"] * 6


async def test_a_host_is_done_for_when_its_app_is_or_when_it_does_not_recover(monkeypatch: pytest.MonkeyPatch) -> None:
    made = FaustHost(Kafka(), "group", AT.topic, 1, Stage().guardian)
    assigned: set[TP] = set()
    consumer = SimpleNamespace(assignment=lambda: assigned)
    faust_app = SimpleNamespace(crash_reason=None, crashed=False, should_stop=False, consumer=consumer)
    monkeypatch.setattr(made, "_app", cast("Any", faust_app))
    monkeypatch.setattr(host, "RECOVER_S", 30.0)
    made.check()
    assigned.add(TP(AT.topic, 0))
    made.check()
    monkeypatch.setattr(made, "_waiting_since", time.monotonic() - 31.0)
    with pytest.raises(HostFailed, match="has not recovered"):
        made.check()
    assigned.clear()
    made.check()
    faust_app.crashed, faust_app.crash_reason = True, ValueError("not UTF-8")
    with pytest.raises(HostFailed, match="not UTF-8"):
        made.check()


async def test_an_error_in_receiving_ends_the_host_and_acknowledges_nothing() -> None:
    async def events() -> AsyncIterator[Any]:
        message = SimpleNamespace(offset=0, key=b"hal9", value=b"garbage")
        yield SimpleNamespace(message=message)
        acknowledged.append(0)

    acknowledged: list[int] = []
    stage = Stage()
    await stage.guardian.taken(None)
    stage.reachable = False
    made = FaustHost(Kafka(), "group", AT.topic, 1, stage.guardian)
    task = asyncio.create_task(made._agent(SimpleNamespace(events=events)))
    await asyncio.wait([asyncio.ensure_future(asyncio.shield(made._failed))])
    with pytest.raises(HostFailed, match="no answer"):
        made.check()
    assert not task.done()
    assert acknowledged == []
    task.cancel()
