"""Projectors of the units into Redis, as the shell runs them: one fenced call at a time, positions asked of Redis.

Each holds one partition. Two may hold the same one; a call may arrive long after its sender gave it up, its reply may
be lost, and Redis may forget its last calls. After each call that was applied the witness's view is compared.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

from hal9 import wire
from hal9.log.validity import Validity
from hal9.testing.memory import MemoryLogs
from schemas.base import HIERARCHICAL, Tree, encode
from services.migrator.projection import Batch, Projection, applied_key, unit_key, validity_key
from simulation.applied import is_odd
from simulation.history import CHANGES, REPLICA, Violation
from simulation.memory_redis import MemoryRedis
from simulation.witness import Witness

LOGS = (REPLICA[HIERARCHICAL], CHANGES[HIERARCHICAL])
TOPIC_ID = "topic"


@dataclass(slots=True)
class Reader:
    """One log of one partition of one projector. `projection` None: it has to ask Redis where to go on."""

    log: str
    partition: int
    projection: Projection | None = None
    call: Batch | None = None


@dataclass(slots=True)
class Projectors:
    """All of them by name, and the Redis that they share."""

    logs: MemoryLogs
    witness: Witness
    redis: MemoryRedis = field(default_factory=MemoryRedis)
    readers: dict[tuple[str, str, int], Reader] = field(default_factory=dict)
    used: bool = False
    """Whether there was ever one."""
    late: list[tuple[Reader, Batch]] = field(default_factory=list)
    """Calls that their senders gave up, and that may arrive all the same."""

    def start(self, name: str, partition: int) -> bool:
        """A projector takes a partition, whoever else holds it."""
        self.used = True
        for log in LOGS:
            self.readers[name, log, partition] = Reader(log, partition)
        return True

    def staffed(self, partition: int) -> bool:
        """Whether somebody projects a partition."""
        return any(place[2] == partition for place in self.readers)

    def end(self, name: str) -> bool:
        """A projector is gone; what it has called may arrive."""
        for place, reader in list(self.readers.items()):
            if place[0] == name:
                self._give_up(reader)
                del self.readers[place]
        return True

    def _give_up(self, reader: Reader) -> None:
        if reader.call is not None:
            self.late.append((reader, reader.call))
            reader.call = None
        reader.projection = None

    # ------------------------------------------------------------------ what a projector does
    def busy(self, reader: Reader) -> bool:
        """Whether there is anything to do for it."""
        projection = reader.projection
        end = self.logs[reader.log, reader.partition].end
        return reader.call is not None or (projection.next_offset < end if projection else True)

    def step(self, name: str, log: str, partition: int, size: int, fate: str) -> bool:
        """It asks, calls, or hears of its call. `fate` of a call: `done`, `lost` (the reply), `late`, `never`."""
        reader = self.readers.get((name, log, partition))
        if reader is None or not self.busy(reader):
            return False
        if reader.call is not None:
            self._called(reader, reader.call, fate)
        elif reader.projection is None:
            if fate == "done":
                self._ask(reader)
        else:
            start = reader.projection.next_offset
            records = self.logs[log, partition].read(start, start + size)
            if not records:
                # Compacted away: a fetch skips to the next record there is.
                records = self.logs[log, partition].read(start, self.logs[log, partition].end)[:1]
            if records:
                reader.call = reader.projection.batch(records)
            else:
                reader.projection.next_offset = self.logs[log, partition].end
        return True

    def look(self, name: str, log: str, partition: int) -> bool:
        """One that waits for records sees whether Redis still has what it was told."""
        reader = self.readers.get((name, log, partition))
        if reader is None or reader.projection is None or reader.call is not None:
            return False
        if not reader.projection.stands(self.redis.hmget(applied_key(partition), [log])[0]):
            reader.projection = None
        return True

    def _ask(self, reader: Reader) -> None:
        stored = self.redis.hmget(applied_key(reader.partition), [reader.log])[0]
        validity = self.redis.hmget(validity_key(reader.partition), [reader.log])[0]
        reader.projection = Projection(reader.partition, reader.log, TOPIC_ID, self._judge(reader.log))
        reader.projection.start((stored or b"").decode(), (validity or b"").decode())

    def _judge(self, log: str) -> Callable[[], Validity]:
        salt = self.witness.salt
        return (lambda: Validity(system=HIERARCHICAL, salt=salt)) if log == CHANGES[HIERARCHICAL] else Validity

    def _called(self, reader: Reader, batch: Batch, fate: str) -> None:
        if fate == "late":
            self._give_up(reader)
            return
        reader.call = None
        answer = None if fate == "never" else self._carried_out(reader, batch)
        projection = reader.projection
        if projection is None or not projection.replied(batch, answer if fate == "done" else None):
            self.witness.count("calls_refused_or_lost")
            reader.projection = None

    def arrive(self, number: int) -> bool:
        """A call that was given up arrives."""
        if number >= len(self.late):
            return False
        reader, batch = self.late.pop(number)
        self._carried_out(reader, batch)
        return True

    def forget(self, calls: int) -> bool:
        """Redis comes back without its last calls; nobody is told."""
        self.witness.count("calls_forgotten", self.redis.forget(calls))
        return True

    def keep(self) -> None:
        """What Redis was told is safe from now on."""
        self.redis.keep()

    def read_by_all(self, log: str, partition: int) -> int:
        """Up to where a log of units is projected for good: nothing that Redis may forget has passed it."""
        if log not in LOGS or not self.used:
            return 1 << 62
        return self._position(log, partition) if self.redis.safe and not self.late else 0

    # ------------------------------------------------------------------ what must hold
    def _carried_out(self, reader: Reader, batch: Batch) -> bytes:
        before = self._position(reader.log, reader.partition)
        answer = self.redis.evaluate(batch.keys, batch.arguments)
        after = self._position(reader.log, reader.partition)
        if after < before:
            raise Violation("a position in Redis went back", f"{reader.log}/{reader.partition}: {before}, {after}")
        left = {record.offset for record in self.logs[reader.log, reader.partition].read(before, after)}
        for record, kind in self.witness.passed.records.get((reader.log, reader.partition), ()):
            if kind == "data" and record.offset in left:
                key = record.key or b""
                held, _ = self._unit(reader.partition, key)
                version = dict(record.headers)["version"]
                if held < int(version) and wire.UNMAPPED not in dict(record.headers):
                    raise Violation("a position in Redis passed a change", f"{record}: Redis has version {held}")
        for name in batch.keys[1:]:
            self._counts(reader.partition, name.rpartition(":")[2].encode())
        return answer

    def _position(self, log: str, partition: int) -> int:
        stored = self.redis.hmget(applied_key(partition), [log])[0]
        return int((stored or b":0").rpartition(b":")[2])

    def _unit(self, partition: int, key: bytes) -> tuple[int, bytes | None]:
        version, unit = self.redis.hmget(unit_key(partition, key.decode()), ["version", "unit"])
        return int(version or 0), unit

    def _counts(self, partition: int, key: bytes) -> None:
        """Redis holds nothing of a key but a version of it that counts."""
        version, unit = self._unit(partition, key)
        chain = self.witness.chains.get(key, [])
        if version > len(chain) or (version and unit != _encoded(chain[version - 1].state)):
            raise Violation("Redis holds what does not count", f"{key!r} in version {version}: {unit!r}")

    def at_rest(self, home: Callable[[bytes], int]) -> None:
        """Redis equals the newest unit of each key, at the end of both logs."""
        if not self.readers:
            return
        for (_, log, partition), reader in self.readers.items():
            if self.busy(reader):
                raise Violation("not idle at rest", f"the projector of {log}/{partition}")
        for key, chain in self.witness.chains.items():
            version, unit = self._unit(home(key), key)
            if chain and chain[-1].log != CHANGES[HIERARCHICAL] and is_odd(chain[-1].state):
                continue  # no unit can be made of it: the last one stays
            if chain and chain[-1].state is None and unit is None:
                continue  # a deletion may be forgotten before a new Redis hears of it
            if chain and (version != len(chain) or unit != _encoded(chain[-1].state)):
                raise Violation("Redis is not at the newest unit", f"{key!r}: version {version}, newest {chain[-1]}")


def _encoded(state: Tree | None) -> bytes | None:
    return None if state is None else encode(state)
