"""The paired test that tells noise from divergence."""

from fractions import Fraction
from math import comb
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hal9.stats.paired import CONFIDENCE, Pairs, judge, upper_bound, upper_tail


def exactly(n: int, k: int, p: Fraction) -> Fraction:
    return sum((comb(n, i) * p**i * (1 - p) ** (n - i) for i in range(max(k, 0), n + 1)), Fraction(0))


@given(st.integers(0, 60), st.integers(-1, 61), st.integers(1, 99))
def test_the_tail_is_that_of_the_binomial_distribution(n: int, k: int, hundredths: int) -> None:
    wanted = float(exactly(n, k, Fraction(hundredths, 100)))
    assert upper_tail(n, k, hundredths / 100) == pytest.approx(wanted, rel=1e-9, abs=1e-15)


@pytest.mark.parametrize(("n", "k"), [(3_000, 1_600), (3_000, 1_400), (3_000, 2_999), (20_000, 10_300)])
def test_the_tail_of_many_pairs_is_exact_too(n: int, k: int) -> None:
    term, total = comb(n, k), 0
    for i in range(k, n + 1):
        total += term
        term = term * (n - i) // (i + 1)
    assert upper_tail(n, k, 0.5) == pytest.approx(float(Fraction(total, 2**n)), rel=1e-8)


@given(st.integers(1, 40), st.data())
def test_the_upper_bound_is_where_so_few_become_improbable(n: int, data: st.DataObject) -> None:
    k = data.draw(st.integers(0, n - 1))
    bound = upper_bound(n, k, CONFIDENCE)
    at_most = 1 - exactly(n, k + 1, Fraction(bound))
    assert float(at_most) == pytest.approx(CONFIDENCE, rel=1e-6)


@given(st.integers(0, 500), st.integers(0, 500), st.integers(0, 500))
def test_what_differs_no_more_often_than_the_twin_is_never_a_divergence(both: int, shadow: int, twin: int) -> None:
    few, many = sorted((shadow, twin))
    assert judge(Pairs(both, few, many, 10_000)).verdict != "divergence"


@given(st.integers(0, 200), st.integers(0, 200), st.integers(0, 200))
def test_one_more_of_the_shadow_alone_never_makes_a_divergence_less_probable(both: int, shadow: int, twin: int) -> None:
    one, more = judge(Pairs(both, shadow, twin, 1_000)), judge(Pairs(both, shadow + 1, twin, 1_000))
    assert more.p_value <= one.p_value + 1e-12
    assert not (one.verdict == "divergence" and more.verdict != "divergence")


@pytest.mark.parametrize(
    ("pairs", "verdict"),
    [
        (Pairs(0, 0, 0, 0), "insufficient"),
        (Pairs(0, 9, 0, 1_000), "insufficient"),  # one in 512
        (Pairs(0, 10, 0, 1_000), "divergence"),  # one in 1,024
        (Pairs(1_000, 0, 0, 1_000), "noise"),  # a clock: it differs always
        (Pairs(5, 2, 2, 1_000), "insufficient"),
        (Pairs(100, 50, 50, 1_000), "noise"),
        (Pairs(0, 200, 0, 1_000), "divergence"),
        (Pairs(1_000, 10, 0, 2_000), "divergence"),
        (Pairs(0, 0, 500, 1_000), "noise"),
    ],
)
def test_pairs_of_one_side_alone_decide(pairs: Pairs, verdict: str) -> None:
    assert judge(pairs).verdict == verdict


def runs(seed: int, requests: int, noise: float, fault: float) -> Pairs:
    """Flat and hierarchical draw a field anew with probability `noise`; hierarchical is wrong with `fault` beside."""
    chance = Random(seed)
    both = shadow = twin = 0
    for _ in range(requests):
        first, second, other = (chance.random() if chance.random() < noise else 0.0 for _ in range(3))
        if chance.random() < fault:
            other = -1.0
        differs, again = other != first, second != first
        both += differs and again
        shadow += differs and not again
        twin += again and not differs
    return Pairs(both, shadow, twin, requests)


def test_a_rare_real_divergence_in_a_noisy_field_is_found() -> None:
    pairs = runs(1, 60_000, noise=0.2, fault=0.015)
    # Noise is in a third of the pairs, and the difference of shares below Diffy's 20 % threshold.
    raw, noisy = pairs.both + pairs.shadow, pairs.both + pairs.twin
    assert (raw - noisy) / (raw + noisy) < 0.2
    assert judge(pairs).verdict == "divergence"


def test_noise_alone_is_called_noise_and_seldom_a_divergence() -> None:
    verdicts = [judge(runs(seed, 2_000, noise=0.2, fault=0.0)).verdict for seed in range(60)]
    assert set(verdicts) == {"noise"}
