"""Quix Streams: `apply` and `to_topic`, its own checkpoints."""

import tempfile
import uuid

from quixstreams import Application

from bench.peers.meter import Meter, Task, decide


def main() -> None:
    """Run the task."""
    task, meter = Task.given(), Meter()
    with tempfile.TemporaryDirectory() as state:
        app = Application(
            task.bootstrap,
            consumer_group=uuid.uuid4().hex,
            auto_offset_reset="earliest",
            loglevel="ERROR",
            state_dir=state,
            auto_create_topics=False,
        )
        kinds = {"key_serializer": "bytes", "value_serializer": "bytes"}
        source = app.topic(task.source, key_deserializer="bytes", value_deserializer="bytes", **kinds)
        target = app.topic(task.target, key_deserializer="bytes", value_deserializer="bytes", **kinds)

        def look(value: bytes, _key: bytes, _at: int, headers: object) -> bytes:
            decide(headers)
            return value

        assign = app._on_assign  # noqa: SLF001  it has no hook of its own for this

        def assigned(consumer: object, partitions: list[object]) -> None:
            meter.begin()
            assign(consumer, partitions)

        app._on_assign = assigned  # noqa: SLF001
        app.dataframe(source).apply(look, metadata=True).to_topic(target)
        app.run(count=task.count, timeout=60, collect=False)
        meter.tell(task.count)


main()
