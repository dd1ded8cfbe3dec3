"""Units into Redis: one fenced call per batch of a partition; a replay, a zombie or a lost reply changes nothing.

Pure. A call carries the position of its topic as it was read from Redis, and is refused when another one stands
there; then the reader seeks to that. Each key is set only if its version is newer. A hash of its own holds what a
reader that starts at a position must know of the log before it, with that position.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from hal9.backend.store import read_change
from hal9.errors import Poison
from hal9.log.effects import Record
from hal9.log.validity import Validity
from schemas.base import encode

SCRIPT = """
local stored = redis.call('HGET', KEYS[1], ARGV[1]) or ''
if stored ~= ARGV[2] then return stored end
for i = 3, #KEYS do
  local at = 5 + (i - 3) * 2
  local version = redis.call('HGET', KEYS[i], 'version')
  if not version or tonumber(version) < tonumber(ARGV[at]) then
    redis.call('HSET', KEYS[i], 'version', ARGV[at])
    if ARGV[at + 1] == '' then
      redis.call('HDEL', KEYS[i], 'unit')
    else
      redis.call('HSET', KEYS[i], 'unit', ARGV[at + 1])
    end
  end
end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[3])
redis.call('HSET', KEYS[2], ARGV[1], ARGV[3] .. ';' .. ARGV[4])
return ARGV[3]
"""
"""KEYS: applied hash, validity hash, unit hashes.
ARGV: topic, position as read, position after, validity, then (version, unit) each.

Returns the position that stands there now: equal to ARGV[3] if the batch was applied.
"""


def unit_key(partition: int, key: str) -> str:
    """Where the unit of a neuron lies; the hash tag keeps a partition on one node of a cluster."""
    return f"hal9:{{{partition}}}:unit:{key}"


def applied_key(partition: int) -> str:
    """Where the positions of a partition lie."""
    return f"hal9:{{{partition}}}:applied"


def validity_key(partition: int) -> str:
    """Where lies what a reader that starts at those positions must know."""
    return f"hal9:{{{partition}}}:validity"


@dataclass(frozen=True, slots=True)
class Batch:
    """One call of `SCRIPT`."""

    keys: list[str]
    arguments: list[str | bytes | int]
    position: str
    """What the script returns if it was applied."""


@dataclass(slots=True)
class Projection:
    """One topic of one partition. `stored` is the position as Redis has it (empty: never written)."""

    partition: int
    topic: str
    topic_id: str
    fresh: Callable[[], Validity]
    """A judge for the start of the topic (a change log's seals need to know their system)."""
    stored: str = ""
    validity: Validity = field(init=False)
    next_offset: int = 0
    unreadable: int = 0

    def __post_init__(self) -> None:
        self.validity = self.fresh()

    def start(self, stored: str, validity: str) -> int:
        """Continue from what Redis has; the offset to read from. Anything but this very topic's position: from 0."""
        self.stored, self.next_offset = stored, 0
        self.validity = self.fresh()
        identity, _, offset = stored.rpartition(":")
        at, _, saved = validity.partition(";")
        if identity == self.topic_id and offset.isdecimal() and at == stored:
            try:
                self.validity.restore(saved)
            except Poison:
                self.validity = self.fresh()
                return 0
            self.next_offset = int(offset)
        return self.next_offset

    def batch(self, records: Sequence[Record]) -> Batch:
        """The call that applies these records, the next ones of the topic."""
        newest: dict[str, tuple[int, bytes]] = {}
        for record in records:
            if self.validity.feed(record) != "data" or record.key is None:
                continue
            try:
                change, found = read_change(record)
            except Poison:
                self.unreadable += 1
                continue
            if change.unmapped is not None:
                continue  # the last unit that there was stays
            key = unit_key(self.partition, record.key.decode("utf-8", "replace"))
            if change.version >= newest.get(key, (0, b""))[0]:
                newest[key] = (change.version, b"" if found.state is None else encode(found.state))
        after = self.next_offset = records[-1].offset + 1
        position = f"{self.topic_id}:{after}"
        arguments: list[str | bytes | int] = [self.topic, self.stored, position, self.validity.saved(after)]
        for version, unit in newest.values():
            arguments += [version, unit]
        return Batch([applied_key(self.partition), validity_key(self.partition), *newest], arguments, position)

    def replied(self, batch: Batch, answer: bytes | None) -> bool:
        """What came of a call: True if it was applied. If not (a lost reply: None), ask Redis again what it has."""
        if answer is None or answer.decode() != batch.position:
            return False
        self.stored = batch.position
        return True

    def stands(self, stored: bytes | None) -> bool:
        """Whether Redis (`stored`: its position now) still has what it was told; if not, ask it where to go on."""
        return (stored or b"").decode() == self.stored
