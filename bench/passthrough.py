"""The yardstick: a bare aiokafka loop from topic to topic, in batches. Prints what it took as JSON.

python -m bench.passthrough BOOTSTRAP SOURCE TARGET COUNT
"""

import asyncio

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from bench.peers.meter import Meter, Task

PARTITIONS = 6
"""Of the topics of this bench."""


async def pass_through(task: Task) -> None:
    """Move the messages, and say what it took."""
    consumer = AIOKafkaConsumer(
        bootstrap_servers=task.bootstrap, enable_auto_commit=False, auto_offset_reset="earliest"
    )
    producer = AIOKafkaProducer(bootstrap_servers=task.bootstrap, acks="all", enable_idempotence=True)
    await consumer.start()
    await producer.start()
    try:
        consumer.assign([TopicPartition(task.source, p) for p in range(PARTITIONS)])
        meter, moved = Meter(), 0
        meter.begin()
        while moved < task.count:
            found = await consumer.getmany(timeout_ms=250, max_records=2000)
            acknowledgements = []
            for at, records in found.items():
                batch = producer.create_batch()
                for record in records:
                    appended = batch.append(
                        key=record.key, value=record.value, timestamp=None, headers=list(record.headers)
                    )
                    if appended is None:
                        batch.close()
                        acknowledgements.append(await producer.send_batch(batch, task.target, partition=at.partition))
                        batch = producer.create_batch()
                        batch.append(key=record.key, value=record.value, timestamp=None, headers=list(record.headers))
                batch.close()
                acknowledgements.append(await producer.send_batch(batch, task.target, partition=at.partition))
                moved += len(records)
            await asyncio.gather(*acknowledgements)
        meter.tell(moved)
    finally:
        await producer.stop()
        await consumer.stop()


if __name__ == "__main__":
    asyncio.run(pass_through(Task.given()))
