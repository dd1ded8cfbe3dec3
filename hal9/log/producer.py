"""Idempotent producers: made one way, and put away without waiting for a broker that does not answer."""

import asyncio
from collections.abc import Sequence
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from hal9.connection import kafka_options
from hal9.errors import Transient
from hal9.log.supervision import unbroken
from hal9.settings.sections import Kafka

BATCH_BYTES = 512 * 1024
"""Of one batch; a record may be greater and then is a batch of its own."""


async def start_producer(kafka: Kafka, deadline_s: float, topics: Sequence[str] = ()) -> Any:
    """A started producer: every record is on all replicas in sync when it is acknowledged, once, in order.

    It knows the leaders of `topics` from the start, so that the first record to one of them waits for nothing.

    Raises:
        Transient: no broker answered within the deadline.
    """
    producer = AIOKafkaProducer(
        **kafka_options(kafka),
        acks="all",
        enable_idempotence=True,
        linger_ms=0,
        max_batch_size=BATCH_BYTES,
        retry_backoff_ms=50,
    )
    try:
        async with asyncio.timeout(deadline_s):
            await unbroken(producer.start())
            if topics:
                await producer.client.set_topics(topics)
    except (KafkaError, OSError) as error:
        await stop_producer(producer)
        raise Transient(f"Kafka at {kafka.bootstrap}: {error!r}") from error
    except BaseException:
        await stop_producer(producer)
        raise
    return producer


async def stop_producer(producer: Any) -> None:
    """Stop without sending what is not sent yet; takes up to the deadline of a request that is under way.

    Its own `stop` would first wait until everything is stored, which with a broker gone is never.
    """
    producer._closed = True  # noqa: SLF001  else it complains when it is collected
    try:
        await producer._sender.close()  # noqa: SLF001
    finally:
        # Only now: the sender puts a batch whose request failed back in line, and would stumble over one that is done.
        _give_up(producer._message_accumulator)  # noqa: SLF001
        await producer.client.close()


def _give_up(accumulator: Any) -> None:
    """Fail what was not sent. Who waits for it is told; if nobody does any more, asyncio need not say so."""
    lines = (*accumulator._batches.values(), accumulator._pending_batches)  # noqa: SLF001
    batches = [batch for line in lines for batch in line]
    accumulator.fail_all(KafkaError("the producer was stopped"))
    for batch in batches:
        for future in (batch.future, batch._drain_waiter, *(one for one, _ in batch._msg_futures)):  # noqa: SLF001
            future.cancelled() or future.exception()
