"""Is a field that differs between two systems noise, or a divergence? From pairs of runs of one request. Pure.

Flat ran each request twice; hierarchical ran it once. If hierarchical is like flat, it differs from flat's first run as
often as flat's second run does. Pairs in which only one of them differs decide (McNemar's exact test, one-sided): among
them the shadow's are then at most half. Counts are never subtracted from each other: a rare real difference in a noisy
field adds pairs of one side alone, and those tell (Diffy's difference of shares hides it).
"""

from dataclasses import dataclass
from math import exp, lgamma, log, log1p
from typing import Literal

from hal9.stats.chance import FALSE_ALARM

Verdict = Literal["noise", "divergence", "insufficient"]

TWINS_DIFFERED = 20
"""Twins that must have differed before a field is called noise: otherwise it is not known that flat differs at all."""
EXCESS = 0.5
"""Noise: even at the upper confidence bound the shadow differs at most by so much more often than the twin."""
CONFIDENCE = 0.05
_NONE_SEEN = 3.0
"""Upper bound of a count of which none was seen (the rule of three, at `CONFIDENCE`)."""


@dataclass(frozen=True, slots=True)
class Pairs:
    """Pairs of (shadow, twin) of one request and field: both differed from flat's first run, one alone, of how many."""

    both: int = 0
    shadow: int = 0
    twin: int = 0
    total: int = 0


@dataclass(frozen=True, slots=True)
class Finding:
    """What the pairs say. `p_value`: how probable so many of the shadow alone are if the systems are alike."""

    verdict: Verdict
    p_value: float
    pairs: Pairs


def judge(pairs: Pairs, false_alarm: float = FALSE_ALARM) -> Finding:
    """Noise, divergence, or too little to say."""
    apart = pairs.shadow + pairs.twin
    p_value = upper_tail(apart, pairs.shadow, 0.5)
    if p_value <= false_alarm:
        return Finding("divergence", p_value, pairs)
    twins = pairs.both + pairs.twin
    if twins >= TWINS_DIFFERED and _excess(apart, pairs.shadow) <= EXCESS * twins:
        return Finding("noise", p_value, pairs)
    return Finding("insufficient", p_value, pairs)


def _excess(apart: int, shadow: int) -> float:
    """By how many pairs the shadow differs more than the twin, at the upper bound of its share."""
    return apart * (2.0 * upper_bound(apart, shadow, CONFIDENCE) - 1.0) if apart else _NONE_SEEN


def upper_bound(n: int, k: int, confidence: float) -> float:
    """The probability at which `k` or fewer of `n` are as improbable as `confidence` (Clopper-Pearson)."""
    if k >= n:
        return 1.0
    low, high = 0.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2.0
        if 1.0 - upper_tail(n, k + 1, middle) > confidence:
            low = middle
        else:
            high = middle
    return high


def upper_tail(n: int, k: int, p: float) -> float:
    """The probability of `k` or more of `n`, each with probability 0 < p < 1. Exact but for rounding."""
    if k <= 0:
        return 1.0
    if k > n or p <= 0.0:
        return 0.0
    if p >= 1.0:
        return 1.0
    if k > n * p:
        return min(1.0, _sum(n, k, p))
    # The nearer tail is the other one: what is nearly 1 comes out as 1 less a sum of small terms.
    return max(0.0, 1.0 - _sum(n, n - k + 1, 1.0 - p))


def _sum(n: int, k: int, p: float) -> float:
    """Of the terms k..n, which fall from the first on (k lies above the mean)."""
    term = exp(lgamma(n + 1) - lgamma(k + 1) - lgamma(n - k + 1) + k * log(p) + (n - k) * log1p(-p))
    total, odds = 0.0, p / (1.0 - p)
    while k <= n:
        total += term
        if term <= total * 1e-17:
            break
        term *= odds * (n - k) / (k + 1)
        k += 1
    return total
