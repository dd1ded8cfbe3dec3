"""What a state of one system is at the other one, and of which layer a key is: chosen once, kept for ever. Pure."""

from hal9.backend.store import envelope, layer_of_unit, too_large
from hal9.errors import Poison
from schemas.base import HIERARCHICAL, System, Tree, other
from schemas.state import Envelope
from services.migrator.config import MigratorConfig


class Translation:
    """Of one partition's states; `checked` counts them, and is set to zero by the shell."""

    def __init__(self, config: MigratorConfig) -> None:
        self._config = config
        self.checked = 0
        self._layers: dict[bytes, str] = {}
        """Key -> the layer of its unit, for the next change of its neuron."""
        self._owned_by: dict[bytes, str] = {}
        """Key -> the layer that it is owned by: the first one that this life of it was seen in."""

    def owner(self, key: bytes) -> str | None:
        """The layer that a key is owned by, as far as is known."""
        return self._owned_by.get(key)

    def owned(self, key: bytes, layer: str | None) -> None:
        """A record of a key names its layer, or does not."""
        if layer is not None:
            self._owned_by.setdefault(key, layer)

    def forget(self, key: bytes) -> None:
        """A key was deleted for good."""
        self._owned_by.pop(key, None)
        self._layers.pop(key, None)

    def placed(self, key: bytes, unit: Tree | None) -> None:
        """A unit of a key was made."""
        layer = (unit or {}).get("layer")
        if isinstance(layer, str):
            self._layers[key] = layer
        self.owned(key, layer_of_unit(unit))

    def value(self, system: System, key: bytes, found: Envelope) -> bytes:
        """The value of the copy of a change that `system` made. Raises Poison if its state cannot be mapped."""
        value = envelope(self._mapped(system, key, found.state), found.answer)
        if too_large(value, found.answer, self._config.state_bytes):
            raise Poison("state-too-large", f"{len(value)} bytes at {other(system)}, over {self._config.state_bytes}")
        return value

    def _mapped(self, system: System, key: bytes, state: Tree | None) -> Tree | None:
        if state is None:
            return None
        self.checked += 1
        if system == HIERARCHICAL:
            return self._config.to_neuron(state)
        unit = self._config.to_unit(state, self._layers.get(key))
        self.placed(key, unit)
        return unit
