"""Who owns a key under a route, and in which epoch a bucket last changed hands. Pure.

`Spans` (a step function over the buckets, with exceptions for pinned keys) serves two questions: in which epoch did a
bucket last move (markers), and in which sealed epoch did a system last not own it (validity of change logs).
"""

from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from hal9.keys import BUCKETS, bucket_of, partition_of
from schemas import state as wire_state
from schemas.base import FLAT, HIERARCHICAL, System

NO_PINS: Mapping[str, System] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Route:
    """Hierarchical owns the buckets below `bound` (percentage x 100); pinned keys are held at a system."""

    bound: int = 0
    shadow_bound: int = 0
    pins: Mapping[str, System] = field(default_factory=lambda: NO_PINS)

    def owner(self, bucket: int, key: str) -> System:
        """The system that owns `key`, which lies in `bucket`."""
        if self.pins and key in self.pins:
            return self.pins[key]
        return HIERARCHICAL if bucket < self.bound else FLAT

    @property
    def percentage(self) -> float:
        """Share of the buckets that hierarchical owns, in percent."""
        return self.bound / 100

    def mark(self, epoch: int, keys: "PinFilter | None" = None) -> wire_state.RouteMark:
        """As a marker or a seal carries it; `keys` limits the pins to those of one partition."""
        pins = {k: s for k, s in self.pins.items() if keys is None or keys(k)}
        return wire_state.RouteMark(epoch=epoch, bound=self.bound, shadow_bound=self.shadow_bound, pins=pins)

    @staticmethod
    def of(mark: wire_state.RouteMark) -> "Route":
        """The route that a marker or a seal carries."""
        return Route(mark.bound, mark.shadow_bound, mark.pins or NO_PINS)


class PinFilter:
    """Callable: does a pinned key belong to this partition?"""

    def __init__(self, partition: int, partitions: int) -> None:
        self._partition, self._partitions = partition, partitions

    def __call__(self, key: str) -> bool:
        """True for keys of the partition."""
        return partition_of(key.encode(), self._partitions) == self._partition


@dataclass(slots=True)
class Spans:
    """Bucket -> epoch. Immutable by habit: `moved` and `lost` return new ones."""

    bounds: list[int] = field(default_factory=lambda: [BUCKETS])
    epochs: list[int] = field(default_factory=lambda: [0])
    keys: dict[str, int] = field(default_factory=dict)

    def at(self, bucket: int, key: str) -> int:
        """The epoch of `key`, which lies in `bucket`."""
        if self.keys and key in self.keys:
            return self.keys[key]
        return self.epochs[0] if len(self.epochs) == 1 else self.epochs[bisect_right(self.bounds, bucket)]

    def newest(self) -> int:
        """The greatest epoch of any bucket or key."""
        return max(*self.epochs, *self.keys.values(), 0)

    def raised(self, low: int, high: int, epoch: int) -> "Spans":
        """The same, with at least `epoch` in the buckets low <= b < high."""
        if low >= high:
            return Spans(list(self.bounds), list(self.epochs), dict(self.keys))
        cuts = sorted({*self.bounds, *(c for c in (low, high) if 0 < c < BUCKETS)})
        bounds: list[int] = []
        epochs: list[int] = []
        start = 0
        for cut in cuts:
            value = self.epochs[bisect_right(self.bounds, start)]
            if low <= start and cut <= high:
                value = max(value, epoch)
            if epochs and epochs[-1] == value:
                bounds[-1] = cut
            else:
                bounds.append(cut)
                epochs.append(value)
            start = cut
        return Spans(bounds, epochs, dict(self.keys))

    def moved(self, before: Route, after: Route, epoch: int, salt: str) -> "Spans":
        """What a marker of `epoch` makes of it: buckets and pinned keys whose owner differs moved in `epoch`."""
        spans = self.raised(min(before.bound, after.bound), max(before.bound, after.bound), epoch)
        for key in {*before.pins, *after.pins, *self.keys}:
            bucket = bucket_of(salt, key.encode())
            same = before.owner(bucket, key) == after.owner(bucket, key)
            spans.keys[key] = self.at(bucket, key) if same else epoch
        return spans

    def lost(self, route: Route, system: System, epoch: int, salt: str) -> "Spans":
        """What a seal of `epoch` makes of it: buckets and keys that `system` does not own in `route`."""
        low, high = (0, route.bound) if system == FLAT else (route.bound, BUCKETS)
        spans = self.raised(low, high, epoch)
        for key in {*route.pins, *self.keys}:
            bucket = bucket_of(salt, key.encode())
            held = self.at(bucket, key)
            spans.keys[key] = held if route.owner(bucket, key) == system else max(held, epoch)
        return spans

    def wire(self, keys: "PinFilter | None" = None) -> wire_state.Spans:
        """As a marker carries it."""
        return wire_state.Spans(
            bounds=self.bounds,
            epochs=self.epochs,
            keys={k: e for k, e in self.keys.items() if keys is None or keys(k)},
        )

    @staticmethod
    def of(spans: wire_state.Spans) -> "Spans":
        """What a marker carries; malformed ones raise ValueError."""
        bounds = spans.bounds
        rising = bool(bounds) and bounds[0] > 0 and bounds[-1] == BUCKETS and sorted(set(bounds)) == bounds
        if not rising or len(bounds) != len(spans.epochs):
            raise ValueError(f"not a step function over the buckets: {spans}")
        return Spans(list(bounds), list(spans.epochs), dict(spans.keys))
