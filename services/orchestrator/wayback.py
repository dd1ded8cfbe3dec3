"""How far a rollback has come: acknowledged when every partition has its marker, safe when all are settled. Pure."""

from dataclasses import dataclass

from hal9.control.reducer import ControlState
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


def way_back(state: ControlState, evidence: Evidence) -> WayBack | None:
    """The rollback that latches the route, if there is one."""
    epoch = state.rolled_back
    if epoch is None:
        return None
    partitions = range(state.partitions or 0)
    unsettled = tuple(p for p in partitions if max(state.settled.get(p, {}), default=-1) < epoch)
    unmarked = tuple(p for p in unsettled if evidence.marked(p) < epoch)
    return WayBack(epoch, len(partitions), unmarked, unsettled)
