"""What the tests on the run's own Kafka share: its settings, topics of one's own, a producer."""

from collections.abc import AsyncIterator
from uuid import uuid4

import pytest
from aiokafka import AIOKafkaProducer

from hal9.settings.sections import Kafka
from hal9.topics import Topics, create


@pytest.fixture
def kafka(bootstrap: str) -> Kafka:
    return Kafka(bootstrap=bootstrap)


@pytest.fixture
async def topics(kafka: Kafka) -> Topics:
    topics = Topics(prefix=f"{uuid4().hex[:8]}.", partitions=4)
    await create(kafka, topics)
    return topics


@pytest.fixture
async def producer(kafka: Kafka) -> AsyncIterator[AIOKafkaProducer]:
    async with AIOKafkaProducer(bootstrap_servers=kafka.bootstrap, acks="all") as producer:
        yield producer
