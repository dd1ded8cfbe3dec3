"""Both stores of one partition, as the logs hold them, and how they differ. Pure.

Independent of what copies them, but for the mapping and the rules of validity. A store is the newest valid version
per key over two logs: what the system changed, and what was replicated to it.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from hal9.backend.core import CHANGES, REPLICA
from hal9.backend.store import read_change
from hal9.control.reducer import ROUTE_SALT, salt
from hal9.errors import Poison
from hal9.keys import bucket_of
from hal9.log.effects import Record
from hal9.log.validity import Validity
from schemas.base import FLAT, System, Tree, encode
from services.migrator.transform import same, to_neuron

Kind = Literal[
    "state",
    "version",
    "missing",
    "unmappable",
    "unreadable",
    "redis-missing",
    "redis-version",
    "redis-unit",
    "redis-surplus",
]


@dataclass(frozen=True, slots=True)
class Newest:
    """The newest version of a key in one store, and where it lies; `state` None is a deletion."""

    version: int
    state: Tree | None
    log: str
    offset: int


@dataclass(frozen=True, slots=True)
class Difference:
    """One key that is not the same everywhere.

    Attributes:
        kind: `missing` and `version` compare the logs' versions; `state` the contents of one version; `unmappable` is
            a unit that has no neuron; `redis-...` compares the units with Redis; `unreadable` a state record.
        flat: newest version in flat's store, 0 if none; `hierarchical` and `redis` likewise.
    """

    key: str
    partition: int
    kind: Kind
    detail: str
    flat: int = 0
    hierarchical: int = 0
    redis: int = 0


class Store:
    """One system's store of one partition, from its two logs."""

    def __init__(self, system: System, migration: str) -> None:
        self.system = system
        self.newest: dict[bytes, Newest] = {}
        self.unreadable: list[tuple[str, Record, str]] = []
        self._validity = {
            CHANGES[system]: Validity(system=system, salt=salt(migration, ROUTE_SALT)),
            REPLICA[system]: Validity(),
        }

    @property
    def logs(self) -> tuple[str, ...]:
        """The logs that make it."""
        return tuple(self._validity)

    def feed(self, log: str, records: Iterable[Record]) -> None:
        """Records of one of its logs, in offset order, from its start."""
        validity = self._validity[log]
        for record in records:
            if validity.feed(record) != "data" or record.key is None:
                continue
            try:
                change, found = read_change(record)
            except Poison as error:
                self.unreadable.append((log, record, str(error)))
                continue
            before = self.newest.get(record.key)
            if before is None or change.version >= before.version:
                self.newest[record.key] = Newest(change.version, found.state, log, record.offset)


@dataclass(frozen=True, slots=True)
class Expected:
    """What hierarchical need not hold yet.

    Attributes:
        backfilled: bound of the buckets that are copied whole.
        followed_from: offset of flat's change log from which every change is copied; None if no migrator began.
        pinned: keys held at one system because they cannot be mapped.
    """

    migration: str
    backfilled: int
    followed_from: int | None
    pinned: frozenset[str] = frozenset()

    def may_lack(self, key: bytes, flat: Newest) -> bool:
        """Whether hierarchical may have no version of a key that flat has."""
        if bucket_of(salt(self.migration, ROUTE_SALT), key) < self.backfilled:
            return False
        if self.followed_from is None:
            return True
        return flat.log == CHANGES[FLAT] and flat.offset < self.followed_from


@dataclass(slots=True)
class Report:
    """What a comparison found, over any number of partitions."""

    partitions: int = 0
    keys: int = 0
    equal: int = 0
    not_copied: int = 0
    pinned: int = 0
    differences: list[Difference] = field(default_factory=list)

    @property
    def stores_equal(self) -> bool:
        """Whether nothing differs."""
        return not self.differences

    def add(self, other: "Report") -> None:
        """Count another partition's report in."""
        self.partitions += other.partitions
        self.keys += other.keys
        self.equal += other.equal
        self.not_copied += other.not_copied
        self.pinned += other.pinned
        self.differences += other.differences


