"""The yardstick: a bare aiokafka loop from topic to topic, in batches. Prints what it took as JSON.

python -m bench.passthrough BOOTSTRAP SOURCE TARGET COUNT
"""

import asyncio
import json
import resource
import sys
import time

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

PARTITIONS = 6
"""Of the topics of this bench."""


async def pass_through(bootstrap: str, source: str, target: str, count: int) -> tuple[float, float]:
    """Move `count` messages; microseconds of CPU per message, and messages per second."""
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap, enable_auto_commit=False, auto_offset_reset="earliest")
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, acks="all", enable_idempotence=True)
    await consumer.start()
    await producer.start()
    try:
        consumer.assign([TopicPartition(source, p) for p in range(PARTITIONS)])
        begun, at_s, moved = _cpu(), time.monotonic(), 0
        while moved < count:
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
                        acknowledgements.append(await producer.send_batch(batch, target, partition=at.partition))
                        batch = producer.create_batch()
                        batch.append(key=record.key, value=record.value, timestamp=None, headers=list(record.headers))
                batch.close()
                acknowledgements.append(await producer.send_batch(batch, target, partition=at.partition))
                moved += len(records)
            await asyncio.gather(*acknowledgements)
        return (_cpu() - begun) / moved * 1e6, moved / (time.monotonic() - at_s)
    finally:
        await producer.stop()
        await consumer.stop()


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    used, moved = asyncio.run(pass_through(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])))
    print(json.dumps({"us": used, "per_s": moved}))
