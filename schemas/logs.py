"""The topics, declared once: settings, what each holds, who writes and who reads it.

A *log* is a topic's name without the prefix.
"""

from collections.abc import Mapping
from dataclasses import dataclass

DAY_MS = 24 * 60 * 60 * 1000

Config = Mapping[str, str]

# The recent tail of a state log must be complete: a reader that comes back within a day finds every record. Deletions
# stay readable for longer than any migration lasts. The lag counts by the records' times, which are the broker's: by a
# producer's clock that is a day late there would be none.
STATE: Config = {
    "cleanup.policy": "compact",
    "message.timestamp.type": "LogAppendTime",
    "min.compaction.lag.ms": str(DAY_MS),
    "delete.retention.ms": str(90 * DAY_MS),
}
EVENTS: Config = {"cleanup.policy": "delete"}
# A deadline counts from when the log took the request, not from a client's clock.
REQUESTS: Config = {"cleanup.policy": "delete", "message.timestamp.type": "LogAppendTime"}
FOREVER: Config = {"cleanup.policy": "delete", "retention.ms": "-1", "retention.bytes": "-1"}
LONG: Config = {"cleanup.policy": "delete", "retention.ms": str(90 * DAY_MS)}
HEARTBEATS: Config = {"cleanup.policy": "compact", "segment.ms": str(DAY_MS // 24)}


@dataclass(frozen=True, slots=True)
class Log:
    """One topic; `writers` and `readers` are services, or `users` and `operators`."""

    config: Config
    holds: str
    writers: tuple[str, ...]
    readers: tuple[str, ...]


_ALL = ("router", "migrator", "guardian", "orchestrator", "flat", "hierarchical")

KEYED: Mapping[str, Log] = {
    "requests": Log(REQUESTS, "opaque requests", ("users", "router"), ("router",)),
    "dispatched": Log(
        EVENTS,
        "the same bytes in one order for both systems, with who is primary; rejections; markers",
        ("router",),
        ("flat", "hierarchical", "migrator", "router"),
    ),
    "responses.flat": Log(EVENTS, "what flat answered, in each role", ("flat",), ("router",)),
    "responses.hierarchical": Log(EVENTS, "what hierarchical answered, in each role", ("hierarchical",), ("router",)),
    "responses": Log(EVENTS, "the answer to the user", ("router",), ("users",)),
    "divergences": Log(EVENTS, "what differed between the systems, field by field", ("router",), ("users",)),
    "neurons.changes": Log(STATE, "flat state, newest per key; seals", ("flat", "migrator"), ("migrator", "flat")),
    "neurons.replica": Log(STATE, "what hierarchical changed, as neurons; seals", ("migrator",), ("flat", "migrator")),
    "units.changes": Log(
        STATE, "hierarchical state, newest per key; seals", ("hierarchical", "migrator"), ("migrator", "hierarchical")
    ),
    "units.replica": Log(STATE, "what flat changed, as units; seals", ("migrator",), ("hierarchical", "migrator")),
}
"""Topics whose key is the neuron id: they share one number of partitions."""
SINGLE: Mapping[str, Log] = {
    "outcomes": Log(
        EVENTS, "per router and second: counts, comparisons, latencies", ("router",), ("guardian", "orchestrator")
    ),
    "validations": Log(EVENTS, "counts of checked and failed units", ("migrator",), ("guardian",)),
    "quarantine": Log(LONG, "a record that could not be applied, and why", _ALL, ("operators",)),
    "control": Log(
        FOREVER,
        "every command and decision: the audit trail; settled",
        ("operators", "guardian", "orchestrator", "migrator", "router"),
        _ALL,
    ),
    "status": Log(HEARTBEATS, "heartbeats: epoch per partition, in flight, lag, health", _ALL, _ALL),
}
"""Topics of one partition."""
