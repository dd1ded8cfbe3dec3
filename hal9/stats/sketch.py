"""Latency sketch: counts in buckets of equal ratio, mergeable in any order, quantiles within 1 %.

Bucket i counts values in (1.02**(i-1), 1.02**i] microseconds, bucket 0 everything up to 1 us. A sketch is a
plain dict, as it travels in `schemas.telemetry.Outcome`; adding up two of them loses nothing.
"""

from collections.abc import Mapping
from functools import lru_cache
from math import ceil, inf, log, nan

from schemas.telemetry import Sketch

GAMMA = 1.02
TOP_BUCKET = 1500
"""Everything above 1.02**1499 us (some 90 days) counts here, infinity too: so a sketch stays small."""

_BUCKETS_PER_E = 1.0 / log(GAMMA)
_MIDDLE = 2.0 / (1.0 + GAMMA)


@lru_cache(maxsize=1024)
def bucket(us: float) -> int:
    """The bucket of a duration in microseconds; negative ones and NaN count as 0.

    What is answered in one chunk was mostly asked in one, and took as long: so it is kept.
    """
    if us > 1.0:
        return min(ceil(log(us) * _BUCKETS_PER_E), TOP_BUCKET) if us < inf else TOP_BUCKET
    return 0


def add(into: Sketch, us: float) -> None:
    """Count one duration in microseconds."""
    index = bucket(us)
    into[index] = into.get(index, 0) + 1


def merge(into: Sketch, other: Mapping[int, int]) -> None:
    """Add the counts of `other` to `into`."""
    for index, count in other.items():
        into[index] = into.get(index, 0) + count


def quantile(sketch: Mapping[int, int], q: float) -> float:
    """The q-quantile in microseconds, within 1 % of an observed value; NaN if the sketch is empty.

    It is the value of rank ceil(q * n): q = 0 is the smallest one, q = 1 the greatest.
    """
    total = sum(sketch.values())
    if total == 0:
        return nan
    rank = max(1, ceil(q * total))
    for index in sorted(sketch):
        rank -= sketch[index]
        if rank <= 0:
            return float(GAMMA ** min(index, TOP_BUCKET)) * _MIDDLE
    raise ValueError(f"q is {q}, not in 0..1")
