"""The guardian as a process on a real broker: what routers report goes in, commands on `control` come out."""

import asyncio
import sys
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.record.default_records import _DefaultRecordBatchBuilderPy

from hal9 import topics
from hal9.control.log import ControlFollower, ControlWriter, following
from hal9.log.reading import read_range
from hal9.settings import Kafka, Settings
from hal9.settings import Topics as TopicSettings
from schemas.base import FLAT, HIERARCHICAL, encode
from schemas.control import AnyControl, Freeze, Rollback, Route, Start
from schemas.reports import Quarantined, quarantined_decoder
from schemas.telemetry import Arm, Outcome
from stack.ports import free_ports
from stack.process import Supervised

DEADLINE_S = 60.0
ROOT = Path(__file__).parents[2]


async def until(what: str, condition: Callable[[], Any]) -> Any:
    """The first true value of `condition`."""
    end = time.monotonic() + DEADLINE_S
    while not (found := condition()):
        assert time.monotonic() < end, f"not within {DEADLINE_S:g} s: {what}"
        await asyncio.sleep(0.05)
    return found


class Bench:
    """A migration at 10 %, one scripted router, and the guardian that watches it."""

    def __init__(
        self, settings: Settings, control: ControlFollower, producer: AIOKafkaProducer, directory: Path
    ) -> None:
        self.settings, self.control, self.producer, self.directory = settings, control, producer, directory
        self.topics = topics.Topics.of(settings.topics)
        self.seq = 0
        self.records: list[AnyControl] = []
        control.listen(lambda _, outcome: self.records.append(outcome.record) if outcome.record else None)

    async def report(self, *arms: Arm) -> None:
        self.seq += 1
        outcome = Outcome(router="router-a", seq=self.seq, at_ms=int(time.time()) * 1000, arms=list(arms))
        await self.append(encode(outcome))

    async def append(self, value: bytes | None) -> None:
        await self.producer.send_and_wait(self.topics.name("outcomes"), value, key=b"hal9", partition=0)

    async def append_unreadable(self) -> None:
        """A record whose header name is not UTF-8: no client writes it, every broker takes it."""

        class Bad(str):
            __slots__ = ()

            def encode(self, *_: Any, **__: Any) -> bytes:
                return b"\xff\xfe"

        batch = self.producer.create_batch()
        batch._builder = _DefaultRecordBatchBuilderPy(
            2, 0, is_transactional=0, producer_id=-1, producer_epoch=-1, base_sequence=0, batch_size=16_384
        )
        batch.append(key=b"hal9", value=b"unreadable", timestamp=None, headers=[(Bad(), b"1")])
        batch.close()
        await (await self.producer.send_batch(batch, self.topics.name("outcomes"), partition=0))

    def commands(self, kind: type[Freeze | Rollback]) -> list[Any]:
        return [record for record in self.records if isinstance(record, kind)]

    async def quarantined(self) -> list[Quarantined]:
        records = await read_range(self.settings.kafka, self.topics.name("quarantine"))
        return [quarantined_decoder.decode(record.value or b"") for record in records]

    @contextmanager
    def guardian(self, **policy: object) -> Iterator["Process"]:
        port = free_ports(1)[0]
        env = {
            "HAL9_KAFKA__BOOTSTRAP": self.settings.kafka.bootstrap,
            "HAL9_TOPICS__PREFIX": self.settings.topics.prefix,
            "HAL9_TOPICS__PARTITIONS": "1",
            "HAL9_HTTP__PORT": str(port),
            "HAL9_GUARDIAN__DECIDE_EVERY_S": "0.1",
            **{f"HAL9_GUARDIAN__{name.upper()}": str(value) for name, value in policy.items()},
        }
        log = self.directory / f"guardian-{port}.log"
        child = Supervised("guardian", [sys.executable, "-m", "services.guardian"], log=log, env=env, cwd=ROOT)
        child.start()
        try:
            yield Process(child, port)
        finally:
            child.stop()


class Process:
    """One guardian process."""

    def __init__(self, child: Supervised, port: int) -> None:
        self.child, self.port = child, port

    def get(self, path: str) -> str:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=5) as reply:
                return str(reply.read().decode())
        except urllib.error.HTTPError as error:
            with error:
                return f"{error.code}"
        except OSError as error:
            assert self.child.poll() is None, self.child.tail()
            return f"unreachable: {error}"

    def metric(self, name: str) -> float:
        for line in self.get("/metrics").splitlines():
            if line.startswith(name):
                return float(line.rpartition(" ")[2])
        return 0.0

    def verdicts(self, trigger: str, verdict: str) -> float:
        return self.metric(f'hal9_verdicts_total{{trigger="{trigger}",verdict="{verdict}"}}')

    async def ready(self) -> None:
        await until(f"{self.child!r} is ready", lambda: self.get("/readyz") == "ok\n")

    async def looked_again(self, trigger: str, verdict: str) -> None:
        """Some more looks with this verdict have passed."""
        before = self.verdicts(trigger, verdict)
        await until(f"{trigger} {verdict}", lambda: self.verdicts(trigger, verdict) >= before + 3)


