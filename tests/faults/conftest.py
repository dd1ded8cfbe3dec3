"""What the tests of faults share: librdkafka's mock cluster, for errors that a real broker does not make on demand."""

from collections.abc import Iterator

import pytest

from hal9.testing.mock_cluster import MockCluster, NoMockCluster


@pytest.fixture
def cluster() -> Iterator[MockCluster]:
    try:
        cluster = MockCluster()
    except NoMockCluster as reason:
        pytest.skip(str(reason))
    yield cluster
    cluster.close()
