"""confluent-kafka: `consume` in batches, `produce`, `flush`, `commit`."""

import uuid

from confluent_kafka import Consumer, Producer

from bench.peers.meter import Meter, Task, decide


def main() -> None:
    """Run the task."""
    task, meter, moved = Task.given(), Meter(), 0
    consumer = Consumer(
        {
            "bootstrap.servers": task.bootstrap,
            "group.id": uuid.uuid4().hex,
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
        }
    )
    producer = Producer({"bootstrap.servers": task.bootstrap, "enable.idempotence": True})
    consumer.subscribe([task.source], on_assign=lambda _consumer, _partitions: meter.begin())
    while moved < task.count:
        for message in consumer.consume(1_000, 0.25):
            if message.error():
                raise SystemExit(str(message.error()))
            decide(message.headers())
            while True:
                try:
                    producer.produce(
                        task.target,
                        message.value(),
                        message.key(),
                        partition=message.partition(),
                        headers=message.headers(),
                    )
                    break
                except BufferError:
                    producer.poll(0.05)
            moved += 1
        producer.poll(0)
    producer.flush(60)
    consumer.commit(asynchronous=False)
    meter.tell(moved)
    consumer.close()


main()
