"""By which cognitive layer a request is judged, and what follows from it at one system (docs/layers.md). Pure."""

from hal9.backend.queues import Task
from hal9.backend.store import Held
from hal9.log.validity import Validity
from schemas.base import FLAT, System


class Layers:
    """What one partition's change log and markers say of the layers of the keys that are asked for."""

    def __init__(self, system: System, validity: Validity) -> None:
        self._knows, self._validity = system != FLAT, validity

    def of(self, task: Task, current: Held) -> str | None:
        """By which layer the request, and the change that it makes, are judged.

        At flat by the one that the router named: what flat may learn late from a replica does not count.
        """
        return current.layer or task.request.layer if self._knows else task.request.layer

    def stays(self, task: Task, layer: str | None) -> bool:
        """Whether the marker before the request holds units of `layer`, its key among them, at flat."""
        return task.route is not None and task.route.holds(task.key.decode(), layer)

    def voided(self, task: Task, layer: str | None) -> bool:
        """Whether the seals read so far void what the request would change; the router has it dispatched again."""
        epoch, key = task.request.epoch, task.key
        if epoch >= self._validity.newest_lost:
            return False
        if layer is not None:
            return not self.stays(task, layer) and self._validity.sealed(epoch, key, layer)
        if self._validity.sealed(epoch, key):
            return True
        # It may turn out to be of a layer that went to flat since: then it is voided, and those behind it with it.
        gone = self._validity.lost.layers if self._knows else ()
        return any(self._validity.sealed(epoch, key, each) and not self.stays(task, each) for each in gone)