@asynccontextmanager
async def migration(bootstrap: str, directory: Path) -> AsyncIterator[Bench]:
    prefix = f"guardian-{uuid.uuid4().hex[:8]}."
    settings = Settings(kafka=Kafka(bootstrap=bootstrap), topics=TopicSettings(prefix=prefix, partitions=1))
    names = topics.Topics.of(settings.topics)
    await topics.create(settings.kafka, names)
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap)
    await producer.start()
    try:
        async with following(settings.kafka, names, "hal9") as control:
            bench = Bench(settings, control, producer, directory)
            writer = ControlWriter(settings.kafka, names, control)
            about: dict[str, Any] = {"migration": "hal9", "actor": "test", "at_ms": 0, "expected_epoch": 0}
            await writer.append(Start(id="start", partitions=1, plan={}, **about))
            await writer.append(Route(id="route", percentage=10, **about))
            await writer.close()
            yield bench
    finally:
        await producer.stop()


def sick(errors: int) -> Arm:
    return Arm(system=HIERARCHICAL, epoch=1, error=errors)


async def test_a_guardian_that_was_killed_remembers_the_evidence_and_rolls_back_once(
    bootstrap: str, tmp_path: Path
) -> None:
    async with migration(bootstrap, tmp_path) as bench:
        with bench.guardian(min_requests=100) as first:
            await first.ready()
            await bench.report(sick(60))
            await bench.report(Arm(system=FLAT, epoch=1, ok=500))
            await until("both are read", lambda: first.metric("hal9_guardian_outcomes_total") >= 2)
            await first.looked_again("error_rate", "insufficient")
            assert first.metric("process_resident_memory_bytes") < 120e6
            first.child.kill()
        assert bench.commands(Rollback) == []
        with bench.guardian(min_requests=100) as second:
            await second.ready()
            await bench.report(sick(50))
            rollback = (await until("a rollback", lambda: bench.commands(Rollback)))[0]
            assert rollback.evidence[HIERARCHICAL]["requests"] == 110
            assert rollback.evidence[FLAT]["requests"] == 500
            assert (rollback.trigger, rollback.expected_epoch) == ("error_rate", 1)
            assert (bench.control.state.epoch, bench.control.state.route.bound) == (2, 0)
            second.child.kill()
        with bench.guardian(min_requests=100) as third:
            await third.ready()
            await bench.report(sick(500))
            await third.looked_again("error_rate", "insufficient")
        assert len(bench.commands(Rollback)) == 1


async def test_when_both_systems_are_sick_the_migration_is_frozen(bootstrap: str, tmp_path: Path) -> None:
    async with migration(bootstrap, tmp_path) as bench:
        with bench.guardian() as guardian:
            await guardian.ready()
            await bench.report(sick(100), Arm(system=FLAT, epoch=1, error=100))
            await until("a freeze", lambda: bench.commands(Freeze))
            await guardian.looked_again("error_rate", "regression")
        assert bench.control.state.frozen
        assert bench.commands(Rollback) == []


async def test_silence_freezes_and_then_rolls_back(bootstrap: str, tmp_path: Path) -> None:
    async with migration(bootstrap, tmp_path) as bench:
        with bench.guardian(silence_s=1.0) as guardian:
            await guardian.ready()
            await until("a rollback", lambda: bench.commands(Rollback))
        assert [type(record) for record in bench.records] == [Start, Route, Freeze, Rollback]
        assert {record.trigger for record in bench.commands(Freeze) + bench.commands(Rollback)} == {"silence"}


async def test_what_cannot_be_read_is_quarantined_and_stops_nothing(bootstrap: str, tmp_path: Path) -> None:
    async with migration(bootstrap, tmp_path) as bench:
        with bench.guardian(min_requests=100) as guardian:
            await guardian.ready()
            await bench.report(sick(60))
            for value in (None, b"", b"\xc1 garbage", msgspec.msgpack.encode({"router": 1}), b"\x91" * 10_000):
                await bench.append(value)
            await bench.append_unreadable()
            await bench.report(sick(50))
            rollback = (await until("a rollback", lambda: bench.commands(Rollback)))[0]
            assert rollback.evidence[HIERARCHICAL]["requests"] == 110
        found = await bench.quarantined()
        assert [(q.offset, q.reason) for q in found] == [(n, "bad-value") for n in range(1, 6)] + [(6, "unreadable")]


async def test_a_standby_takes_over_what_a_killed_guardian_had_seen(bootstrap: str, tmp_path: Path) -> None:
    async with migration(bootstrap, tmp_path) as bench:
        with bench.guardian(min_requests=100) as active:
            await active.ready()
            await bench.report(sick(60))
            with bench.guardian(min_requests=100) as standby:
                await until("the standby has joined", lambda: "503" in {active.get("/readyz"), standby.get("/readyz")})
                held = next(g for g in (active, standby) if g.get("/readyz") == "ok\n")
                held.child.kill()
                other = standby if held is active else active
                await other.ready()
                await bench.report(sick(50))
                rollback = (await until("a rollback", lambda: bench.commands(Rollback)))[0]
        assert rollback.evidence[HIERARCHICAL]["requests"] == 110


@pytest.mark.parametrize("name", ["ERROR_RATE", "MIN_REQUESTS"])
def test_a_wrong_setting_ends_it_with_2_and_names_it(name: str, tmp_path: Path) -> None:
    log = tmp_path / "guardian.log"
    env = {f"HAL9_GUARDIAN__{name}": "lots"}
    child = Supervised("guardian", [sys.executable, "-m", "services.guardian"], log=log, env=env, cwd=ROOT)
    child.start()
    assert child.wait(DEADLINE_S) == 2
    assert f"GUARDIAN.{name}" in log.read_text()
