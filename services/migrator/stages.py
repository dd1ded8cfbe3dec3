"""How long each stage of a hand-over takes in one partition, and what one under way waits for. Pure.

Stages, each counted from the decision as this migrator saw it on `control`: the marker is in `dispatched`; the seal of
each system is in its change log, and everything before it was read; both seals, and so all before them, were copied and
read back; `settled` is on `control`. Times are the migrator's, of one clock: when it saw, not when it was written.
"""

from dataclasses import dataclass, field

from schemas.base import FLAT, HIERARCHICAL, SYSTEMS, System
from schemas.telemetry import HandOver

MARKER, COPIED, SETTLED, EVERYWHERE = "marker", "copied", "settled", "everywhere"
SEAL: dict[System, str] = {FLAT: "seal.flat", HIERARCHICAL: "seal.hierarchical"}
AWAITED: dict[str, str] = {
    MARKER: "the router's marker",
    **{SEAL[system]: f"the seal of {system}" for system in SYSTEMS},
    COPIED: "the copies to be read back",
    SETTLED: "settled to be read on control",
}
BACKFILL = "the backfill of the buckets that move"


@dataclass(slots=True)
class _Open:
    """A hand-over that has not settled: when it was decided, and when it came to each stage."""

    decided_ms: float
    reached: dict[str, float] = field(default_factory=dict)


class Stages:
    """Of one partition; `finished` is (stage, seconds since the decision) of what settled, taken by the shell."""

    def __init__(self) -> None:
        self._open: dict[int, _Open] = {}
        self._everywhere: dict[int, float] = {}
        self.finished: list[tuple[str, float]] = []

    def decided(self, epoch: int, now_ms: float) -> None:
        """The newest epoch that `control` has and this partition has not settled."""
        self._open.setdefault(epoch, _Open(now_ms))

    def marked(self, epoch: int, now_ms: float) -> None:
        """The marker was read; it stands for all epochs before it."""
        for older in [e for e, opened in self._open.items() if e < epoch and MARKER not in opened.reached]:
            del self._open[older]
        self._reach(epoch, MARKER, now_ms)

    def sealed(self, system: System, epoch: int, now_ms: float) -> None:
        """A seal was read in a change log."""
        if epoch in self._open:
            self._reach(epoch, SEAL[system], now_ms)

    def copied(self, epoch: int, now_ms: float) -> dict[str, int]:
        """Both seals were read back from the replica logs; milliseconds since the decision, per stage so far."""
        opened = self._reach(epoch, COPIED, now_ms)
        return {stage: max(0, round(at - opened.decided_ms)) for stage, at in opened.reached.items()}

    def settled(self, epoch: int, now_ms: float) -> None:
        """It is on `control`."""
        opened = self._open.pop(epoch, None)
        if opened is not None and COPIED in opened.reached:
            opened.reached[SETTLED] = now_ms
            self.finished += [(stage, (at - opened.decided_ms) / 1000) for stage, at in opened.reached.items()]
        for older in [e for e in self._open if e < epoch]:
            del self._open[older]

    def everywhere(self, epoch: int, *, settled: bool, now_ms: float) -> None:
        """Whether all partitions have settled an epoch: asked of one partition only, so that it counts once."""
        if not settled:
            self._everywhere.setdefault(epoch, now_ms)
            return
        since = self._everywhere.pop(epoch, None)
        if since is not None:
            self.finished.append((EVERYWHERE, (now_ms - since) / 1000))
        self._everywhere.clear()

    def _reach(self, epoch: int, stage: str, now_ms: float) -> _Open:
        opened = self._open.setdefault(epoch, _Open(now_ms))
        opened.reached.setdefault(stage, now_ms)
        return opened

    def waits(self, now_ms: float, *, backfilling: bool) -> HandOver | None:
        """What the oldest hand-over that is under way waits for, and for how long; None: nothing is under way."""
        if not self._open:
            return None
        epoch = min(self._open)
        opened = self._open[epoch]
        stage = next((s for s in AWAITED if s not in opened.reached), SETTLED)
        since_ms = max(opened.reached.values(), default=opened.decided_ms)
        awaited = BACKFILL if stage == COPIED and backfilling else AWAITED[stage]
        return HandOver(epoch=epoch, waits_for=awaited, for_ms=max(0, int(now_ms - since_ms)))
