"""The route as this partition has it: markers, moves, and what was in flight when its bucket moved. Pure."""

from collections.abc import Iterable

from hal9.control.reducer import ROUTE_SALT, ControlState, salt
from hal9.control.route import PinFilter, Route, Spans
from schemas.base import System
from schemas.state import Marker
from services.router.entry import Entry
from services.router.keybook import Key

ASKED = -1
"""`Entry.away` of a request that is at a system which gives requests of its key back: no epoch ends that."""


class Handover:
    """What the last marker put down here says, and which keys wait for an epoch to settle."""

    def __init__(self, migration: str, partition: int, partitions: int) -> None:
        self.epoch, self.route, self.moved = 0, Route(), Spans()
        self.settled: set[int] = set()
        self._away: dict[bytes, int] = {}
        """Per key, how many of its requests are in flight from before a move of its bucket."""
        self._partition = partition
        self._pins = PinFilter(partition, partitions)
        self._salt = salt(migration, ROUTE_SALT)

    def owner(self, known: Key) -> System:
        """Who owns a key here and now."""
        return self.route.owner(known.bucket, known.text, known.layer)

    def after_seal(self, known: Key) -> int:
        """The epoch in which the key last moved; may have moved, if its layer is not known."""
        return self._last_moved(known) if known.layer is None else self.moved.at(known.bucket, known.text, known.layer)

    def _last_moved(self, known: Key) -> int:
        """In whatever layer it is."""
        moved = self.moved
        return moved.newest_at(known.bucket, known.text) if moved.layers else moved.at(known.bucket, known.text)

    def holds(self, key: bytes) -> bool:
        """Whether requests of `key` must wait: one is in flight from before a move."""
        return key in self._away

    def adopt(self, marker: Marker) -> None:
        """A predecessor's marker was read."""
        self.epoch = marker.route.epoch
        self.route, self.moved = Route.of(marker.route), Spans.of(marker.moved)

    def advance(self, state: ControlState) -> Marker | None:
        """The marker of the newest epoch, which stands for all older ones; None if it is down already."""
        if state.epoch <= self.epoch:
            return None
        self.moved = self.moved.moved(self.route, state.route, state.epoch, self._salt)
        self.epoch, self.route = state.epoch, state.route
        return Marker(route=state.route.mark(state.epoch, self._pins), moved=self.moved.wire(self._pins))

    def mark_away(self, in_flight: Iterable[Entry]) -> None:
        """The marker of `epoch` was put down: what is in flight and moved with it is away from its owner."""
        if self.moved.newest() != self.epoch:
            return
        for entry in in_flight:
            known, key = entry.known, entry.key
            if entry.away not in (None, ASKED) or known is None or key is None or self._last_moved(known) != self.epoch:
                continue
            if entry.away is None:
                self._away[key] = self._away.get(key, 0) + 1
            entry.away = self.epoch

    def gave_back(self, entry: Entry, in_flight: Iterable[Entry]) -> None:
        """Hierarchical gave `entry` back, which left the table: its key waits for all others that are there."""
        self.release(entry)
        for other in in_flight:
            if other.key == entry.key:
                self._asked(other)

    def taken_over(self, in_flight: Iterable[Entry]) -> None:
        """What a predecessor asked hierarchical for, and whose layer is known by now, will be given back."""
        for entry in in_flight:
            known = entry.known
            if known is None or known.layer is None or entry.course is not None:
                continue
            if entry.owner != self.owner(known):
                self._asked(entry)

    def _asked(self, entry: Entry) -> None:
        if entry.away is None and entry.key is not None:
            entry.away = ASKED
            self._away[entry.key] = self._away.get(entry.key, 0) + 1

    def missed(self, entry: Entry) -> None:
        """An entry was restored from a record after the marker that moved its key: it is away all the same."""
        if entry.known is not None and self.after_seal(entry.known) > entry.epoch:
            self._away_from(entry, self.after_seal(entry.known))

    def _away_from(self, entry: Entry, epoch: int) -> None:
        if entry.away is None and entry.key is not None:
            entry.away = epoch
            self._away[entry.key] = self._away.get(entry.key, 0) + 1

    def release(self, entry: Entry) -> None:
        """An entry left the table: its key waits for one less."""
        if entry.away is None or entry.key is None:
            return
        entry.away = None
        left = self._away[entry.key] - 1
        if left:
            self._away[entry.key] = left
        else:
            del self._away[entry.key]

    def take_back(self, in_flight: dict[int, Entry], state: ControlState) -> list[Entry]:
        """Requests of moved keys still unanswered when their epoch settled, out of the table, in order of position."""
        self.settled |= state.settled.get(self._partition, {}).keys()
        if not self._away:
            return []
        taken = sorted((e for e in in_flight.values() if e.away in self.settled), key=lambda e: e.position)
        for entry in taken:
            del in_flight[entry.position]
            self.release(entry)
        return taken
