"""Metrics of one process, in a registry of its own; nothing is registered that this process cannot know.

`counter` and `gauge` return a bound child. Binding is ten times dearer than counting: bind at construction.
"""

from collections.abc import Iterable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics, generate_latest
from prometheus_client.core import HistogramMetricFamily, Metric
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector

from hal9.stats.sketch import GAMMA
from hal9.telemetry.families import (
    COMPARISONS,
    DIVERGENCES_LEFT_OUT,
    FALLBACKS,
    OVERLOAD,
    READS_IGNORED,
    REQUEST_DURATION,
    REQUESTS,
    SHADOWS_DROPPED,
    Family,
)
from schemas.base import FLAT, SYSTEMS
from schemas.telemetry import Comparisons, Outcome, Sketch

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_EXECUTED = (
    ("primary", "ok"),
    ("primary", "error"),
    ("primary", "timeout"),
    ("shadow", "ok"),
    ("shadow", "error"),
)
BOUNDS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.5, 1.0, 2.5, 5.0, 10.0)


class Metrics:
    """The metrics of one process."""

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = registry or CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self._counters: dict[str, Counter] = {}
        self._gauges: dict[str, Gauge] = {}
        self._histograms: dict[str, Histogram] = {}

    def counter(self, family: Family, **labels: str) -> Counter:
        """The bound counter of these labels."""
        found = self._counters.get(family.name)
        if found is None:
            found = self._counters[family.name] = Counter(
                family.name, family.help, family.labels, registry=self.registry
            )
        return found.labels(**labels) if family.labels else found

    def gauge(self, family: Family, **labels: str) -> Gauge:
        """The bound gauge of these labels."""
        found = self._gauges.get(family.name)
        if found is None:
            found = self._gauges[family.name] = Gauge(family.name, family.help, family.labels, registry=self.registry)
        return found.labels(**labels) if family.labels else found

    def histogram(self, family: Family, **labels: str) -> Histogram:
        """The bound histogram of seconds of these labels."""
        found = self._histograms.get(family.name)
        if found is None:
            found = self._histograms[family.name] = Histogram(
                family.name, family.help, family.labels, registry=self.registry, buckets=BOUNDS_S
            )
        return found.labels(**labels) if family.labels else found

    def forget(self, family: Family, **labels: str) -> None:
        """Drop a gauge's child: what this process no longer knows must not be reported by two."""
        found = self._gauges.get(family.name)
        if found is not None:
            found.remove(*(labels[name] for name in family.labels))

    def render(self) -> bytes:
        """The text format of Prometheus."""
        return generate_latest(self.registry)


class Durations(Collector):
    """The request durations as a histogram, filled from latency sketches: it costs nothing per request."""

    def __init__(self, metrics: Metrics) -> None:
        self._counts: dict[tuple[str, str], list[int]] = {}
        self._sums: dict[tuple[str, str], float] = {}
        metrics.registry.register(self)

    def add(self, system: str, role: str, sketch: Sketch) -> None:
        """Add the counts of a sketch in microseconds (`hal9.stats.sketch`)."""
        counts = self._counts.setdefault((system, role), [0] * (len(BOUNDS_S) + 1))
        for bucket, count in sketch.items():
            seconds = GAMMA**bucket / 1e6
            counts[_slot(seconds)] += count
            self._sums[system, role] = self._sums.get((system, role), 0.0) + count * seconds

    def collect(self) -> Iterable[Metric]:
        """One histogram family, cumulative as Prometheus wants it."""
        family = HistogramMetricFamily(REQUEST_DURATION.name, REQUEST_DURATION.help, labels=REQUEST_DURATION.labels)
        for labels, counts in self._counts.items():
            total = 0
            buckets: list[tuple[str, float]] = []
            for bound, count in zip((*BOUNDS_S, float("inf")), counts, strict=True):
                total += count
                buckets.append(("+Inf" if bound == float("inf") else repr(bound), total))
            family.add_metric(labels, buckets=buckets, sum_value=self._sums.get(labels, 0.0))
        return [family]


def _slot(seconds: float) -> int:
    for slot, bound in enumerate(BOUNDS_S):
        if seconds <= bound:
            return slot
    return len(BOUNDS_S)


class OutcomeMetrics:
    """Requests, comparisons and durations, counted from the router's records of one second."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._durations = Durations(metrics)
        self._left_out = metrics.counter(DIVERGENCES_LEFT_OUT)
        # A counter that is there from the first scrape can be alerted on; one that appears with its first event cannot.
        self._comparisons = {
            result: metrics.counter(COMPARISONS, result=result) for result in Comparisons.__struct_fields__
        }
        executed = [(system, role, status) for system in SYSTEMS for role, status in _EXECUTED]
        self._requests: dict[tuple[str, str, str], Counter] = {
            (system, role, status): metrics.counter(REQUESTS, system=system, role=role, status=status)
            for system, role, status in (*executed, (FLAT, "twin", "ok"), (FLAT, "twin", "error"))
        }

    def add(self, outcome: Outcome) -> None:
        """Count one record; each must be added once."""
        for arm in outcome.arms:
            for status, count in (("ok", arm.ok), ("error", arm.error), ("timeout", arm.timeout)):
                self._count(arm.system, "primary", status, count)
            self._durations.add(arm.system, "primary", arm.latency_us)
        self._count("none", "primary", "rejected", outcome.rejected)
        for system, sketch in outcome.shadow_latency_us.items():
            self._durations.add(system, "shadow", sketch)
        for status, counts in (("ok", outcome.shadow_ok), ("error", outcome.shadow_errors)):
            for system, count in counts.items():
                self._count(system, "shadow", status, count)
        self._count(FLAT, "twin", "ok", outcome.twin_ok)
        self._count(FLAT, "twin", "error", outcome.twin_error)
        self._add_protection(outcome)
        self._left_out.inc(outcome.divergences_left_out)
        for comparisons in outcome.comparisons.values():
            for result, counter in self._comparisons.items():
                counter.inc(getattr(comparisons, result))

    def _add_protection(self, outcome: Outcome) -> None:
        for served, fallbacks in outcome.fallbacks.items():
            self._metrics.counter(FALLBACKS, system=served).inc(fallbacks)
        if outcome.reads_ignored:
            self._metrics.counter(READS_IGNORED).inc(outcome.reads_ignored)
        for cause, refused in outcome.overload.items():
            self._metrics.counter(OVERLOAD, cause=cause).inc(refused)
        for reason, dropped in outcome.shadows_dropped.items():
            self._metrics.counter(SHADOWS_DROPPED, reason=reason).inc(dropped)

    def _count(self, system: str, role: str, status: str, count: int) -> None:
        counter = self._requests.get((system, role, status))
        if counter is None and count:
            counter = self._metrics.counter(REQUESTS, system=system, role=role, status=status)
            self._requests[system, role, status] = counter
        if counter is not None:
            counter.inc(count)
