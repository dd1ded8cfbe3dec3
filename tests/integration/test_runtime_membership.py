"""Members of a group on a real broker: what moves when one joins or leaves, and how a silent one ends."""

import asyncio
from uuid import uuid4

import pytest
from aiokafka import AIOKafkaProducer
from msgspec.structs import replace

from hal9 import wire
from hal9.errors import Stalled
from hal9.log.effects import Record
from hal9.log.runtime import Runtime
from hal9.settings.sections import Kafka
from hal9.testing.echo import EchoCore
from hal9.testing.echoing import answered, audit, faults, produce, read_all, running, settled, until, values
from hal9.topics import Topics


async def test_when_a_member_joins_and_leaves_what_stays_with_another_goes_on_without_a_new_claim(
    kafka: Kafka, topics: Topics
) -> None:
    cores: list[EchoCore] = []
    async with running(kafka, topics, cores) as one:
        await until(lambda: len(one.cores) == 4)
        async with running(kafka, topics, cores) as two:
            await produce(kafka, topics, values("a", 300))
            await until(lambda: len(one.cores) == 2 and len(two.cores) == 2)
            assert {*one.cores, *two.cores} == {0, 1, 2, 3}
            stayed = dict(one.cores)
            await produce(kafka, topics, values("b", 300))
            await settled(lambda: answered(kafka, topics), {*values("a", 300), *values("b", 300)})
        await until(lambda: len(one.cores) == 4)
        await produce(kafka, topics, values("c", 300))
        await settled(lambda: answered(kafka, topics), {value for name in "abc" for value in values(name, 300)})
        assert {number: one.cores[number] for number in stayed} == stayed
        assert (one.partitions.takeovers, two.partitions.takeovers) == (6, 2)
    claims = [sum(is_claim(record) for record in log) for log in await read_all(kafka, topics, "dispatched")]
    assert claims == [1 if number in stayed else 3 for number in range(4)]
    assert await audit(kafka, topics) == []
    assert faults(cores) == []


def is_claim(record: Record) -> bool:
    return record.key is not None and record.key.startswith(wire.CLAIM)


async def test_a_partition_that_somebody_claimed_while_it_rested_is_taken_over_again(
    kafka: Kafka, topics: Topics, producer: AIOKafkaProducer
) -> None:
    cores: list[EchoCore] = []
    async with running(kafka, topics, cores) as one:
        await until(lambda: len(one.cores) == 4 and all(core.serving for core in cores))
        await one.partitions.drain(0.0)
        before = dict(one.cores)
        await producer.send_and_wait(topics.name("dispatched"), b"", wire.CLAIM + b"zombie", 2)
        await produce(kafka, topics, values("a", 100))
        one.partitions.assign(frozenset(range(4)))
        await settled(lambda: answered(kafka, topics), set(values("a", 100)))
        assert [one.cores[number] is before[number] for number in range(4)] == [True, True, False, True]
        assert one.partitions.restarts == 1
    assert await audit(kafka, topics) == []
    assert faults(cores) == []


async def test_a_member_that_never_settles_in_its_group_joins_anew(kafka: Kafka, topics: Topics) -> None:
    cores: list[EchoCore] = []
    async with running(replace(kafka, watchdog_s=1.0), topics, cores) as one:
        await until(lambda: len(one.cores) == 4)
        one._membership.joined = False  # as it is when coordination dies without a word
        await until(lambda: one._membership.replaced == 1 and one.healthy() == [])
        await produce(kafka, topics, values("a", 100))
        await settled(lambda: answered(kafka, topics), set(values("a", 100)))
    assert faults(cores) == []


class Sated(EchoCore):
    """Takes no more once it has served anything, for no reason."""

    def wants(self, log: str) -> bool:
        return super().wants(log) and not (log == "requests" and self.served)


async def test_a_core_that_stops_taking_ends_the_process_with_the_reason(kafka: Kafka, topics: Topics) -> None:
    cores: list[Sated] = []

    def make(partition: int) -> EchoCore:
        cores.append(Sated(partition, lambda: uuid4().hex))
        return cores[-1]

    instance = Runtime(replace(kafka, watchdog_s=1.0), topics, topics.prefix + "sated", Sated, make)
    task = asyncio.create_task(instance.run())
    await produce(kafka, topics, values("a", 100))
    await until(lambda: cores and all(core.served for core in cores))
    await produce(kafka, topics, values("b", 100))
    with pytest.raises(Stalled, match=r"partition \d is assigned, \d+ records wait for it, and nothing has moved"):
        async with asyncio.timeout(30):
            await task
