"""The four services of one partition as the seeded world plays them: real cores, small limits, one plain handler."""

from collections.abc import Callable
from dataclasses import replace
from itertools import count

from hal9 import wire
from hal9.backend.config import BackendConfig
from hal9.backend.core import FlatCore, HierarchicalCore
from hal9.backend.handler import BatchHandler, Handler, as_batch
from hal9.log.effects import PartitionCore
from schemas.base import FLAT, HIERARCHICAL, Tree
from services.migrator.config import MigratorConfig
from services.migrator.core import MigratorCore
from services.router.config import RouterConfig
from services.router.core import RouterCore
from services.router.outcomes import OutcomeBook
from services.router.protection import Protection, ProtectionPolicy
from simulation.applied import AppliedHandler, mapped

MIGRATION = "hal9"
DEADLINE_MS = 60_000
"""Default deadline of the world's requests: no schedule lasts so long, so whatever hangs is found and not timed out."""

REMEMBERED_MS = 60_000
"""How long routers remember the layers of keys: less than deletions are retained (`compaction.RETENTION_MS`)."""
SOON = 0.001
"""Part of its time that the system asked first has for a read: 60 ms by default."""

SERVICES = ("router", FLAT, HIERARCHICAL, "migrator")


def protection(*, reads: bool) -> Protection:
    """What the routers of a world share; `reads`: they know of a read-only operation, and soon ask for it elsewhere."""
    made = Protection(ProtectionPolicy(fallback_after=SOON))
    made.read_only = frozenset({"read"}) if reads else frozenset()
    return made


def cast(
    partition: int = 0,
    partitions: int = 1,
    *,
    handler: Handler | BatchHandler | None = None,
    to_unit: Callable[[Tree], Tree] = mapped,
    to_neuron: Callable[[Tree], Tree] = mapped,
    protection: Protection | None = None,
    remote: bool = False,
    small: bool = False,
) -> dict[str, Callable[[str], PartitionCore]]:
    """Per service what makes a core of it, given the name of the incarnation.

    `remote`: handlers are called; `small`: every limit is so small that it is met.
    """
    metadata_bytes = 200 if small else 3_900
    played = as_batch(handler or AppliedHandler())
    numbers = count()

    def unique() -> str:
        return f"u{next(numbers)}"

    def router(name: str) -> PartitionCore:
        limits = wire.Limits(deadline_ms=DEADLINE_MS)
        config = RouterConfig(
            MIGRATION,
            partitions,
            name,
            unique,
            OutcomeBook(name),
            limits,
            id_window_bytes=20 if small else 1 << 20,
            metadata_bytes=metadata_bytes,
            remembered_ms=REMEMBERED_MS,
            protection=protection or Protection(),
        )
        return RouterCore(partition, config)

    def backend(name: str) -> BackendConfig:
        made = BackendConfig(MIGRATION, name, unique, metadata_bytes=metadata_bytes, remote=remote)
        return replace(made, backlog=2, batch=2) if small else made

    def flat(name: str) -> PartitionCore:
        return FlatCore(partition, backend(name), played)

    def hierarchical(name: str) -> PartitionCore:
        return HierarchicalCore(partition, backend(name), played)

    def migrator(name: str) -> PartitionCore:
        config = MigratorConfig(MIGRATION, partitions, name, unique, lambda s, _: to_unit(s), to_neuron)
        if small:
            config = replace(config, backfill_slice=3, backfill_rate=20, backfill_burst=2)
        return MigratorCore(partition, replace(config, metadata_bytes=metadata_bytes))

    return {"router": router, FLAT: flat, HIERARCHICAL: hierarchical, "migrator": migrator}
