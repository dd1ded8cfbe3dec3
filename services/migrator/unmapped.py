"""Keys whose newest state cannot be mapped to the other system's: each is pinned to the system that has it. Pure."""

from collections.abc import Mapping

from hal9.keys import key_error
from schemas.base import System
from schemas.control import Pin
from services.migrator.config import MigratorConfig

PIN_BATCH = 500


class Unmapped:
    """Those of one partition. `codes` says of each why."""

    def __init__(self, partition: int, config: MigratorConfig) -> None:
        self._partition, self._config = partition, config
        self.codes: dict[bytes, str] = {}
        self._unpinned: dict[bytes, tuple[System, str]] = {}
        """To be pinned: to the system that has the state, and why."""
        self._pinned: dict[bytes, System] = {}
        """What was said."""

    def noted(self, system: System, key: bytes, code: str | None) -> None:
        """The newest state of a key, which `system` has, could not be mapped (`code`), or could (None)."""
        if code is None:
            self.codes.pop(key, None)
            self._unpinned.pop(key, None)
            return
        self.codes[key] = code
        # What is no neuron id has no owner, and a pin of it would be no control record.
        if self._pinned.get(key) != system and key_error(key) is None:
            self._unpinned[key] = (system, code)

    def all_in(self, pins: Mapping[str, System]) -> bool:
        """Whether each of them is pinned."""
        return all(key.decode("utf-8", "replace") in pins for key in self.codes)

    def pin(self, pins: Mapping[str, System], now_ms: float) -> Pin | None:
        """What is to be said now, of the keys of one system, given the pins that there are."""
        for key, (system, _) in list(self._unpinned.items()):
            if pins.get(key.decode()) == system:
                del self._unpinned[key]
        if not self._unpinned:
            return None
        system = next(iter(self._unpinned.values()))[0]
        keys = [key for key, (holds, _) in self._unpinned.items() if holds == system][:PIN_BATCH]
        codes = {self._unpinned.pop(key)[1] for key in keys}
        self._pinned.update(dict.fromkeys(keys, system))
        return Pin(
            id=f"pin/{self._partition}/{self._config.unique()}",
            migration=self._config.migration,
            actor=self._config.instance,
            at_ms=int(now_ms),
            keys=[key.decode("utf-8", "replace") for key in keys],
            system=system,
            reason=f"{len(keys)} keys cannot be mapped: {', '.join(sorted(codes))}",
        )
