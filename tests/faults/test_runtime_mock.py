"""Errors that a real broker does not give on demand, from the mock cluster inside librdkafka."""

import pytest
from aiokafka.errors import GroupAuthorizationFailedError

from hal9.log.effects import Send
from hal9.testing.echo import EchoCore
from hal9.testing.echoing import answered, audit, produce, running, runtime, settled, until
from hal9.testing.mock_cluster import (
    COMMIT,
    COMMITTED,
    COORDINATOR,
    FETCH,
    HEARTBEAT,
    JOIN,
    LOADING,
    NOT_ALLOWED,
    NOT_COORDINATOR,
    NOT_ENOUGH_REPLICAS,
    NOT_LEADER,
    OFFSETS,
    OUT_OF_ORDER,
    PRODUCE,
    TOO_LARGE,
    UNKNOWN_MEMBER,
    MockCluster,
)
from hal9.topics import Topics


@pytest.fixture
def topics(cluster: MockCluster) -> Topics:
    topics = Topics(prefix="m.", partitions=3)
    for log in ("requests", "dispatched", "responses", "quarantine", "status"):
        cluster.create(topics.name(log), topics.partitions_of(log))
    return topics


def values(name: str) -> list[bytes]:
    return [f"{name}-{number}".encode() for number in range(150)]


@pytest.mark.parametrize(
    ("errors", "producers"),
    [
        ([TOO_LARGE], 1),
        ([OUT_OF_ORDER], 1),
        ([NOT_ENOUGH_REPLICAS, NOT_LEADER], 0),
    ],
    ids=["refused", "out of order", "tried again"],
)
async def test_a_failed_append_is_tried_again_or_ends_every_incarnation(
    cluster: MockCluster, topics: Topics, errors: list[int], producers: int
) -> None:
    kafka, cores = cluster.kafka, list[EchoCore]()
    async with running(kafka, topics, cores) as instance:
        await produce(kafka, topics, values("a"))
        await settled(lambda: answered(kafka, topics), set(values("a")))
        cluster.fail(PRODUCE, *errors)
        instance.append(Send("status", b"me", b"x", []))
        await until(lambda: instance.producers == producers and instance._appender.quiet)
        await until(lambda: instance.healthy() == [])
        assert len(cores) == 3 * (1 + producers)
        await produce(kafka, topics, values("b"))
        await settled(lambda: answered(kafka, topics), {*values("a"), *values("b")})
    assert await audit(kafka, topics) == []
    assert [fault for core in cores for fault in core.faults] == []


@pytest.mark.parametrize(
    ("request_", "errors"),
    [
        (FETCH, [NOT_LEADER] * 5),
        (OFFSETS, [NOT_LEADER] * 3),
        (COMMIT, [NOT_COORDINATOR] * 2),
        (COMMITTED, [LOADING] * 2),
        (COORDINATOR, [NOT_COORDINATOR] * 3),
    ],
    ids=["fetch", "ends", "commit", "committed positions", "coordinator"],
)
async def test_what_a_broker_refuses_for_a_while_is_asked_again(
    cluster: MockCluster, topics: Topics, request_: int, errors: list[int]
) -> None:
    kafka, cores = cluster.kafka, list[EchoCore]()
    await produce(kafka, topics, values("a"))
    cluster.fail(request_, *errors)
    async with running(kafka, topics, cores) as instance:
        await until(lambda: sum(len(core.served) for core in cores) == 150)
        cluster.fail(request_, *errors)
        await produce(kafka, topics, values("b"))
        await until(lambda: sum(len(core.served) for core in cores) == 300)
        await until(lambda: instance.healthy() == [])
        await until(lambda: instance.commits.done > 0)
    assert await audit(kafka, topics) == []
    assert [fault for core in cores for fault in core.faults] == []


@pytest.mark.parametrize(
    ("error", "replaced", "made"),
    [(LOADING, 1, 6), (UNKNOWN_MEMBER, 0, 3)],
    ids=["aiokafka gives up", "aiokafka joins again"],
)
async def test_a_member_that_the_group_does_not_know_joins_again(
    cluster: MockCluster, topics: Topics, error: int, replaced: int, made: int
) -> None:
    kafka, cores = cluster.kafka, list[EchoCore]()
    async with running(kafka, topics, cores) as instance:
        await produce(kafka, topics, values("a"))
        await until(lambda: sum(len(core.served) for core in cores) == 150)
        cluster.fail(HEARTBEAT, error)
        await until(lambda: instance.partitions.assignments == 2 and instance.healthy() == [])
        assert len(cores) == made, "who joins again by itself goes on with what it had"
        assert instance._membership.replaced == replaced
        await produce(kafka, topics, values("b"))
        await settled(lambda: answered(kafka, topics), {*values("a"), *values("b")})
    assert await audit(kafka, topics) == []
    assert [fault for core in cores for fault in core.faults] == []


async def test_who_may_not_join_ends(cluster: MockCluster, topics: Topics) -> None:
    cluster.fail(JOIN, *[NOT_ALLOWED] * 5)
    with pytest.raises(GroupAuthorizationFailedError):
        await runtime(cluster.kafka, topics).run()
