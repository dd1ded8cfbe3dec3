"""What the core of the migrator is told when it is made. Pure."""

from collections.abc import Callable
from dataclasses import dataclass

from schemas.base import Tree


@dataclass(frozen=True, slots=True)
class MigratorConfig:
    """Plain values and the transformation; `to_unit` and `to_neuron` raise Poison for a state that cannot be mapped."""

    migration: str
    partitions: int
    instance: str
    unique: Callable[[], str]
    to_unit: Callable[[Tree, str | None], Tree]
    """Given the layer that was chosen for this key before, if one was."""
    to_neuron: Callable[[Tree], Tree]
    force_seal_ms: float = 3_000
    backfill_rate: float = 2_000
    backfill_burst: float = 2_000
    backfill_slice: int = 2_000
    """Offsets that are asked for at once: the step in which the rate is held."""
    metadata_bytes: int = 4_000
    """Of what rides with a commit: one that needs more is left out, and a successor reads more."""
    state_bytes: int = 384 * 1024
    """Greatest state, in bytes of msgpack: a unit may be larger than its neuron, and then no system could write it."""
