"""What a partition, and a router process, has taken in and not answered: when to pause, and when to refuse. Pure.

Two bounds, each by count and by bytes. Above the first one a partition reads no requests: they wait in the log, where
they cost nothing. A chunk that was read already may carry it on to twice as much; what does not fit there either is
rejected, `overload`. While requests wait in the log in earnest, a key that holds its share of the table gets no more as
long as there are others: what it has too much is rejected too, or they would wait behind it until they expire.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from hal9.log.effects import Record

HARD = 2
"""How much more than the bound at which it pauses a partition takes at most."""
FRESH_MS = 100
"""For how long a count of the table by key is used."""
STALLED_MS = 1_000
"""No answer for so long while one key fills the table: read on and refuse that key, for others may wait behind it."""


@dataclass(frozen=True, slots=True)
class LoadPolicy:
    """Bounds, by number of requests and by bytes of their values and answers."""

    count: int = 20_000
    bytes: int = 64 * 1024 * 1024
    process_count: int = 100_000
    process_bytes: int = 256 * 1024 * 1024
    key_share: float = 0.25
    """Share of `count` that one key may hold while others wait."""
    shed_ms: float = 2_500
    """Requests that waited so long in the log wait in earnest."""


class Budget:
    """What all partitions of one process hold; each reports its own share, see `Load.report`."""

    def __init__(self, policy: LoadPolicy) -> None:
        self.policy = policy
        self.count = self.bytes = 0

    @property
    def full(self) -> bool:
        """Whether every partition pauses."""
        return self.count >= self.policy.process_count or self.bytes >= self.policy.process_bytes

    def recount(self, loads: Iterable["Load"]) -> None:
        """These are all there are: shares of partitions that went elsewhere are no longer held."""
        self.count = self.bytes = 0
        for load in loads:
            self.count += load.reported[0]
            self.bytes += load.reported[1]


class Crowd:
    """Who fills the table."""

    def __init__(self, policy: LoadPolicy, keys: Iterable[bytes | None], now_ms: float) -> None:
        self._held = Counter(keys)
        self._most = max(1, int(policy.key_share * policy.count))
        self._until_ms = now_ms + FRESH_MS
        self.dominated = any(count >= self._most for count in self._held.values())
        """Whether one key holds its share, or more."""
        self.others = False
        """Whether somebody waits who does not."""

    def fresh(self, now_ms: float) -> bool:
        """Whether the count may be used again."""
        return now_ms < self._until_ms

    def holds_its_share(self, key: bytes | None) -> bool:
        """Whether a key may have no more while others wait."""
        return self._held[key] >= self._most

    def admits(self, key: bytes | None) -> bool:
        """Whether another request of `key` is taken; it counts if so."""
        if self.others and self.holds_its_share(key):
            return False
        self._held[key] += 1
        return True


class Load:
    """One partition's share, counted by its core.

    Attributes:
        open: requests in flight or waiting.
        bytes: their values, and the answers on their way to `responses`.
        rejecting: rejections on their way to `dispatched`.
        crowd: None while there is room: then nothing is looked at request by request.
    """

    def __init__(self, policy: LoadPolicy, budget: Budget) -> None:
        self.policy, self._budget = policy, budget
        self.open = self.bytes = self.rejecting = 0
        self.reported = (0, 0)
        self.crowd: Crowd | None = None
        self._counted: Crowd | None = None
        self._relief = False
        self._head: tuple[int | None, float] = (None, 0.0)

    def __repr__(self) -> str:
        return f"<Load {self.open} open, {self.bytes} bytes{', crowded' if self.crowd else ''}>"

    def take(self, value: bytes | None) -> None:
        """A request with this value is open."""
        self.open += 1
        self.bytes += len(value or b"")

    def drop(self, value: bytes | None) -> None:
        """A request with this value is no longer open, and no answer takes its place."""
        self.open -= 1
        self.bytes -= len(value or b"")

    def report(self) -> None:
        """Tell the process what this partition holds; once per chunk and tick."""
        count, size = self.reported
        self._budget.count += self.open - count
        self._budget.bytes += self.bytes - size
        self.reported = self.open, self.bytes

    # ------------------------------------------------------------------ what may come
    def takes(self, unacked: int) -> bool:
        """Whether requests are read at all; `unacked`: answers on their way."""
        leaving, policy = unacked + self.rejecting, self.policy
        if self._relief:
            return leaving < policy.count and not self._over(HARD)
        return self.open + leaving < policy.count and self.bytes < policy.bytes and not self._budget.full

    def chunk(self, records: Sequence[Record], table: Iterable[bytes | None], now_ms: float) -> None:
        """Requests were read: look at each only if they may not fit, or if they waited while one key held the table."""
        policy, count = self.policy, self.open + len(records)
        size = self.bytes + sum([len(record.value) for record in records if record.value is not None])
        tight = count > HARD * policy.count or size > HARD * policy.bytes
        late = self._relief or (2 * count > policy.count and now_ms - records[0].timestamp > policy.shed_ms)
        if not tight and not late:
            self.crowd = None
            return
        crowd = self._counted
        if crowd is None or not crowd.fresh(now_ms):
            crowd = self._counted = Crowd(policy, table, now_ms)
        crowd.others = late and (
            self._relief or any(not crowd.holds_its_share(key) for key in {record.key for record in records})
        )
        self.crowd = crowd if tight or crowd.dominated else None

    def refuses(self, key: bytes | None) -> str | None:
        """Why a request is refused while `crowd` is there: `full`, or `hot-key`."""
        if self._over(HARD):
            return "full"
        return None if self.crowd is None or self.crowd.admits(key) else "hot-key"

    def _over(self, times: int) -> bool:
        return self.open >= times * self.policy.count or self.bytes >= times * self.policy.bytes

    def tick(self, unacked: int, head: int | None, table: Iterable[bytes | None], now_ms: float) -> None:
        """Time passes: a full table whose `head` stays the same, and that one key fills, is read past."""
        self.report()
        held, since_ms = self._head
        if head != held or (not self._relief and self.takes(unacked)):
            self._head, self._relief = (head, now_ms), False
        elif not self._relief and now_ms - since_ms >= STALLED_MS:
            self._relief = Crowd(self.policy, table, now_ms).dominated
