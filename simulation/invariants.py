"""What must hold at rest after any schedule, beside what `simulation.witness` has watched record by record.

Judged from the logs; only `simulation.rest` looks into cores.
"""

from collections.abc import Callable
from dataclasses import dataclass

from hal9.keys import bucket_of
from hal9.testing.memory import MemoryLogs
from schemas.base import FLAT, SYSTEMS, Tree
from schemas.control import SetFlags
from simulation.applied import is_odd
from simulation.asked import Asked
from simulation.history import CHANGES, Change, Violation, markers, store
from simulation.witness import Witness


@dataclass(slots=True)
class Evidence:
    """What a schedule left behind."""

    logs: MemoryLogs
    witness: Witness
    forgetful: bool
    """Compaction may have taken answers away, so that `timeout` needs no deadline."""
    cold_until: Callable[[int], int]
    """Changes of flat below this offset of a partition are cold: of these only the newest of a key is copied."""
    home: Callable[[bytes], int]
    """The partition of a key."""


def check(evidence: Evidence) -> None:
    """Raise `Violation` for the first promise that was broken."""
    _stores(evidence)
    for asked in evidence.witness.asked.values():
        _answered(evidence, asked)
    for partition in range(evidence.witness.partitions):
        _settled(evidence, partition)
    if evidence.witness.control.unknown:
        raise Violation("a control record is not understood", evidence.witness.control.unknown)


def _stores(evidence: Evidence) -> None:
    witness = evidence.witness
    for partition in range(witness.partitions):
        stores = {s: store(evidence.logs, partition, s, witness.salt) for s in SYSTEMS}
        for key, chain in witness.chains.items():
            if not chain or evidence.home(key) != partition:
                continue
            for system, found in stores.items():
                last, held = chain[-1], found.get(key)
                if not at_newest(last, None if held is None else (held.header.version, held.state, held.log)):
                    raise Violation("a store is not at the newest change", f"{system} has {held} for {key!r}: {last}")
            if any(isinstance(epoch.record, SetFlags) for epoch in witness.control.history):
                continue  # an operator may have pinned it elsewhere: there it is answered `quarantined`
            layer = witness.layer_of.get(key)
            owner = witness.control.route.owner(bucket_of(witness.salt, key), key.decode(), layer)
            if is_odd(chain[-1].state) and chain[-1].log != CHANGES[owner]:
                raise Violation("what cannot be mapped is not pinned where it is", f"{key!r} at {owner}: {chain[-1]}")


def at_newest(newest: Change, held: tuple[int, Tree | None, str] | None) -> bool:
    """Whether what a store holds of a key (version, state, log) is the newest change.

    Of a key that was deleted: whether it holds no state. The deletion may be forgotten, and an older one remembered.
    """
    if newest.state is None and (held is None or held[1] is None):
        return True
    return held is not None and held[0] == newest.header.version and same(newest, held[1], held[2])


def same(newest: Change, state: Tree | None, log: str) -> bool:
    """Whether a store holds the newest change: its state, or nothing where that cannot be mapped."""
    return state == newest.state or (state is None and is_odd(newest.state) and log != newest.log)


def _answered(evidence: Evidence, asked: Asked) -> None:
    """Every request has its answer; nothing times out before its deadline, nothing sound is rejected before it."""
    if not asked.answers and evidence.witness.lost(asked):
        return
    if not asked.answers:
        raise Violation("no answer", asked)
    answer, status = asked.answers[0], asked.status
    if status not in ("timeout", "rejected"):
        return
    if answer.timestamp >= asked.due_ms:
        return
    if status == "rejected":
        if not asked.bad:
            raise Violation("rejected without a reason", answer)
        return
    chain, place = evidence.witness.chains.get(asked.key, []), evidence.witness.counting.place
    home = evidence.home(asked.key)
    cold = evidence.cold_until(home)
    moved = [c for c in chain if place(home, c.position) in asked.positions]
    if evidence.forgetful or any(c.log == CHANGES[FLAT] and c.offset < cold for c in moved):
        return
    raise Violation("timed out before the deadline", asked)


def _settled(evidence: Evidence, partition: int) -> None:
    control = evidence.witness.control
    epochs = list(markers(evidence.logs, partition))
    settled = control.settled.get(partition, {})
    unsettled = [epoch for epoch in epochs if epoch not in settled]
    if unsettled:
        raise Violation("never settled", f"{unsettled} of partition {partition}")
    if control.epoch and (not epochs or epochs[-1] != control.epoch):
        raise Violation("the newest epoch has no marker", f"{control.epoch}, partition {partition}: {epochs}")
