"""Reads, when the traffic has stopped, what the logs hold of the run: the trail of the requests, and both stores."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from aiokafka import TopicPartition

from hal9.backend.core import CHANGES
from hal9.control.reducer import ROUTE_SALT, ControlState, salt
from hal9.demo.trail import Trail
from hal9.keys import bucket_of
from hal9.log.effects import EARLIEST, LATEST, Record
from hal9.log.reading import Reader
from hal9.settings import Settings
from hal9.stats.panes import added
from schemas.base import FLAT, SYSTEMS, System, Tree, decode
from schemas.telemetry import Comparisons, Outcome, outcome_decoder
from services.migrator.stores import Newest, Store
from services.migrator.transform import to_neuron

_LOG_S = 60.0


@dataclass(frozen=True, slots=True)
class Evidence:
    """What the logs hold.

    Attributes:
        stores: by system and key, the newest version, of all partitions.
        divergences: how many were found, written or not.
        comparisons: what the routers counted.
    """

    trail: Trail
    stores: Mapping[System, Mapping[str, Newest]]
    divergences: int
    comparisons: Comparisons


async def gather(settings: Settings) -> Evidence:
    """Everything, from the whole of the logs. Raises Transient, or Poison for an outcome that is none."""
    names, partitions = settings.topics.names(), settings.topics.partitions
    trail = Trail(settings.migration.id)
    stores: dict[System, dict[str, Newest]] = {system: {} for system in SYSTEMS}
    async with Reader(settings.kafka) as reader:

        async def whole(log: str, partition: int) -> list[Record]:
            chunks = reader.range(names[log], partition, EARLIEST, LATEST, deadline_s=_LOG_S)
            return [record async for chunk in chunks for record in chunk]

        for partition in range(partitions):
            trail.dispatched(partition, await whole("dispatched", partition))
            for system in SYSTEMS:
                store = Store(system, settings.migration.id)
                for log in store.logs:
                    records = await whole(log, partition)
                    store.feed(log, records)
                    if log == CHANGES[system]:
                        trail.changes(system, partition, records)
                stores[system].update((key.decode(), newest) for key, newest in store.newest.items())
        ends = await reader.ends(TopicPartition(names["divergences"], p) for p in range(partitions))
        counted = {(outcome.router, outcome.seq): outcome for outcome in map(_outcome, await whole("outcomes", 0))}
    diverged = sum(ends.values()) + sum(outcome.divergences_left_out for outcome in counted.values())
    return Evidence(trail, stores, diverged, _compared(counted.values()))


def _compared(outcomes: Iterable[Outcome]) -> Comparisons:
    total = Comparisons()
    for outcome in outcomes:
        for comparisons in outcome.comparisons.values():
            total = added(total, comparisons)
    return total


def _outcome(record: Record) -> Outcome:
    return decode(outcome_decoder, record.value)


def owned(evidence: Evidence, state: ControlState) -> dict[str, Tree]:
    """Every neuron as its owner by the present route has it. Raises Poison if a unit has no neuron."""
    found = {}
    for key in {key for store in evidence.stores.values() for key in store}:
        owner = state.route.owner(bucket_of(salt(state.migration, ROUTE_SALT), key.encode()), key)
        newest = evidence.stores[owner].get(key)
        if newest is not None and newest.state is not None:
            found[key] = newest.state if owner == FLAT else to_neuron(newest.state)
    return found
