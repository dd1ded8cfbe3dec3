"""How far a rollback has come: acknowledged when every partition has its marker, safe when all are settled. Pure."""

from dataclasses import dataclass

from hal9.control.reducer import ControlState
from schemas.base import FLAT
from services.orchestrator.evidence import Evidence


@dataclass(frozen=True, slots=True)
class WayBack:
    """The rollback of an epoch, partition by partition."""

    epoch: int
    partitions: int
    unmarked: tuple[int, ...]
    unsettled: tuple[int, ...]

    @property
    def acknowledged(self) -> bool:
        """Whether every partition is routed back."""
        return not self.unmarked

    @property
    def safe(self) -> bool:
        """Whether every partition has handed over: the sick system is not needed any more."""
        return not self.unsettled

    def __str__(self) -> str:
        of = f"of {self.partitions} partitions"
        if self.safe:
            return f"rolled back in epoch {self.epoch}: safe"
        said = f"{self.partitions - len(self.unsettled)} {of} settled"
        if not self.acknowledged:
            said = f"{self.partitions - len(self.unmarked)} {of} acknowledged, {said}"
        return f"rolling back in epoch {self.epoch}: {said}"


def way_back(state: ControlState, evidence: Evidence) -> WayBack | None:
    """The rollback that latches the route, if there is one."""
    epoch = state.rolled_back
    if epoch is None:
        return None
    partitions = range(state.partitions or 0)
    unsettled = tuple(p for p in partitions if max(state.settled.get(p, {}), default=-1) < epoch)
    unmarked = tuple(p for p in unsettled if evidence.marked(p) < epoch)
    return WayBack(epoch, len(partitions), unmarked, unsettled)


def ready_to_return(state: ControlState, evidence: Evidence, now_ms: int) -> bool:
    """Whether a rollback would be safe within seconds: what it needs is alive, and no hand-over is under way."""
    alive = all(evidence.liveness.alive(service, now_ms) for service in ("router", "migrator", FLAT))
    return alive and (state.epoch == 0 or state.settled_everywhere(state.epoch, state.partitions or 0))
