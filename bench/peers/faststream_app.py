"""FastStream over aiokafka: a batch in, a batch out, acknowledged by hand."""

import asyncio
import uuid

from aiokafka.abc import ConsumerRebalanceListener
from faststream import AckPolicy
from faststream.kafka import KafkaBroker, KafkaMessage, KafkaPublishMessage

from bench.peers.meter import Meter, Task, decide


class Listener(ConsumerRebalanceListener):  # type: ignore[misc]
    """Fetching begins when partitions are assigned."""

    def __init__(self, meter: Meter) -> None:
        self._meter = meter

    async def on_partitions_revoked(self, revoked: object) -> None:
        """Nothing to do."""

    async def on_partitions_assigned(self, assigned: object) -> None:
        """Start the clock."""
        if assigned:
            self._meter.begin()


async def main() -> None:
    """Run the task."""
    task, meter, moved = Task.given(), Meter(), 0
    done = asyncio.Event()
    broker = KafkaBroker(task.bootstrap, acks="all", enable_idempotence=True, max_batch_size=256 * 1024, logger=None)

    @broker.subscriber(
        task.source,
        batch=True,
        max_records=1_000,
        group_id=uuid.uuid4().hex,
        auto_offset_reset="earliest",
        ack_policy=AckPolicy.NACK_ON_ERROR,
        listener=Listener(meter),
    )
    async def handle(message: KafkaMessage) -> None:
        nonlocal moved
        records = message.raw_message
        batch = []
        for record in records:
            decide(record.headers)
            held = {name: value.decode() for name, value in record.headers}
            batch.append(KafkaPublishMessage(record.value, headers=held, key=record.key))
        futures = []
        for start in range(0, len(batch), 250):
            part = batch[start : start + 250]
            futures.append(
                await broker.publish_batch(*part, topic=task.target, partition=records[0].partition, no_confirm=True)
            )
        await asyncio.gather(*futures)
        moved += len(records)
        if moved >= task.count:
            done.set()

    async with broker:
        await broker.start()
        await asyncio.wait_for(done.wait(), 120)
        meter.tell(moved)


asyncio.run(main())
