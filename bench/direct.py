"""The yardstick of the latency: a bare aiokafka loop that answers each record of a topic on another, at once.

python -m bench.direct BOOTSTRAP SOURCE TARGET PARTITIONS
"""

import asyncio
import sys

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition


async def answer(bootstrap: str, source: str, target: str, partitions: int) -> None:
    """Until it is killed; says `ready` when it has begun."""
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap, enable_auto_commit=False, auto_offset_reset="earliest")
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, acks="all", enable_idempotence=True, linger_ms=0)
    await consumer.start()
    await producer.start()
    consumer.assign([TopicPartition(source, p) for p in range(partitions)])
    print("ready", flush=True)
    while True:
        for at, records in (await consumer.getmany(timeout_ms=500, max_records=2000)).items():
            batch = producer.create_batch()
            for record in records:
                if (
                    batch.append(key=record.key, value=record.value, timestamp=None, headers=list(record.headers))
                    is None
                ):
                    batch.close()
                    await producer.send_batch(batch, target, partition=at.partition)
                    batch = producer.create_batch()
                    batch.append(key=record.key, value=record.value, timestamp=None, headers=list(record.headers))
            batch.close()
            await producer.send_batch(batch, target, partition=at.partition)


if __name__ == "__main__":
    asyncio.run(answer(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])))
