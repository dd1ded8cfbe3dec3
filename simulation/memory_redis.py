"""Redis as far as the projection sees it: the fenced script and a look at its hashes, in memory.

A test holds it against a real Valkey: the same calls, the same replies, the same hashes
(`tests/integration/test_memory_redis.py`).
"""

from collections.abc import Sequence

Hash = dict[str, bytes]


class MemoryRedis:
    """Hashes, and what each call changed, so that the last ones can be lost."""

    def __init__(self) -> None:
        self.hashes: dict[str, Hash] = {}
        self._before: list[dict[str, Hash | None]] = []

    def hmget(self, key: str, fields: Sequence[str]) -> list[bytes | None]:
        """Fields of a hash; None for those it has not."""
        held = self.hashes.get(key, {})
        return [held.get(name) for name in fields]

    def evaluate(self, keys: Sequence[str], arguments: Sequence[str | bytes | int]) -> bytes:
        """`services.migrator.projection.SCRIPT` on these KEYS and ARGV."""
        topic, expected, position, validity = (_bytes(a) for a in arguments[:4])
        field = topic.decode()
        applied = self.hashes.get(keys[0], {})
        stored = applied.get(field, b"")
        if stored != expected:
            return stored
        self._before.append({key: dict(held) if (held := self.hashes.get(key)) else None for key in keys})
        for at, key in enumerate(keys[2:]):
            version, unit = _bytes(arguments[4 + 2 * at]), _bytes(arguments[5 + 2 * at])
            held = self.hashes.setdefault(key, {})
            if "version" in held and int(held["version"]) >= int(version):
                continue
            held["version"] = version
            if unit == b"":
                held.pop("unit", None)
            else:
                held["unit"] = unit
        self.hashes.setdefault(keys[0], {})[field] = position
        self.hashes.setdefault(keys[1], {})[field] = position + b";" + validity
        return position

    def keep(self) -> None:
        """All of it is on disk now."""
        self._before.clear()

    @property
    def safe(self) -> bool:
        """Whether nothing of it can be lost."""
        return not self._before

    def forget(self, calls: int) -> int:
        """The last `calls` calls that changed something are lost, as in a crash before they were on disk; how many."""
        for lost in range(calls):
            if not self._before:
                return lost
            for key, held in self._before.pop().items():
                if held is None:
                    self.hashes.pop(key, None)
                else:
                    self.hashes[key] = held
        return calls


def _bytes(argument: str | bytes | int) -> bytes:
    return argument if isinstance(argument, bytes) else str(argument).encode()
