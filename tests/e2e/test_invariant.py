"""The invariant of the hand-over, on the real stack.

The percentage goes up and down five times under load, keys go sideways, and a router, the migrator and a system are
each killed with -9 once. Per neuron, `ok <= effects <= ok + timeout`; answers `error` and `rejected` have no effect;
every request is answered; at rest both stores and Redis are equal. Longer, with freezes: `python -m bench invariant`.
"""

import json
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bench.fleet import Fleet
from bench.invariant import Change, Fault, played
from hal9.settings import Client as ClientSettings
from hal9.settings import Kafka, Redis, Settings
from hal9.settings import Topics as TopicSettings

PARTITIONS = 3
NEURONS = 40
CHANGES = [
    Change(60.0),
    Change(10.0),
    Change(90.0, fault=Fault("router", "kill")),
    Change(0.0),
    Change(75.0, fault=Fault("migrator", "kill")),
    Change(25.0, "hierarchical"),
    Change(100.0, "flat", Fault("hierarchical", "kill")),
    Change(50.0, "flat"),
    Change(80.0),
    Change(0.0),
]
"""Five times up, five times down, and twice sideways; what is killed goes right after the decision."""
DECISIONS_PER_PROCESS = 120
"""Far fewer log lines than there are requests."""


@pytest.fixture
def settings(bootstrap: str, empty_redis: Callable[[], str]) -> Settings:
    return Settings(
        kafka=Kafka(bootstrap=bootstrap),
        redis=Redis(url=empty_redis()),
        topics=TopicSettings(prefix=f"invariant-{uuid.uuid4().hex[:8]}.", partitions=PARTITIONS),
        client=ClientSettings(deadline_ms=8_000),
    )


@pytest.fixture
def fleet(tmp_path: Path, settings: Settings) -> Iterator[Fleet]:
    found = Fleet(tmp_path, settings, dict.fromkeys(("router", "migrator", "flat", "hierarchical"), 1))
    try:
        yield found
    finally:
        found.stop()


async def test_nothing_is_lost_and_nothing_is_done_twice(fleet: Fleet, settings: Settings, tmp_path: Path) -> None:
    found = await played(fleet, settings, (NEURONS, 0.0), CHANGES, seed=1)
    assert found["violations"] == []
    assert sum(found["requests"].values()) == found["sent"]
    assert found["requests"]["ok"] > 10 * NEURONS
    logged(tmp_path, found["sent"])


def logged(directory: Path, sent: int) -> None:
    """Every decision has its line in the logs, and no request has one."""
    events: Counter[str] = Counter()
    for log in directory.glob("*.log"):
        lines = [json.loads(line) for line in log.read_text().splitlines() if line.startswith("{")]
        assert len(lines) < DECISIONS_PER_PROCESS, Counter(line["event"] for line in lines)
        events.update(line["event"] for line in lines)
    assert sent > DECISIONS_PER_PROCESS
    assert {"decision", "marker", "sealed", "settled", "seal_forced", "taken_over"} <= events.keys()
