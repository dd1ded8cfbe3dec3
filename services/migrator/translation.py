"""What a state of one system is at the other one, and of which layer a key is: chosen once, kept for ever. Pure."""

from hal9.backend.store import envelope, layer_of_unit, too_large
from hal9.errors import Poison
from hal9.wire import Change
from schemas.base import HIERARCHICAL, System, Tree, other
from schemas.state import Envelope
from services.migrator.config import MigratorConfig


class Translation:
    """Of one partition's states; `checked` counts them, and is set to zero by the shell."""

    def __init__(self, config: MigratorConfig) -> None:
        self._config = config
        self.checked = 0
        self._layers: dict[bytes, tuple[str, int]] = {}
        """Key -> the layer of its unit, for the next change of its neuron, and the version that it is of."""
        self._owned_by: dict[bytes, tuple[str, str, int]] = {}
        """Key -> the layer that it is owned by, the first one that this life of it was seen in; and what the newest
        version names, with its number: the logs are read side by side, so an older life may end after that."""

    def owner(self, key: bytes) -> str | None:
        """The layer that a key is owned by, as far as is known."""
        held = self._owned_by.get(key)
        return held[0] if held is not None else None

    def owned(self, key: bytes, layer: str | None, change: Change) -> None:
        """A change of a key names its layer, or does not."""
        if layer is None:
            return
        held = self._owned_by.get(key)
        if held is None or (change.follows is not None and change.version > held[2]):
            self._owned_by[key] = layer, layer, change.version
        elif change.version > held[2]:
            self._owned_by[key] = held[0], layer, change.version

    def forget(self, key: bytes, version: int) -> None:
        """A deletion of that version is forgotten: what a later one names is of another life."""
        held, placed = self._owned_by.pop(key, None), self._layers.get(key)
        if held is not None and held[2] > version:
            self._owned_by[key] = held[1], held[1], held[2]
        if placed is not None and placed[1] <= version:
            del self._layers[key]

    def placed(self, key: bytes, unit: Tree | None, change: Change) -> None:
        """A unit of a key was made."""
        layer = (unit or {}).get("layer")
        if isinstance(layer, str):
            self._layers[key] = layer, change.version
        self.owned(key, layer_of_unit(unit), change)

    def value(self, system: System, key: bytes, found: Envelope, change: Change) -> bytes:
        """The value of the copy of a change that `system` made. Raises Poison if its state cannot be mapped."""
        value = envelope(self._mapped(system, key, found.state, change), found.answer)
        if too_large(value, found.answer, self._config.state_bytes):
            raise Poison("state-too-large", f"{len(value)} bytes at {other(system)}, over {self._config.state_bytes}")
        return value

    def _mapped(self, system: System, key: bytes, state: Tree | None, change: Change) -> Tree | None:
        if state is None:
            return None
        self.checked += 1
        if system == HIERARCHICAL:
            return self._config.to_neuron(state)
        unit = self._config.to_unit(state, self._layers.get(key, (None, 0))[0])
        self.placed(key, unit, change)
        return unit
