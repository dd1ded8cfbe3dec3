"""Requests that a system has read and not executed yet: in order per key, and why a key waits. Pure."""

from collections import deque
from collections.abc import Iterable
from itertools import islice

from msgspec import Struct

from hal9.control.route import Route
from hal9.wire import Dispatched


class Task(Struct, eq=False, gc=False):
    """A request dispatched to this system as primary: `offset` is where it lies on `dispatched`."""

    offset: int
    key: bytes
    request: Dispatched
    value: bytes
    changes: bool
    """Whether its operation may change the state."""
    span: object = None
    route: Route | None = None
    """Of the marker before it, if that holds layers at flat."""


class Queues:
    """The requests of one partition. A key is ready, or waits (for a seal, a read-back, an answer)."""

    def __init__(self) -> None:
        self._queues: dict[bytes, deque[Task]] = {}
        self._ready: dict[bytes, None] = {}
        self._sealed: dict[int, dict[bytes, None]] = {}
        self._unverified: dict[bytes, None] = {}
        self._unread: dict[bytes, None] = {}
        self._offsets: dict[int, None] = {}

    def __len__(self) -> int:
        return len(self._offsets)

    def add(self, task: Task) -> None:
        """A request was read from `dispatched`."""
        self._offsets[task.offset] = None
        queue = self._queues.get(task.key)
        if queue is None:
            self._queues[task.key] = deque((task,))
            self._ready[task.key] = None
        else:
            queue.append(task)

    def ready(self, limit: int) -> list[bytes]:
        """Keys whose first request may be looked at, at most `limit`."""
        return list(islice(self._ready, limit))

    def first(self, key: bytes) -> Task:
        """The first request of a key."""
        return self._queues[key][0]

    def pop(self, key: bytes) -> None:
        """The first request of a key is executed, answered or passed over."""
        queue = self._queues[key]
        del self._offsets[queue.popleft().offset]
        del self._ready[key]
        if queue:
            self._ready[key] = None  # behind the other keys: a long queue delays none of them
        else:
            del self._queues[key]

    def wait_for_seal(self, key: bytes, epoch: int) -> None:
        """The key waits until `seal(epoch)` was read in the replica log."""
        del self._ready[key]
        self._sealed.setdefault(epoch, {})[key] = None

    def wait_for_read_back(self, key: bytes) -> None:
        """The key waits until own changes of it were read back."""
        del self._ready[key]
        self._unverified[key] = None

    def wait_for_replica(self, key: bytes) -> None:
        """The key waits until the replica log was read to where it ended when this incarnation began."""
        del self._ready[key]
        self._unread[key] = None

    def wait_for_answer(self, key: bytes) -> None:
        """The key waits until its first request was answered by a handler that is somewhere else."""
        del self._ready[key]

    def answered(self, keys: Iterable[bytes]) -> None:
        """The handler answered, or could not be asked."""
        self._ready.update(dict.fromkeys(keys))

    def seal_read(self, epoch: int) -> None:
        """`seal(epoch)` was read."""
        self._ready.update(self._sealed.pop(epoch, {}))

    def look_again(self) -> None:
        """Own changes may have been read back."""
        if self._unverified:
            self._ready.update(self._unverified)
            self._unverified.clear()

    def replica_read(self) -> None:
        """The replica log was read that far."""
        if self._unread:
            self._ready.update(self._unread)
            self._unread.clear()

    def seal_awaited(self) -> int | None:
        """The epoch whose seal is waited for, if nothing else can be executed meanwhile."""
        if self._ready or self._unverified or self._unread:
            return None
        return min((epoch for epoch, keys in self._sealed.items() if keys), default=None)

    def oldest(self) -> int | None:
        """Where the first request that is not executed lies on `dispatched`."""
        return next(iter(self._offsets), None)
