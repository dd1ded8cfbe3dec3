"""The appender over a producer that does what the test says: order, places, owners, failures."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka.errors import KafkaTimeoutError, MessageSizeTooLargeError

from hal9.errors import Transient
from hal9.log import appender as module
from hal9.log.appender import Appender, RecordTooLarge
from hal9.log.clock import Clock
from hal9.log.effects import Send
from hal9.settings.sections import Kafka
from hal9.topics import Topics


class Batch:
    """Takes three records."""

    def __init__(self) -> None:
        self.records: list[bytes] = []

    @property
    def _builder(self) -> "Batch":
        return self

    def append(self, offset: int, _timestamp: int, _key: bytes | None, value: bytes | None, _headers: list[Any]) -> Any:
        assert offset == len(self.records)
        if len(self.records) == 3:
            return None
        self.records.append(value or b"")
        return SimpleNamespace(size=len(value or b""))

    def close(self) -> None:
        pass


class Producer:
    """Keeps what is submitted until the test acknowledges it."""

    def __init__(self) -> None:
        self.submitted: list[tuple[str, int, list[bytes], asyncio.Future[Any]]] = []
        self.refuse: list[BaseException] = []

    def create_batch(self) -> Batch:
        return Batch()

    async def send_batch(self, batch: Batch, topic: str, *, partition: int) -> asyncio.Future[Any]:
        if self.refuse:
            raise self.refuse.pop(0)
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self.submitted.append((topic, partition, batch.records, future))
        return future

    def ack(self, index: int, offset: int, timestamp: int = -1) -> None:
        self.submitted[index][3].set_result(SimpleNamespace(offset=offset, timestamp=timestamp))


class Owner:
    """Remembers what it is told."""

    def __init__(self, partition: int) -> None:
        self.partition = partition
        self.told: list[tuple[str, int, list[tuple[bytes | None, int]]]] = []

    def stored(self, log: str, partition: int, sends: Sequence[Send]) -> None:
        self.told.append((log, partition, [(send.value, send.offset) for send in sends]))


@pytest.fixture
def producer() -> Producer:
    return Producer()


@pytest.fixture
async def appender(producer: Producer, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Appender]:
    async def start(*_: object) -> Producer:
        return producer

    async def stop(_: Producer) -> None:
        pass

    monkeypatch.setattr(module, "start_producer", start)
    monkeypatch.setattr(module, "stop_producer", stop)
    appender = Appender(Kafka(), Topics(prefix=""), Clock())
    await appender.restart(1.0)
    yield appender
    await appender.close(1.0)


@pytest.fixture
async def running(appender: Appender) -> AsyncIterator[asyncio.Task[None]]:
    task = asyncio.create_task(appender.run())
    yield task
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def sends(log: str, *values: bytes, partition: int | None = None) -> list[Send]:
    return [Send(log, b"k", value, [], partition=partition) for value in values]


async def turns(count: int = 10) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def test_records_of_one_partition_leave_in_order_in_batches_that_are_full(
    appender: Appender, producer: Producer, running: asyncio.Task[None]
) -> None:
    owner = Owner(2)
    appender.add(owner, [*sends("dispatched", b"0", b"1"), *sends("responses", b"x"), *sends("dispatched", b"2", b"3")])
    await turns()
    shown = [(topic, partition, records) for topic, partition, records, _ in producer.submitted]
    assert shown == [("dispatched", 2, [b"0", b"1", b"2"]), ("dispatched", 2, [b"3"]), ("responses", 2, [b"x"])]
    assert not appender.quiet
    producer.ack(0, 40)
    producer.ack(1, 50, 77)
    producer.ack(2, -1)
    await turns()
    assert owner.told == [
        ("dispatched", 2, [(b"0", 40), (b"1", 41), (b"2", 42)]),
        ("dispatched", 2, [(b"3", 50)]),
        ("responses", 2, [(b"x", -1)]),
    ]
    assert appender.quiet
    assert not running.done()


async def test_each_owner_hears_of_its_own_in_a_batch_shared_by_several(
    appender: Appender, producer: Producer, running: asyncio.Task[None]
) -> None:
    one, two = Owner(1), Owner(2)
    appender.add(one, sends("control", b"a", partition=0))
    appender.add(two, sends("control", b"b", partition=0))
    appender.add(None, sends("control", b"c"))
    await turns()
    assert [records for _, _, records, _ in producer.submitted] == [[b"a", b"b", b"c"]]
    producer.ack(0, 7)
    await turns()
    assert (one.told, two.told) == ([("control", 0, [(b"a", 7)])], [("control", 0, [(b"b", 8)])])


async def test_a_failure_ends_it_and_nothing_more_is_sent(
    appender: Appender, producer: Producer, running: asyncio.Task[None]
) -> None:
    owner = Owner(0)
    appender.add(owner, sends("dispatched", b"0"))
    await turns()
    appender.add(owner, sends("dispatched", b"1"))
    await turns()
    producer.submitted[0][3].set_exception(MessageSizeTooLargeError())
    appender.add(owner, sends("dispatched", b"2"))
    with pytest.raises(Transient, match="MessageSizeTooLargeError"):
        await running
    assert not appender.ready
    assert len(producer.submitted) == 2
    await appender.restart(1.0)
    assert appender.ready
    producer.ack(1, 5)  # what comes for the old producer is nobody's
    await turns()
    assert owner.told == []


async def test_a_partition_that_takes_no_batch_now_is_asked_again(
    appender: Appender, producer: Producer, running: asyncio.Task[None]
) -> None:
    producer.refuse = [KafkaTimeoutError()]
    appender.add(Owner(0), sends("dispatched", b"0"))
    async with asyncio.timeout(5):
        while not producer.submitted:  # noqa: ASYNC110  a list has no event
            await asyncio.sleep(0)
    assert not running.done()


async def test_a_record_that_no_broker_takes_is_a_bug(
    appender: Appender, producer: Producer, running: asyncio.Task[None]
) -> None:
    appender.add(Owner(0), sends("dispatched", b"x" * 1_000_001))
    with pytest.raises(RecordTooLarge, match="1000001 bytes"):
        await running
    assert producer.submitted == []


async def test_what_an_owner_raises_is_not_lost(
    appender: Appender, producer: Producer, running: asyncio.Task[None]
) -> None:
    class Broken(Owner):
        def stored(self, log: str, partition: int, sends: Sequence[Send]) -> None:
            raise ZeroDivisionError(log, partition, sends)

    appender.add(Broken(0), sends("dispatched", b"0"))
    await turns()
    producer.ack(0, 1)
    with pytest.raises(ZeroDivisionError):
        await running


async def test_no_acknowledgement_within_the_deadline_is_a_failure(
    appender: Appender, producer: Producer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_PAUSE_S", 0.0)
    appender._deadline_s = 0.0
    appender.add(Owner(0), sends("dispatched", b"0"))
    with pytest.raises(Transient, match="no acknowledgement"):
        await appender.run()
    assert len(producer.submitted) == 1
