"""The topics as the contract and the design have them, on a real broker."""

import asyncio
from collections.abc import Awaitable, Callable
from uuid import uuid4

import pytest
from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.client import AIOKafkaClient

from hal9.errors import Transient
from hal9.log.effects import LATEST
from hal9.log.log_ends import list_offsets
from hal9.settings.sections import Kafka
from hal9.settings.sections import Topics as TopicSettings
from hal9.topics import LOGS, Topics, check, create, topic_id
from schemas.logs import DAY_MS


async def becomes(ask: Callable[[], Awaitable[object]], wanted: object, deadline_s: float = 15.0) -> None:
    """Brokers learn of changes a little later than the controller that made them."""
    found = None
    try:
        async with asyncio.timeout(deadline_s):
            while (found := await ask()) != wanted:  # noqa: ASYNC110  it is Kafka that is asked
                await asyncio.sleep(0.05)
    except TimeoutError:
        assert found == wanted


@pytest.fixture
def kafka(bootstrap: str) -> Kafka:
    return Kafka(bootstrap=bootstrap)


@pytest.fixture
def topics() -> Topics:
    return Topics(prefix=f"{uuid4().hex[:8]}.", partitions=2)


def test_logs_are_the_topics_of_the_settings() -> None:
    assert set(LOGS) == set(TopicSettings().names())
    topics = Topics.of(TopicSettings())
    assert {log: topics.name(log) for log in LOGS} == TopicSettings().names()


def test_each_name_can_be_set_on_its_own() -> None:
    topics = Topics.of(TopicSettings(prefix="x.", neurons_changes="cdc-neurons"))
    assert topics.name("neurons.changes") == "cdc-neurons"
    assert topics.log("cdc-neurons") == "neurons.changes"
    assert topics.name("requests") == "x.requests"
    with pytest.raises(KeyError):
        topics.name("neuron.changes")


def test_state_logs_are_compacted_with_their_recent_tail_complete() -> None:
    topics = Topics()
    compacted = {log for log in LOGS if topics.config(log)["cleanup.policy"] == "compact"}
    assert compacted == {"neurons.changes", "neurons.replica", "units.changes", "units.replica", "status"}
    for log in compacted - {"status"}:
        assert int(topics.config(log)["min.compaction.lag.ms"]) == DAY_MS
        assert topics.config(log)["message.timestamp.type"] == "LogAppendTime", "the lag counts by the broker's clock"
    assert topics.config("requests")["message.timestamp.type"] == "LogAppendTime"
    assert topics.config("control")["retention.ms"] == "-1"


def test_keyed_topics_share_a_partition_count_and_the_others_have_one() -> None:
    topics = Topics(partitions=7)
    single = {log for log in LOGS if topics.partitions_of(log) == 1}
    assert single == {"outcomes", "validations", "quarantine", "control", "status"}
    assert {topics.partitions_of(log) for log in set(LOGS) - single} == {7}


def test_three_replicas_need_two_in_sync() -> None:
    assert Topics(replication_factor=3).config("control")["min.insync.replicas"] == "2"
    assert Topics(replication_factor=1).config("control")["min.insync.replicas"] == "1"


async def test_create_makes_what_is_missing_and_check_is_content(kafka: Kafka, topics: Topics) -> None:
    assert len(await check(kafka, topics)) == len(LOGS)
    assert await create(kafka, topics) == [topics.name(log) for log in LOGS]
    assert await check(kafka, topics) == []
    assert await create(kafka, topics) == []


async def test_what_was_created_is_served_at_once(kafka: Kafka) -> None:
    many = Topics(prefix=f"{uuid4().hex[:8]}.", partitions=12)
    await create(kafka, many)
    client = AIOKafkaClient(bootstrap_servers=kafka.bootstrap)
    try:
        await client.bootstrap()
        places = [TopicPartition(many.name(log), n) for log in LOGS for n in range(many.partitions_of(log))]
        assert set((await list_offsets(client, places, LATEST)).values()) == {0}
    finally:
        await client.close()


async def test_check_names_what_differs(kafka: Kafka, topics: Topics) -> None:
    await create(kafka, topics)
    name = topics.name("control")
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka.bootstrap)
    await admin.start()
    try:
        wrong = {
            "retention.ms": "1000",
            "cleanup.policy": "delete",
            "retention.bytes": "-1",
            "min.insync.replicas": "1",
        }
        await admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, name, wrong)])
        await admin.create_partitions({topics.name("requests"): NewPartitions(3)})
        await admin.delete_topics([topics.name("status")])
    finally:
        await admin.close()
    problems = [
        f"topic {topics.name('requests')} has 3 partitions, not 2",
        f"topic {name}: retention.ms is 1000, not -1",
        f"topic {topics.name('status')} does not exist",
    ]
    await becomes(lambda: check(kafka, topics), problems)


async def test_a_topic_made_anew_has_another_id(kafka: Kafka, topics: Topics) -> None:
    await create(kafka, topics)
    name = topics.name("units.replica")
    before = await topic_id(kafka, name)
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka.bootstrap)
    await admin.start()
    try:
        await admin.delete_topics([name])
    finally:
        await admin.close()
    await becomes(lambda: check(kafka, topics), [f"topic {name} does not exist"])
    with pytest.raises(Transient, match="does not exist"):
        await topic_id(kafka, name)
    await create(kafka, topics)
    after = await topic_id(kafka, name)
    assert before != after
    assert len(before) == len(after) == 22


async def test_a_broker_that_does_not_answer_is_named() -> None:
    with pytest.raises(Transient, match=r"127\.0\.0\.1:1"):
        await check(Kafka(bootstrap="127.0.0.1:1"), Topics())
