"""The runtime on a real broker: what a core is promised, on good days and with others writing into its logs."""

from collections.abc import Sequence
from uuid import uuid4

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.records_to_delete import RecordsToDelete

from hal9 import wire
from hal9.control.log import ControlWriter, following
from hal9.errors import Unreachable
from hal9.log.appender import RecordTooLarge
from hal9.log.effects import Record, Send
from hal9.log.fetching import LogReplaced
from hal9.log.runtime import Hooks, Runtime
from hal9.log.uncompressing import BATCH_BYTES
from hal9.settings.sections import Kafka
from hal9.testing.echo import EchoCore
from hal9.testing.echoing import (
    answered,
    audit,
    faults,
    produce,
    read_all,
    running,
    runtime,
    served_by,
    settled,
    until,
    values,
)
from hal9.testing.unreadable import append_bomb, append_unreadable
from hal9.topics import Topics
from schemas.base import decode
from schemas.control import Route
from schemas.reports import quarantined_decoder


def served(cores: list[EchoCore]) -> int:
    return sum(len(core.served) for core in cores)


async def test_every_request_is_served_once_and_in_order(kafka: Kafka, topics: Topics) -> None:
    cores: list[EchoCore] = []
    async with running(kafka, topics, cores) as instance:
        await produce(kafka, topics, values("a", 1000))
        await until(lambda: served(cores) == 1000)
        assert instance.healthy() == []
        assert instance.lag() == {topics.name("requests"): 0}
        assert sorted(instance.cores) == [0, 1, 2, 3]
        assert instance.connections() > 2
        for core in cores:
            assert core.served == list(range(len(core.served)))
        await until(lambda: all(core.ticks > 0 for core in cores))
    assert await audit(kafka, topics) == []
    assert await answered(kafka, topics) == set(values("a", 1000))
    assert faults(cores) == []


async def test_an_instance_goes_on_where_the_last_one_committed(kafka: Kafka, topics: Topics) -> None:
    first: list[EchoCore] = []
    async with running(kafka, topics, first):
        await produce(kafka, topics, values("a", 200))
        await until(lambda: served(first) == 200)
    second: list[EchoCore] = []
    async with running(kafka, topics, second):
        await produce(kafka, topics, values("b", 100))
        await until(lambda: served(second) == 100)
    assert [core.restored_from for core in second] == [
        {"requests": len(core.served), "dispatched": len(core.served) + 1} for core in first
    ]
    assert [core.claim_before for core in second] == [core.term for core in first]
    assert await audit(kafka, topics) == []
    assert faults([*first, *second]) == []


async def test_records_of_others_are_read_in_their_place(
    kafka: Kafka, topics: Topics, producer: AIOKafkaProducer
) -> None:
    cores: list[EchoCore] = []
    async with running(kafka, topics, cores) as instance:
        await until(lambda: len(instance.cores) == 4 and all(core.serving for core in cores))
        for round_ in range(5):
            for number in range(4):
                void = [(wire.POSITION, b"0:0")] if round_ % 2 else [(wire.TERM, b"-1")]
                await producer.send_and_wait(topics.name("dispatched"), b"void", b"x", number, headers=void)
            await produce(kafka, topics, values(f"r{round_}", 40))
            await until(lambda: served(cores) == 40 * (round_ + 1))  # noqa: B023  awaited in the same turn
    assert await audit(kafka, topics) == []
    assert faults(cores) == []
    assert instance.partitions.restarts == 0


async def test_a_foreign_claim_ends_the_incarnation_and_the_next_one_claims_anew(
    kafka: Kafka, topics: Topics, producer: AIOKafkaProducer
) -> None:
    cores: list[EchoCore] = []
    async with running(kafka, topics, cores) as instance:
        await until(lambda: len(instance.cores) == 4 and all(core.serving for core in cores))
        before = {core.partition: core.term for core in cores}
        for number in range(4):
            await producer.send_and_wait(topics.name("dispatched"), b"", wire.CLAIM + b"zombie", number)
        await produce(kafka, topics, values("a", 200))
        await settled(lambda: answered(kafka, topics), set(values("a", 200)))
        assert instance.partitions.restarts == 4
        assert all(core.term > before[number] for number, core in _terms(instance).items())
    assert await audit(kafka, topics) == []
    assert faults(cores) == []


