"""Errors that a real broker does not give on demand, from the mock cluster inside librdkafka."""

import ctypes
from collections.abc import Iterator
from ctypes import POINTER, c_char_p, c_int, c_int16, c_size_t, c_void_p
from pathlib import Path

import pytest
from aiokafka.errors import GroupAuthorizationFailedError

confluent_kafka = pytest.importorskip("confluent_kafka", reason="its wheel holds the mock cluster")

from hal9.log.effects import Send  # noqa: E402  after the skip
from hal9.settings.sections import Kafka  # noqa: E402
from hal9.testing.echo import EchoCore  # noqa: E402
from hal9.testing.echoing import answered, audit, produce, running, runtime, settled, until  # noqa: E402
from hal9.topics import Topics  # noqa: E402

PRODUCE, FETCH, OFFSETS, COMMIT, COMMITTED, COORDINATOR, JOIN, HEARTBEAT = 0, 1, 2, 8, 9, 10, 11, 12
TOO_LARGE, NOT_LEADER, NOT_ENOUGH_REPLICAS, NOT_COORDINATOR, LOADING, OUT_OF_ORDER = 10, 6, 19, 16, 14, 45
UNKNOWN_MEMBER, NOT_ALLOWED = 25, 30


class Cluster:
    """Three brokers in this process that do what they are told."""

    def __init__(self, library: ctypes.CDLL) -> None:
        self._library = library
        message = ctypes.create_string_buffer(512)
        configuration = library.rd_kafka_conf_new()
        library.rd_kafka_conf_set(configuration, b"log_level", b"3", message, 512)
        self._client = library.rd_kafka_new(0, configuration, message, 512)
        self._cluster = library.rd_kafka_mock_cluster_new(self._client, 3)
        library.rd_kafka_mock_group_initial_rebalance_delay_ms(self._cluster, 0)
        self.kafka = Kafka(bootstrap=library.rd_kafka_mock_cluster_bootstraps(self._cluster).decode())

    def create(self, topic: str, partitions: int) -> None:
        self._library.rd_kafka_mock_topic_create(self._cluster, topic.encode(), partitions, 1)

    def fail(self, request: int, *errors: int) -> None:
        """The next requests of this kind get these errors, one each."""
        array = (c_int * len(errors))(*errors)
        self._library.rd_kafka_mock_push_request_errors_array(self._cluster, request, len(errors), array)

    def close(self) -> None:
        self._library.rd_kafka_mock_cluster_destroy(self._cluster)
        self._library.rd_kafka_destroy(self._client)


def load() -> ctypes.CDLL:
    libraries = Path(confluent_kafka.__file__).parent.parent / "confluent_kafka.libs"
    found = list(libraries.glob("librdkafka-*.so*"))
    if not found:
        pytest.skip("this wheel of confluent-kafka has no shared librdkafka")
    library = ctypes.CDLL(str(found[0]))
    signatures = {
        "conf_new": (c_void_p, []),
        "conf_set": (c_int, [c_void_p, c_char_p, c_char_p, c_char_p, c_size_t]),
        "new": (c_void_p, [c_int, c_void_p, c_char_p, c_size_t]),
        "destroy": (None, [c_void_p]),
        "mock_cluster_new": (c_void_p, [c_void_p, c_int]),
        "mock_cluster_destroy": (None, [c_void_p]),
        "mock_cluster_bootstraps": (c_char_p, [c_void_p]),
        "mock_topic_create": (c_int, [c_void_p, c_char_p, c_int, c_int]),
        "mock_group_initial_rebalance_delay_ms": (None, [c_void_p, c_int]),
        "mock_push_request_errors_array": (None, [c_void_p, c_int16, c_size_t, POINTER(c_int)]),
    }
    for name, (result, arguments) in signatures.items():
        function = getattr(library, f"rd_kafka_{name}")
        function.restype, function.argtypes = result, arguments
    return library


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    cluster = Cluster(load())
    yield cluster
    cluster.close()


@pytest.fixture
def topics(cluster: Cluster) -> Topics:
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
    cluster: Cluster, topics: Topics, errors: list[int], producers: int
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
    cluster: Cluster, topics: Topics, request_: int, errors: list[int]
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
    cluster: Cluster, topics: Topics, error: int, replaced: int, made: int
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


async def test_who_may_not_join_ends(cluster: Cluster, topics: Topics) -> None:
    cluster.fail(JOIN, *[NOT_ALLOWED] * 5)
    with pytest.raises(GroupAuthorizationFailedError):
        await runtime(cluster.kafka, topics).run()
