"""Who owns a key under a route, and in which epoch a bucket last changed hands. Pure.

`Spans` (a step function over the buckets, with exceptions for pinned keys) serves two questions: in which epoch did a
bucket last move (markers), and in which sealed epoch did a system last not own it (validity of change logs).
"""

from bisect import bisect_right
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from hal9.keys import BUCKETS, bucket_of, partition_of
from schemas import state as wire_state
from schemas.base import FLAT, HIERARCHICAL, System
from schemas.state import ArchitectureLayer, Layer

NO_PINS: Mapping[str, System] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Route:
    """Hierarchical owns the buckets below `bound`; pinned keys, and keys with a pinned prefix, are held at a system."""

    bound: int = 0
    shadow_bound: int = 0
    pins: Mapping[str, System] = field(default_factory=lambda: NO_PINS)
    prefixes: Mapping[str, System] = field(default_factory=lambda: NO_PINS)
    twin_bound: int = 0
    reads: Mapping[str, System] = field(default_factory=lambda: NO_PINS)
    off: frozenset[ArchitectureLayer] = frozenset()
    held: frozenset[Layer] = frozenset()
    """Cognitive layers that stay at flat."""

    def owner(self, bucket: int, key: str, layer: str | None = None) -> System:
        """The system that owns `key`, which lies in `bucket`: by pin, longest pinned prefix, layer, bucket.

        A key whose `layer` is not known (None) is taken for one that is not held.
        """
        if self.pins and key in self.pins:
            return self.pins[key]
        bound = self.bound_of(key, layer) if self.prefixes or self.held else self.bound
        return HIERARCHICAL if bucket < bound else FLAT

    def bound_of(self, key: str, layer: str | None = None) -> int:
        """The bound that holds for keys of `layer` that begin with `key`, exact pins and longer prefixes apart."""
        prefix = longest(self.prefixes, key)
        if prefix is None:
            return self.bound_in(layer)
        return BUCKETS if self.prefixes[prefix] == HIERARCHICAL else 0

    def bound_in(self, layer: str | None) -> int:
        """The bound that holds for keys of `layer`, pins and prefixes apart."""
        return 0 if layer in self.held else self.bound

    def holds(self, key: str, layer: str | None) -> bool:
        """Whether it is for its layer that `key` stays at flat."""
        return layer in self.held and key not in self.pins and longest(self.prefixes, key) is None

    @property
    def percentage(self) -> float:
        """Share of the buckets that hierarchical owns, in percent."""
        return self.bound / 100

    @property
    def involved(self) -> bool:
        """Whether hierarchical is asked for more than shadows (keys held there for want of a neuron's form apart)."""
        return self.bound > 0 or HIERARCHICAL in self.prefixes.values() or HIERARCHICAL in self.reads.values()

    def reach(self, before: "Route", salt: str) -> int:
        """The bucket below which everything lies that may move to hierarchical when this follows `before`."""
        pinned = any(
            (before.owner(bucket, key), self.owner(bucket, key)) == (FLAT, HIERARCHICAL)
            for key in {*before.pins, *self.pins}
            for bucket in (bucket_of(salt, key.encode()),)
        )
        # A prefix that is pinned there, or not held at flat any more, may have keys in any bucket.
        prefixed = any(self.bound_of(p) > before.bound_of(p) for p in {*self.prefixes, *before.prefixes})
        return BUCKETS if pinned or prefixed else self.bound

    def mark(self, epoch: int, keys: "PinFilter | None" = None) -> wire_state.RouteMark:
        """As a marker or a seal carries it; `keys` limits the pins to those of one partition."""
        return wire_state.RouteMark(
            epoch=epoch,
            bound=self.bound,
            shadow_bound=self.shadow_bound,
            pins={k: s for k, s in self.pins.items() if keys is None or keys(k)},
            prefixes=dict(self.prefixes),
            twin_bound=self.twin_bound,
            reads=dict(self.reads),
            off=sorted(self.off),
            held=sorted(self.held),
        )

    @staticmethod
    def of(mark: wire_state.RouteMark) -> "Route":
        """The route that a marker or a seal carries."""
        return Route(
            mark.bound,
            mark.shadow_bound,
            mark.pins or NO_PINS,
            mark.prefixes or NO_PINS,
            mark.twin_bound,
            mark.reads or NO_PINS,
            frozenset(mark.off),
            frozenset(mark.held),
        )


def longest(prefixes: Collection[str], key: str) -> str | None:
    """The longest of the prefixes that `key` begins with."""
    return max((p for p in prefixes if key.startswith(p)), key=len, default=None)


class PinFilter:
    """Callable: does a pinned key belong to this partition?"""

    def __init__(self, partition: int, partitions: int) -> None:
        self._partition, self._partitions = partition, partitions

    def __call__(self, key: str) -> bool:
        """True for keys of the partition."""
        return partition_of(key.encode(), self._partitions) == self._partition