def _terms(instance: Runtime) -> dict[int, EchoCore]:
    return {number: core for number, core in instance.cores.items() if isinstance(core, EchoCore)}


async def test_a_core_that_takes_little_at_a_time_gets_everything(kafka: Kafka, topics: Topics) -> None:
    await produce(kafka, topics, values("a", 2000))
    cores: list[EchoCore] = []

    def make(partition: int) -> EchoCore:
        cores.append(EchoCore(partition, lambda: uuid4().hex, limit=7))
        return cores[-1]

    instance = Runtime(kafka, topics, topics.prefix + "slow", EchoCore, make)
    async with served_by(instance):
        await until(lambda: served(cores) == 2000)
    assert await audit(kafka, topics) == []
    assert faults(cores) == []


async def test_an_unreadable_record_is_quarantined_and_its_neighbours_are_served(
    kafka: Kafka, topics: Topics, producer: AIOKafkaProducer
) -> None:
    cores: list[EchoCore] = []
    async with running(kafka, topics, cores):
        await producer.send_and_wait(topics.name("requests"), b"before", b"k", 0)
        await append_unreadable(producer, topics.name("requests"), 0)
        await producer.send_and_wait(topics.name("requests"), b"after", b"k", 0)
        await settled(lambda: answered(kafka, topics), {b"before", b"v0", b"v2", b"after"})
        await settled(lambda: _quarantined(kafka, topics), [("requests", 0, 2, "unreadable", b"k1", b"v1")])
    assert faults(cores) == []


async def test_a_batch_that_unpacks_to_too_much_is_quarantined_and_its_neighbours_are_served(
    kafka: Kafka, topics: Topics, producer: AIOKafkaProducer
) -> None:
    cores: list[EchoCore] = []
    async with running(kafka, topics, cores):
        await producer.send_and_wait(topics.name("requests"), b"before", b"k", 0)
        await append_bomb(producer, topics.name("requests"), 0, 2 * BATCH_BYTES)
        await producer.send_and_wait(topics.name("requests"), b"after", b"k", 0)
        await settled(lambda: answered(kafka, topics), {b"before", b"after"})
        await settled(lambda: _quarantined(kafka, topics), [("requests", 0, 1, "unreadable", None, None)])
    assert faults(cores) == []


async def _quarantined(kafka: Kafka, topics: Topics) -> list[object]:
    found = [decode(quarantined_decoder, r.value) for r in (await read_all(kafka, topics, "quarantine"))[0]]
    return [(q.topic, q.partition, q.offset, q.reason, q.key, q.value) for q in found]


async def test_records_that_expired_are_passed_over(kafka: Kafka, topics: Topics) -> None:
    await produce(kafka, topics, values("a", 400))
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka.bootstrap)
    await admin.start()
    try:
        gone = {TopicPartition(topics.name("requests"), number): RecordsToDelete(50) for number in range(4)}
        await admin.delete_records(gone)
    finally:
        await admin.close()
    cores: list[EchoCore] = []
    async with running(kafka, topics, cores):
        await until(lambda: served(cores) == 200)
    assert all(core.served[0] == 50 for core in cores)
    assert faults(cores) == []


async def test_a_topic_that_was_made_anew_under_its_group_stops_the_service(kafka: Kafka, topics: Topics) -> None:
    cores: list[EchoCore] = []
    async with running(kafka, topics, cores):
        await produce(kafka, topics, values("a", 100))
        await until(lambda: served(cores) == 100)
    # Kafka itself forgets a group's positions of a topic that is deleted; a mirrored or restored one it does not know.
    await _commit(
        kafka,
        topics.prefix + "echo",
        {TopicPartition(topics.name("requests"), number): 1_000_000 for number in range(4)},
    )
    with pytest.raises(LogReplaced, match="beyond its end"):
        await runtime(kafka, topics).run()


