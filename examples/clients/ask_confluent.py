"""A request and its answer with confluent-kafka: `python ask_confluent.py BOOTSTRAP KEY VALUE [OPERATION [PREFIX]]`.

Without an operation the request has no headers at all; its id is then where it lies: `<topic>-<partition>-<offset>`.
librdkafka's own default partitioner will do: the router moves what lies elsewhere. "partitioner": "murmur2_random"
saves that hop.
"""

import sys
import time
import uuid

from confluent_kafka import Consumer, Message, Producer, TopicPartition

DEADLINE_S = 30.0


def ask(bootstrap: str, key: str, value: str, operation: str = "", prefix: str = "hal9.") -> str:
    """The status and the answer."""
    consumer = Consumer(
        {"bootstrap.servers": bootstrap, "group.id": f"ask-{uuid.uuid4()}", "enable.auto.commit": False}
    )
    responses = f"{prefix}responses"
    found = consumer.list_topics(responses, timeout=DEADLINE_S).topics[responses].partitions
    ends = [TopicPartition(responses, number) for number in found]
    for end in ends:  # known before the request leaves: no answer can be missed
        end.offset = consumer.get_watermark_offsets(end, timeout=DEADLINE_S)[1]
    consumer.assign(ends)

    headers = [("id", str(uuid.uuid4()).encode()), ("operation", operation.encode())] if operation else []
    stored: list[Message] = []
    producer = Producer({"bootstrap.servers": bootstrap})
    producer.produce(
        f"{prefix}requests", value, key, headers=headers, on_delivery=lambda _, record: stored.append(record)
    )
    producer.flush(DEADLINE_S)
    where = stored[0]
    wanted = headers[0][1] if headers else f"{where.topic()}-{where.partition()}-{where.offset()}".encode()

    until = time.monotonic() + DEADLINE_S
    while time.monotonic() < until:
        record = consumer.poll(1.0)
        if record is None or record.error() is not None:
            continue
        told = dict(record.headers() or [])
        if told.get("id") == wanted:
            consumer.close()
            return f"{told['status'].decode()} {(record.value() or b'').decode()}"
    raise TimeoutError(f"no answer to {wanted.decode()}")


if __name__ == "__main__":
    print(ask(*sys.argv[1:]))
