"""How long a fetch waits: an answer at once when little comes, company when much does, or always when told so."""

from hal9.log.patience import BUSY_RECORDS_S, BUSY_WAIT_MS, IDLE_WAIT_MS, RESPONSE_BYTES, Patience


def test_when_little_comes_the_first_record_ends_a_long_wait() -> None:
    patience = Patience()
    assert patience.terms(1_000.0) == (IDLE_WAIT_MS, 1)
    patience.came(BUSY_RECORDS_S)
    assert patience.terms(1_001.0) == (IDLE_WAIT_MS, 1)
    assert not patience.busy


def test_when_much_comes_it_waits_a_little_for_more_until_less_comes() -> None:
    patience = Patience()
    patience.terms(1_000.0)
    patience.came(BUSY_RECORDS_S + 1)
    assert patience.terms(1_000.05) == (IDLE_WAIT_MS, 1), "too short a time says nothing"
    assert patience.terms(1_001.0) == (BUSY_WAIT_MS, RESPONSE_BYTES)
    assert patience.busy
    assert patience.terms(1_002.0) == (IDLE_WAIT_MS, 1)
    assert not patience.busy


def test_in_slices_much_and_little_wait_alike() -> None:
    patience = Patience(slice_ms=250)
    assert patience.terms(1_000.0) == (250, RESPONSE_BYTES)
    patience.came(100_000)
    assert patience.terms(1_001.0) == (250, RESPONSE_BYTES)