RedisUnit = tuple[int, bytes | None]
"""Version and unit as the hash of a key in Redis holds them."""


def compare(
    partition: int,
    flat: Store,
    hierarchical: Store,
    redis: Mapping[bytes, RedisUnit] | None,
    expected: Expected,
) -> Report:
    """Compare the stores of one partition, key by key; `redis` None leaves Redis out."""
    report = Report(partitions=1)
    for store in (flat, hierarchical):
        for log, record, why in store.unreadable:
            name = (record.key or b"").decode("utf-8", "replace")
            report.differences.append(
                Difference(name, partition, "unreadable", f"{log} at offset {record.offset}: {why}")
            )
    for key in sorted(flat.newest.keys() | hierarchical.newest.keys()):
        _compare_key(report, partition, key, flat.newest.get(key), hierarchical.newest.get(key), expected)
    if redis is not None:
        report.differences += _compare_redis(partition, hierarchical.newest, redis)
    return report


def _compare_key(
    report: Report, partition: int, key: bytes, flat: Newest | None, hierarchical: Newest | None, expected: Expected
) -> None:
    report.keys += 1
    name = key.decode("utf-8", "replace")
    if name in expected.pinned:
        report.pinned += 1
    elif hierarchical is None and flat is not None and flat.state is not None and expected.may_lack(key, flat):
        report.not_copied += 1
    else:
        found = _difference(flat, hierarchical)
        if found is None:
            report.equal += 1
        else:
            versions = (flat.version if flat else 0, hierarchical.version if hierarchical else 0)
            report.differences.append(Difference(name, partition, *found, *versions))


def _difference(flat: Newest | None, hierarchical: Newest | None) -> tuple[Kind, str] | None:
    neuron, unit = (side.state if side else None for side in (flat, hierarchical))
    if neuron is None and unit is None:
        return None  # deletions: one side may have forgotten its own, or remember an older one
    if flat is None or hierarchical is None:
        return "missing", f"{'flat' if flat is None else 'hierarchical'} has no version of it"
    if flat.version != hierarchical.version:
        return "version", f"flat has version {flat.version}, hierarchical {hierarchical.version}"
    if unit is None or neuron is None:
        return "state", f"version {flat.version} is deleted on one side alone"
    try:
        back = to_neuron(unit)
    except Poison as error:
        return "unmappable", str(error)
    return None if same(neuron, back) else ("state", _fields(neuron, back))


def _fields(neuron: Tree, back: Tree) -> str:
    names = sorted(name for name in neuron.keys() | back.keys() if not same(neuron.get(name), back.get(name)))
    return f"fields {', '.join(names)} differ"


def _compare_redis(
    partition: int, units: Mapping[bytes, Newest], redis: Mapping[bytes, RedisUnit]
) -> Sequence[Difference]:
    differences = []
    for key in sorted(units.keys() | redis.keys()):
        name, newest, held = key.decode("utf-8", "replace"), units.get(key), redis.get(key)
        found: tuple[Kind, str] | None = None
        if (newest is None or newest.state is None) and (held is None or held[1] is None):
            continue  # a deletion, which the logs may have forgotten: its version stays in Redis
        if newest is None:
            found = "redis-surplus", "Redis has a unit that is in no log"
        elif held is None:
            found = ("redis-missing", "Redis has no unit of it") if newest.state is not None else None
        elif held[0] != newest.version:
            found = "redis-version", f"Redis has version {held[0]}, the logs {newest.version}"
        elif held[1] != (None if newest.state is None else encode(newest.state)):
            found = "redis-unit", f"the bytes of version {newest.version} differ"
        if found is not None:
            versions = (newest.version if newest else 0, held[0] if held else 0)
            report = Difference(name, partition, *found, hierarchical=versions[0], redis=versions[1])
            differences.append(report)
    return differences
