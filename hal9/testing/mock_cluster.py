"""Three brokers inside this process, by librdkafka: they refuse, move partitions and go down when they are told to."""

import ctypes
from ctypes import POINTER, c_char_p, c_int, c_int16, c_int32, c_size_t, c_void_p
from importlib.util import find_spec
from pathlib import Path

from hal9.settings.sections import Kafka

BROKERS = 3
PRODUCE, FETCH, OFFSETS, COMMIT, COMMITTED, COORDINATOR, JOIN, HEARTBEAT = 0, 1, 2, 8, 9, 10, 11, 12
"""Kinds of requests."""
TOO_LARGE, NOT_LEADER, NOT_ENOUGH_REPLICAS, NOT_COORDINATOR, LOADING, OUT_OF_ORDER = 10, 6, 19, 16, 14, 45
UNKNOWN_MEMBER, NOT_ALLOWED = 25, 30
"""Errors, by their codes in the protocol."""

_SIGNATURES = {
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
    "mock_partition_set_leader": (c_int, [c_void_p, c_char_p, c_int32, c_int32]),
    "mock_broker_set_down": (c_int, [c_void_p, c_int32]),
    "mock_broker_set_up": (c_int, [c_void_p, c_int32]),
}


class NoMockCluster(LookupError):
    """confluent-kafka is not installed, or its wheel has no shared librdkafka."""


class MockCluster:
    """Brokers that do what they are told; close it."""

    def __init__(self) -> None:
        library = self._library = _load()
        message = ctypes.create_string_buffer(512)
        configuration = library.rd_kafka_conf_new()
        library.rd_kafka_conf_set(configuration, b"log_level", b"3", message, 512)
        self._client = library.rd_kafka_new(0, configuration, message, 512)
        self._cluster = library.rd_kafka_mock_cluster_new(self._client, BROKERS)
        library.rd_kafka_mock_group_initial_rebalance_delay_ms(self._cluster, 0)
        self.kafka = Kafka(bootstrap=library.rd_kafka_mock_cluster_bootstraps(self._cluster).decode())

    def create(self, topic: str, partitions: int) -> None:
        """Make a topic; its leaders are spread over the brokers."""
        self._library.rd_kafka_mock_topic_create(self._cluster, topic.encode(), partitions, 1)

    def fail(self, request: int, *errors: int) -> None:
        """The next requests of this kind get these errors, one each."""
        array = (c_int * len(errors))(*errors)
        self._library.rd_kafka_mock_push_request_errors_array(self._cluster, request, len(errors), array)

    def lead(self, topic: str, partition: int, broker: int) -> None:
        """The partition moves to a broker, 1 to 3."""
        self._library.rd_kafka_mock_partition_set_leader(self._cluster, topic.encode(), partition, broker)

    def down(self, broker: int) -> None:
        """It drops its connections and takes no new ones."""
        self._library.rd_kafka_mock_broker_set_down(self._cluster, broker)

    def up(self, broker: int) -> None:
        """It is back, with all that it held."""
        self._library.rd_kafka_mock_broker_set_up(self._cluster, broker)

    def close(self) -> None:
        """End all brokers."""
        self._library.rd_kafka_mock_cluster_destroy(self._cluster)
        self._library.rd_kafka_destroy(self._client)


def _load() -> ctypes.CDLL:
    package = find_spec("confluent_kafka")
    if package is None or package.origin is None:
        raise NoMockCluster("confluent-kafka is not installed")
    found = list((Path(package.origin).parent.parent / "confluent_kafka.libs").glob("librdkafka-*.so*"))
    if not found:
        raise NoMockCluster("this wheel of confluent-kafka has no shared librdkafka")
    library = ctypes.CDLL(str(found[0]))
    for name, (result, arguments) in _SIGNATURES.items():
        function = getattr(library, f"rd_kafka_{name}")
        function.restype, function.argtypes = result, arguments
    return library
