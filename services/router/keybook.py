"""What the router knows of the keys it has seen lately: hashing costs more than looking up. Pure."""

from dataclasses import dataclass

from hal9.control.reducer import ROUTE_SALT, SHADOW_SALT, salt
from hal9.keys import bucket_of, partition_of

REMEMBERED = 100_000
REMEMBERED_MS = 3_600_000.0
"""For how long. A deleted key may come back in another layer once the logs know it no more, after `delete.retention.ms`
(weeks): whoever remembered the old layer then would send it past hierarchical, which does not."""


@dataclass(slots=True)
class Key:
    """A neuron id: its buckets, and the partition it belongs to if that is not this one."""

    text: str
    bucket: int
    shadow_bucket: int
    misplaced_to: int | None
    twin_bucket: int = -1
    """-1: nobody has asked for it yet."""
    layer: str | None = None
    """Known of keys that hierarchical gave back, or that were dispatched with it. Forgetting it costs a hop."""
    layer_version: int = 0


class KeyBook:
    """Keys of one partition; forgotten all at once when there are too many, and after `remembered_ms`."""

    def __init__(self, migration: str, partition: int, partitions: int, remembered_ms: float = REMEMBERED_MS) -> None:
        self._remembered_ms, self._since_ms = remembered_ms, 0.0
        self._partition, self._partitions = partition, partitions
        self._route_salt, self._shadow_salt = salt(migration, ROUTE_SALT), salt(migration, SHADOW_SALT)
        self._keys: dict[bytes, Key] = {}

    def seen(self, key: bytes | None) -> Key | None:
        """The entry of a neuron id that was asked for lately."""
        return self._keys.get(key) if key is not None else None

    def of(self, key: bytes) -> Key:
        """The entry of a valid neuron id."""
        found = self._keys.get(key)
        if found is None:
            if len(self._keys) >= REMEMBERED:
                self.forget()
            at = partition_of(key, self._partitions)
            found = self._keys[key] = Key(
                key.decode(),
                bucket_of(self._route_salt, key),
                bucket_of(self._shadow_salt, key),
                None if at == self._partition else at,
            )
        return found

    def expire(self, now_ms: float) -> None:
        """Forget them if it is time."""
        if now_ms >= self._since_ms + self._remembered_ms:
            self._since_ms = now_ms
            self.forget()

    def forget(self) -> None:
        """All of them: there are too many, or a test wants it."""
        self._keys.clear()

    def learn(self, key: bytes, layer: str | None, version: int) -> None:
        """The layer of a key, and the version from which on its owner may go on."""
        if layer is not None:
            known = self.of(key)
            known.layer, known.layer_version = layer, max(known.layer_version, version)
