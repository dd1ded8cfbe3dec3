from math import ceil, inf, isnan, nan

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hal9.stats.sketch import GAMMA, TOP_BUCKET, add, bucket, merge, quantile

durations = st.floats(min_value=1.0, max_value=1e12)


def sketch_of(values: list[float]) -> dict[int, int]:
    made: dict[int, int] = {}
    for value in values:
        add(made, value)
    return made


@given(durations)
def test_a_value_lies_in_the_interval_of_its_bucket(us: float) -> None:
    index = bucket(us)
    # One rounding of the logarithm: a value on the very bound may fall on either side.
    assert GAMMA ** (index - 1) * (1 - 1e-9) <= us <= GAMMA**index * (1 + 1e-9)


@given(st.lists(durations, min_size=1, max_size=200), st.floats(min_value=0.0, max_value=1.0))
def test_a_quantile_is_within_one_per_cent_of_the_value_of_its_rank(values: list[float], q: float) -> None:
    exact = sorted(values)[max(1, ceil(q * len(values))) - 1]
    assert quantile(sketch_of(values), q) == pytest.approx(exact, rel=0.01)


@given(st.lists(durations, max_size=60), st.lists(durations, max_size=60))
def test_merging_equals_counting_everything_in_one_sketch(a: list[float], b: list[float]) -> None:
    merged = sketch_of(a)
    merge(merged, sketch_of(b))
    assert merged == sketch_of(a + b)


@given(st.lists(st.floats(min_value=1.0, max_value=1e9), min_size=2, max_size=50))
def test_a_longer_duration_is_never_in_a_lower_bucket(values: list[float]) -> None:
    indexes = [bucket(us) for us in sorted(values)]
    assert indexes == sorted(indexes)


@pytest.mark.parametrize("us", [0.0, -1.0, -inf, nan, 0.5, 1.0])
def test_what_is_not_above_a_microsecond_counts_as_bucket_0(us: float) -> None:
    assert bucket(us) == 0


@pytest.mark.parametrize("us", [inf, 1e300])
def test_absurd_durations_share_the_top_bucket(us: float) -> None:
    assert bucket(us) == TOP_BUCKET


def test_an_empty_sketch_has_no_quantile() -> None:
    assert isnan(quantile({}, 0.5))


def test_a_foreign_bucket_number_does_not_overflow() -> None:
    assert quantile({10**12: 1}, 0.5) == quantile({TOP_BUCKET: 1}, 0.5)


def test_a_quantile_above_one_is_refused() -> None:
    with pytest.raises(ValueError, match=r"q is 1\.5"):
        quantile({3: 1}, 1.5)
