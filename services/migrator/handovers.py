"""The hand-overs of one partition: the markers read, the seals that answer them, what has settled. Pure.

One has settled when both seals were read back from the replica logs, and so all before them; `settled` is said then,
and counts when it is read on `control`. A seal that a system does not write, dead or too slow, is written for it.
"""

from collections.abc import Container, Iterable, Iterator
from dataclasses import dataclass

from hal9 import wire
from hal9.control.reducer import ControlState
from hal9.control.route import Route
from hal9.log.effects import Record
from schemas.base import FLAT, HIERARCHICAL, SYSTEMS, System
from schemas.control import Settled
from schemas.state import Marker, Seal
from services.migrator.config import MigratorConfig
from services.migrator.stages import Stages


@dataclass(slots=True)
class Mark:
    """A marker read from `dispatched`."""

    offset: int
    marker: Marker
    since_ms: float


class HandOvers:
    """Of one partition. `settled` are the epochs that have, as `control` says."""

    def __init__(self, partition: int, config: MigratorConfig) -> None:
        self._partition, self._config = partition, config
        self.stages = Stages()
        self.settled: set[int] = set()
        self._said: set[int] = set()
        self._marks: dict[int, Mark] = {}
        self._forced: set[tuple[System, int]] = set()
        self.seals: dict[System, dict[int, Seal]] = {system: {} for system in SYSTEMS}
        """Copied, or on their way, by epoch."""
        self._read_back: dict[System, dict[int, Seal]] = {system: {} for system in SYSTEMS}

    def __repr__(self) -> str:
        return f"<HandOvers: marks {sorted(self._marks)}, settled {max(self.settled, default=0)}>"

    def route_before(self) -> Route:
        """Where flat's seals so far leave the keys."""
        sealed = self.seals[FLAT]
        return Route.of(sealed[max(sealed)].route) if sealed else Route()

    # ------------------------------------------------------------------ what is read
    def marked(self, marker: Marker, offset: int, now_ms: float) -> None:
        """A marker lies on `dispatched` at `offset`."""
        epoch = marker.route.epoch
        self._marks[epoch] = Mark(offset, marker, now_ms)
        if epoch not in self.settled:
            self.stages.marked(epoch, now_ms)

    def read_back(self, system: System, seal: Seal) -> None:
        """The copy of a seal of `system` lies in the replica log."""
        self.seals[system][seal.route.epoch] = self._read_back[system][seal.route.epoch] = seal

    def control(self, state: ControlState, now_ms: float) -> None:
        """What has settled, here and everywhere, and what was decided."""
        settled = state.settled.get(self._partition, {}).keys()
        for epoch in sorted(settled - self.settled):
            self.stages.settled(epoch, now_ms)
        self.settled |= settled
        if state.epoch > max(self.settled, default=0):
            self.stages.decided(state.epoch, now_ms)
        if self._partition == 0:
            everywhere = state.settled_everywhere(state.epoch, self._config.partitions)
            self.stages.everywhere(state.epoch, settled=everywhere, now_ms=now_ms)

    # ------------------------------------------------------------------ what is said
    def copy_of(self, system: System, seal: Seal, offset: int) -> Seal | None:
        """What is to be written of a seal that lies at `offset` of the change log; None if that was done."""
        epoch = seal.route.epoch
        if epoch in self.seals[system]:
            return None
        copy = self.seals[system][epoch] = Seal(route=seal.route, forced=seal.forced, source=offset)
        return copy

    def settle(self, now_ms: float) -> Iterator[Settled]:
        """What is to be said of epochs whose seals are both there."""
        flat, hierarchical = self._read_back[FLAT], self._read_back[HIERARCHICAL]
        for epoch in sorted(flat.keys() & hierarchical.keys()):
            if epoch in self.settled or epoch in self._said:
                continue
            self._said.add(epoch)
            both: dict[System, Seal] = {FLAT: flat[epoch], HIERARCHICAL: hierarchical[epoch]}
            yield Settled(
                id=f"settled/{self._partition}/{epoch}",
                migration=self._config.migration,
                actor=self._config.instance,
                at_ms=int(now_ms),
                partition=self._partition,
                epoch=epoch,
                seals={s: seal.source for s, seal in both.items()},
                forced=[s for s, seal in both.items() if seal.forced],
                took_ms=self.stages.copied(epoch, now_ms),
            )

    def force(
        self, system: System, sealed: Container[int], held: Iterable[Record], *, dead: bool, now_ms: float
    ) -> Iterator[Seal]:
        """What is to be written for a system that is dead or too slow, lowest missing epoch first.

        `sealed` are the epochs whose seals were read; one that is `held`, behind the backfill, is not missing.
        """
        for epoch in sorted(self._marks):
            mark = self._marks[epoch]
            if epoch in sealed or (system, epoch) in self._forced:
                continue
            if not dead and now_ms - mark.since_ms < self._config.force_seal_ms:
                return
            if any((record.key or b"").startswith(b"%s%d/" % (wire.SEAL, epoch)) for record in held):
                return
            self._forced.add((system, epoch))
            yield Seal(route=mark.marker.route, forced=True)

    # ------------------------------------------------------------------ commits
    def first_open(self) -> int | None:
        """Where the first marker that has not settled lies; those that have are forgotten."""
        for epoch in [epoch for epoch in self._marks if epoch in self.settled]:
            del self._marks[epoch]
        return min((mark.offset for mark in self._marks.values()), default=None)
