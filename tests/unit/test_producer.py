"""Putting a producer away: who waits is told, and what nobody waits for is no error of asyncio."""

import asyncio
import gc
from collections import deque
from typing import Any

import pytest
from aiokafka import TopicPartition
from aiokafka.errors import KafkaError
from aiokafka.producer.message_accumulator import MessageAccumulator, MessageBatch

from hal9.log.producer import stop_producer


class Closing:
    async def close(self) -> None:
        pass


class Accumulator:
    """What aiokafka's one holds of batches that were not sent, and how it fails them."""

    fail_all = MessageAccumulator.fail_all

    def __init__(self, waiting: MessageBatch, under_way: MessageBatch) -> None:
        self._batches = {TopicPartition("t", 0): deque([waiting])}
        self._pending_batches = {under_way}


class Producer:
    def __init__(self, *batches: MessageBatch) -> None:
        self._closed, self._sender, self.client = False, Closing(), Closing()
        self._message_accumulator = Accumulator(*batches)


def batch() -> MessageBatch:
    made = MessageBatch(TopicPartition("t", 0), None, 1.0, 0.0)
    made._msg_futures.append((asyncio.get_running_loop().create_future(), None))
    return made


async def test_what_was_not_sent_fails_for_who_waits_and_troubles_nobody_else() -> None:
    told: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: told.append(context))
    first, second = batch(), batch()
    awaited = second.future
    producer = Producer(first, second)
    await stop_producer(producer)
    with pytest.raises(KafkaError, match="the producer was stopped"):
        await awaited
    del first, second, producer, awaited
    gc.collect()
    assert told == []
