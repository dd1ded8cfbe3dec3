"""What every test may ask for: one real Kafka and Valkey per run."""

import signal
import time
from collections.abc import Callable, Iterator
from itertools import cycle

import pytest
from hypothesis import settings
from redis import Redis

from stack.local import Endpoints, LocalStack

# An example may take as long as a busy machine lets it: no test fails for being slow.
settings.register_profile("hal9", deadline=None)
settings.load_profile("hal9")

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A run in the background ignores it, and so would every process that a test starts, to press Ctrl-C there.
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalStack]:
    """A running stack of this test run alone; tests may use, but not stop it."""
    with LocalStack(tmp_path_factory.mktemp("stack")) as local:
        local.up()
        yield local


@pytest.fixture(scope="session")
def endpoints(stack: LocalStack) -> Endpoints:
    """Addresses of the running stack."""
    found = stack.endpoints()
    assert found is not None
    return found


@pytest.fixture(scope="session")
def bootstrap(endpoints: Endpoints) -> str:
    """`host:port` of the broker. Topics: make your own, with a prefix of your own."""
    return endpoints.bootstrap


@pytest.fixture(scope="session")
def redis_url(endpoints: Endpoints) -> str:
    """Of the Valkey's first database, which everybody uses. Keys: use a prefix of your own."""
    return endpoints.redis_url


@pytest.fixture(scope="session")
def empty_redis(redis_url: str) -> Callable[[], str]:
    """`empty_redis()`: the URL of a database with nothing in it. For who runs services: their keys have no prefix.

    There are fifteen, handed out in turn: a test and what it shares with its module hold fewer at a time.
    """
    numbers = cycle(range(1, 16))

    def make() -> str:
        url = f"{redis_url.rpartition('/')[0]}/{next(numbers)}"
        with Redis.from_url(url) as redis:
            redis.flushdb()
        return url

    return make


@pytest.fixture(scope="session")
def eventually() -> Callable[[Callable[[], bool], str], None]:
    """`eventually(condition, "what")`: waits for a condition, and fails after 30 s."""

    def wait(condition: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + 30.0
        while not condition():
            if time.monotonic() >= deadline:
                pytest.fail(f"not within 30 s: {what}")
            time.sleep(0.02)

    return wait
