"""Invariants that need a look into living cores: memory equals the logs, and nothing is left undone."""

from hal9.backend.core import BackendCore
from simulation.history import Violation
from simulation.instances import Instances
from simulation.invariants import Evidence, at_newest


def at_rest(instances: Instances, evidence: Evidence) -> None:
    """What each living, current core must show once nothing moves any more."""
    for (service, partition), runtime in instances.current():
        core = runtime.core
        if not core.idle():
            raise Violation("not idle at rest", f"{service}: {core!r}")
        if isinstance(core, BackendCore):
            _memory(service, partition, core, evidence)


def _memory(service: str, partition: int, core: BackendCore, evidence: Evidence) -> None:
    for key, chain in evidence.witness.chains.items():
        if not chain or evidence.home(key) != partition:
            continue
        held = core.store.states.get(key)
        log = core.changes if held is not None and held.own else core.replica
        if not at_newest(chain[-1], None if held is None else (held.version, held.state, log)):
            raise Violation("memory differs from the logs", f"{service} holds {held} of {key!r}: {chain[-1]}")