@dataclass(slots=True)
class Spans:
    """Bucket -> epoch. Immutable by habit: `moved` and `lost` return new ones.

    Keys with a prefix that was ever pinned have a step function of their own (the longest such prefix counts), which
    begins as a copy of the one that held for them before. So have keys of each cognitive layer that was ever held.
    """

    bounds: list[int] = field(default_factory=lambda: [BUCKETS])
    epochs: list[int] = field(default_factory=lambda: [0])
    keys: dict[str, int] = field(default_factory=dict)
    prefixes: dict[str, "Spans"] = field(default_factory=dict)
    layers: dict[str, "Spans"] = field(default_factory=dict)

    def at(self, bucket: int, key: str, layer: str | None = None) -> int:
        """The epoch of `key`, which lies in `bucket`; as one that was never held if `layer` is not known."""
        if layer is not None and layer in self.layers:
            return self.layers[layer].at(bucket, key)
        if self.keys and key in self.keys:
            return self.keys[key]
        spans = self._of(key) if self.prefixes else self
        return spans.epochs[0] if len(spans.epochs) == 1 else spans.epochs[bisect_right(spans.bounds, bucket)]

    def _of(self, key: str) -> "Spans":
        prefix = longest(self.prefixes, key)
        return self if prefix is None else self.prefixes[prefix]

    def newest_at(self, bucket: int, key: str) -> int:
        """The greatest epoch of `key` over all layers that it may be in."""
        return max(self.at(bucket, key), *(s.at(bucket, key) for s in self.layers.values()), 0)

    def newest(self) -> int:
        """The greatest epoch of any bucket, prefix, layer or key."""
        parts = (*self.prefixes.values(), *self.layers.values())
        return max(*self.epochs, *self.keys.values(), *(s.newest() for s in parts), 0)

    def raised(self, low: int, high: int, epoch: int) -> "Spans":
        """The step function with at least `epoch` in the buckets low <= b < high, for keys of unknown layer."""
        if low >= high:
            return self._with(list(self.bounds), list(self.epochs))
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
        return self._with(bounds, epochs)

    def _with(self, bounds: list[int], epochs: list[int]) -> "Spans":
        return Spans(bounds, epochs, dict(self.keys), dict(self.prefixes))

    def moved(self, before: Route, after: Route, epoch: int, salt: str) -> "Spans":
        """What a marker of `epoch` makes of it: buckets, prefixes and keys whose owner differs moved in `epoch`."""
        spans = self.moved_in(before, after, epoch, salt, None)
        for layer in sorted({*before.held, *after.held, *self.layers}):
            spans.layers[layer] = self.layers.get(layer, self).moved_in(before, after, epoch, salt, layer)
        return spans

    def moved_in(self, before: Route, after: Route, epoch: int, salt: str, layer: str | None) -> "Spans":
        """`moved` for keys of one layer, or of none that is known."""
        one, two = before.bound_in(layer), after.bound_in(layer)
        spans = self.raised(min(one, two), max(one, two), epoch)
        for prefix in sorted({*before.prefixes, *after.prefixes, *self.prefixes}):
            one, two = before.bound_of(prefix, layer), after.bound_of(prefix, layer)
            spans.prefixes[prefix] = self._steps(prefix).raised(min(one, two), max(one, two), epoch)
        for key in sorted({*before.pins, *after.pins, *self.keys}):
            bucket = bucket_of(salt, key.encode())
            same = before.owner(bucket, key, layer) == after.owner(bucket, key, layer)
            spans.keys[key] = self.at(bucket, key) if same else epoch
        return spans

    def lost(self, route: Route, system: System, epoch: int, salt: str) -> "Spans":
        """What a seal of `epoch` makes of it: buckets, prefixes and keys that `system` does not own in `route`."""
        spans = self.lost_in(route, system, epoch, salt, None)
        for layer in sorted({*route.held, *self.layers}):
            spans.layers[layer] = self.layers.get(layer, self).lost_in(route, system, epoch, salt, layer)
        return spans

    def lost_in(self, route: Route, system: System, epoch: int, salt: str, layer: str | None) -> "Spans":
        """`lost` for keys of one layer, or of none that is known."""
        spans = self.raised(*_foreign(route.bound_in(layer), system), epoch)
        for prefix in sorted({*route.prefixes, *self.prefixes}):
            bound = route.bound_of(prefix, layer)
            spans.prefixes[prefix] = self._steps(prefix).raised(*_foreign(bound, system), epoch)
        for key in sorted({*route.pins, *self.keys}):
            bucket = bucket_of(salt, key.encode())
            held = self.at(bucket, key)
            spans.keys[key] = held if route.owner(bucket, key, layer) == system else max(held, epoch)
        return spans

    def _steps(self, prefix: str) -> "Spans":
        """The bare step function that holds for keys with `prefix` so far."""
        held = self._of(prefix)
        return Spans(held.bounds, held.epochs)

    def wire(self, keys: "PinFilter | None" = None) -> wire_state.Spans:
        """As a marker carries it."""
        return wire_state.Spans(
            bounds=self.bounds,
            epochs=self.epochs,
            keys={k: e for k, e in self.keys.items() if keys is None or keys(k)},
            prefixes={p: s.wire() for p, s in self.prefixes.items()},
            layers={layer: s.wire(keys) for layer, s in self.layers.items()},
        )

    @staticmethod
    def of(spans: wire_state.Spans) -> "Spans":
        """What a marker carries; malformed ones raise ValueError."""
        bounds = spans.bounds
        rising = bool(bounds) and bounds[0] > 0 and bounds[-1] == BUCKETS and sorted(set(bounds)) == bounds
        if not rising or len(bounds) != len(spans.epochs):
            raise ValueError(f"not a step function over the buckets: {spans}")
        prefixes = {p: Spans.of(s) for p, s in spans.prefixes.items()}
        layers = {layer: Spans.of(s) for layer, s in spans.layers.items()}
        return Spans(list(bounds), list(spans.epochs), dict(spans.keys), prefixes, layers)


def _foreign(bound: int, system: System) -> tuple[int, int]:
    """The buckets that `system` does not own when hierarchical owns those below `bound`."""
    return (0, bound) if system == FLAT else (bound, BUCKETS)
