"""Invariants that need a look into living cores: memory equals the logs, and nothing is left undone."""

from collections.abc import Mapping

from hal9.backend.core import BackendCore
from hal9.testing.runtime import MemoryRuntime
from simulation.history import Violation, chains
from simulation.invariants import Evidence


def at_rest(holders: Mapping[str, MemoryRuntime], evidence: Evidence) -> None:
    """What each living, current core must show once nothing moves any more."""
    for service, runtime in holders.items():
        core = runtime.core
        if not core.idle():
            raise Violation(f"{service} is not idle at rest: {core!r}")
        if isinstance(core, BackendCore):
            _memory(service, core, evidence)


def _memory(service: str, core: BackendCore, evidence: Evidence) -> None:
    for key, chain in chains(evidence.changes).items():
        held = core.store.states.get(key)
        if held is None or held.version != chain[-1].header.version or held.state != chain[-1].state:
            raise Violation(f"{service} holds {held} of {key!r}, the newest change is {chain[-1]}")