async def _commit(kafka: Kafka, group: str, ends: dict[TopicPartition, int]) -> None:
    consumer = AIOKafkaConsumer(bootstrap_servers=kafka.bootstrap, group_id=group, enable_auto_commit=False)
    consumer.assign(list(ends))
    await consumer.start()
    try:
        await consumer.commit(ends)
    finally:
        await consumer.stop()


async def test_the_fold_of_control_reaches_the_cores(kafka: Kafka, topics: Topics) -> None:
    cores: list[EchoCore] = []

    def make(partition: int) -> EchoCore:
        cores.append(EchoCore(partition, lambda: uuid4().hex))
        return cores[-1]

    async with following(kafka, topics, "m") as follower:
        writer = ControlWriter(kafka, topics, follower)
        instance = Runtime(kafka, topics, topics.prefix + "echo", EchoCore, make, follower)
        async with served_by(instance):
            await until(lambda: [core.epoch for core in cores] == [0] * 4)
            route = Route(id="1", migration="m", actor="test", at_ms=1, expected_epoch=0, percentage=5.0)
            await writer.append(route)
            await until(lambda: [core.epoch for core in cores] == [1] * 4)
        await writer.close()


async def test_hooks_see_the_cores_and_the_service_can_send_its_own(kafka: Kafka, topics: Topics) -> None:
    before: list[Sequence[int]] = []
    seconds: list[Sequence[int]] = []
    hooks = Hooks(
        before_tick=lambda cores: before.append(sorted(cores)), each_second=lambda cores: seconds.append(sorted(cores))
    )
    instance = Runtime(
        kafka, topics, topics.prefix + "echo", EchoCore, lambda p: EchoCore(p, lambda: uuid4().hex), hooks=hooks
    )
    async with served_by(instance):
        await until(lambda: [0, 1, 2, 3] in before and [0, 1, 2, 3] in seconds)
        instance.append(Send("status", b"me", b"alive", []))

        async def heard() -> list[bytes | None]:
            return [record.value for record in (await read_all(kafka, topics, "status"))[0]]

        await settled(heard, [b"alive"])


class Failing(EchoCore):
    """Breaks its promise never to raise."""

    def read(self, log: str, records: Sequence[Record], now_ms: float) -> None:
        if log == "requests":
            raise ZeroDivisionError
        super().read(log, records, now_ms)


class TooMuch(EchoCore):
    """Sends what no broker takes."""

    def read(self, log: str, records: Sequence[Record], now_ms: float) -> None:
        if log == "requests":
            self.effects.sends.append(Send("responses", b"k", b"x" * 1_100_000, []))
        super().read(log, records, now_ms)


@pytest.mark.parametrize(("core", "error"), [(Failing, ZeroDivisionError), (TooMuch, RecordTooLarge)])
async def test_a_broken_core_ends_the_process(
    kafka: Kafka, topics: Topics, core: type[EchoCore], error: type[Exception]
) -> None:
    await produce(kafka, topics, values("a", 1))
    instance = Runtime(kafka, topics, topics.prefix + "broken", core, lambda p: core(p, lambda: uuid4().hex))
    with pytest.raises(error):
        await instance.run()


async def test_an_instance_told_to_stop_before_it_runs_ends_at_once(kafka: Kafka, topics: Topics) -> None:
    instance = runtime(kafka, topics)
    await instance.stop()
    await instance.run()
    await instance.stop()
    assert instance.partitions.takeovers == 0
    assert instance.connections() == 0


async def test_no_broker_is_an_error_with_its_address(topics: Topics) -> None:
    with pytest.raises(Unreachable, match=r"127\.0\.0\.1:1"):
        await runtime(Kafka(bootstrap="127.0.0.1:1", wait_s=0.5), topics).run()
