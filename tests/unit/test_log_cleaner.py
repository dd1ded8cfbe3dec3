"""The model of Kafka's log cleaner, rule by rule; tests/integration holds the same model against a broker."""

from dataclasses import replace

import pytest

from hal9.testing import MemoryLog
from simulation.cleaner import CleanerSettings, LogCleaner, Marker, Transactional

NEVER = 2**63 - 1
SETTINGS = CleanerSettings(
    segment_ms=100,
    segment_records=1000,
    min_compaction_lag_ms=0,
    max_compaction_lag_ms=NEVER,
    min_cleanable_dirty_ratio=0.01,
    delete_retention_ms=50,
)


class Log:
    """A log, its cleaner and a clock: the time of the newest record, which `roll` moves past segment.ms."""

    def __init__(self, settings: CleanerSettings = SETTINGS) -> None:
        self.records = MemoryLog(("neurons.changes", 0))
        self.cleaner = LogCleaner(self.records, settings)
        self.now_ms = 10_000

    def append(self, *keys: str, value: bytes | None = b"v", tag: Transactional | None = None) -> None:
        """One record for each key; "" stands for no key."""
        for key in keys:
            record = self.records.append(key.encode() or None, value, timestamp=self.now_ms)
            self.cleaner.appended(record, tag)

    def roll(self) -> None:
        """A record of a key of its own, late enough to begin a segment."""
        self.now_ms += 101
        self.append(f"roll-{self.records.end}")

    def clean(self, after_ms: int = 0) -> list[int]:
        return self.cleaner.clean(self.now_ms + after_ms)

    @property
    def left(self) -> list[int]:
        return [record.offset for record in self.records]


@pytest.fixture
def log() -> Log:
    return Log()


# ---------------------------------------------------------------------- segments
def test_the_active_segment_is_never_cleaned_however_long_it_lies(log: Log) -> None:
    log.append("a", "a", "a")
    assert log.clean(after_ms=10**9) == []
    log.roll()
    assert log.clean() == [0, 1]


def test_a_record_later_than_the_segments_first_by_more_than_segment_ms_begins_a_segment(log: Log) -> None:
    log.append("a", "a")
    log.now_ms += 100
    log.append("b")
    assert log.clean() == []
    log.now_ms += 1
    log.append("b")
    assert log.clean() == [0]


def test_a_record_that_is_earlier_than_the_segments_first_rolls_nothing(log: Log) -> None:
    log.append("a", "a")
    log.now_ms -= 9_000
    log.append("b")
    assert log.clean(after_ms=10**9) == []


def test_the_time_of_a_segment_counts_from_its_first_record_and_not_from_its_latest(log: Log) -> None:
    log.now_ms += 50
    log.append("a")
    log.now_ms -= 50
    log.append("a")
    log.now_ms += 150
    log.append("b")
    assert log.clean() == []
    log.now_ms += 1
    log.append("b")
    assert log.clean() == [0]


def test_a_full_segment_takes_no_more() -> None:
    log = Log(replace(SETTINGS, segment_records=3))
    log.append("a", "a", "a")
    assert log.clean() == []
    log.append("a")
    assert log.clean() == [0, 1]


def test_a_max_compaction_lag_below_segment_ms_rolls_in_its_place() -> None:
    log = Log(replace(SETTINGS, max_compaction_lag_ms=10))
    log.append("a", "a")
    log.now_ms += 11
    log.append("b")
    assert log.clean() == [0]


def test_records_are_told_of_in_order_and_once(log: Log) -> None:
    record = log.records.append(b"a", b"v")
    log.cleaner.appended(record)
    with pytest.raises(ValueError, match=r"record 0 of .*, not 1"):
        log.cleaner.appended(record)


# ---------------------------------------------------------------------- what is cleanable
def test_a_young_segment_is_held_back_by_the_lag_and_so_is_all_after_it() -> None:
    log = Log(replace(SETTINGS, min_compaction_lag_ms=1_000))
    log.append("a", "a")
    log.roll()
    log.now_ms += 2_000
    log.append("b", "b")
    log.now_ms -= 3_000
    log.append("c", "c")  # older than the lag, but in a segment with a younger record
    log.now_ms += 3_000
    log.roll()
    assert log.clean() == [0]
    assert log.cleaner.first_dirty == 3
    assert log.clean(after_ms=898) == []
    assert log.clean(after_ms=899) == [3, 5]


def test_too_little_dirt_is_left_lying_until_the_ratio_is_exceeded() -> None:
    log = Log(replace(SETTINGS, min_cleanable_dirty_ratio=0.5))
    log.append("a", "b", "c")
    log.roll()
    assert log.clean() == []  # all of it dirty: a pass, in which nothing goes
    assert log.cleaner.first_dirty == 3
    log.append("a", "b")
    log.roll()
    assert log.clean() == []  # three of six: the ratio must be greater
    assert log.cleaner.first_dirty == 3
    log.append("c")
    log.roll()
    assert log.clean() == [0, 1, 2]


def test_dirt_older_than_the_max_compaction_lag_goes_whatever_the_ratio() -> None:
    log = Log(replace(SETTINGS, min_cleanable_dirty_ratio=1.0, max_compaction_lag_ms=5_000))
    log.append("a", "a")
    log.roll()
    assert log.clean(after_ms=4_899) == []
    assert log.clean(after_ms=4_900) == [0]


def test_the_max_compaction_lag_cleans_nothing_that_the_min_compaction_lag_holds_back() -> None:
    settings = replace(SETTINGS, min_cleanable_dirty_ratio=1.0)
    log = Log(replace(settings, min_compaction_lag_ms=5_000, max_compaction_lag_ms=5_000))
    log.append("a")
    log.now_ms += 90
    log.append("a")
    log.roll()
    assert log.cleaner.clean(15_089) == []  # the first record is too old, the second too young
    assert log.cleaner.clean(15_090) == [0]


# ---------------------------------------------------------------------- what stays
def test_the_newest_record_of_a_key_stays_below_the_cleaned_end(log: Log) -> None:
    log.append("a", "b", "a", "\0seal/1/x", "a", "\0seal/1/x")
    log.roll()
    assert log.clean() == [0, 2, 3]
    assert log.left == [1, 4, 5, 6]


def test_a_newer_record_beyond_the_cleaned_end_takes_nothing_away(log: Log) -> None:
    log.append("a")
    log.roll()
    log.append("a")
    assert log.clean() == []
    assert log.cleaner.first_dirty == 1
    log.roll()
    assert log.clean() == [0]


def test_a_record_goes_for_a_later_one_that_itself_is_superseded_in_the_active_segment(log: Log) -> None:
    log.append("a")
    log.roll()
    log.append("a")  # void to a reader, as a writer's that was fenced: the cleaner cannot know
    log.roll()
    log.append("a")
    assert log.clean() == [0]
    assert 2 in log.left


def test_a_record_without_a_key_goes_in_the_first_pass(log: Log) -> None:
    log.append("", "a")
    log.roll()
    assert log.clean() == [0]


def test_a_log_with_nothing_new_to_clean_is_passed_over(log: Log) -> None:
    log.append("a", "a")
    log.roll()
    assert log.clean() == [0]
    log.append("a", "a")
    assert log.clean() == []
    assert repr(log.cleaner) == "<LogCleaner of <MemoryLog neurons.changes[0], end 5>, first dirty 2, not cleaned: 2>"


# ---------------------------------------------------------------------- tombstones
def test_a_tombstone_stays_in_its_first_pass_even_with_no_retention() -> None:
    log = Log(replace(SETTINGS, delete_retention_ms=0))
    log.append("a", value=None)
    for gone in ([], [0]):
        log.roll()
        assert log.clean(after_ms=10**6) == gone


def test_the_retention_counts_from_the_first_pass_and_not_from_the_tombstone(log: Log) -> None:
    log.append("a", value=None)
    log.roll()
    first = log.now_ms = log.now_ms + 1_000
    assert log.clean() == []
    log.roll()
    assert log.cleaner.clean(first + 49) == []
    log.roll()
    assert log.cleaner.clean(first + 50) == [0]


def test_an_expired_tombstone_stays_while_nothing_else_is_to_be_cleaned(log: Log) -> None:
    log.append("a", value=None)
    log.roll()
    log.clean()
    assert log.clean(after_ms=10**9) == []
    log.roll()
    assert log.clean() == [0]


def test_a_tombstone_goes_at_once_for_a_newer_record_of_its_key(log: Log) -> None:
    log.append("a", value=None)
    log.roll()
    log.clean()
    log.append("a")
    log.roll()
    assert log.clean(after_ms=-101) == [0]


# ---------------------------------------------------------------------- transactions
DATA, COMMIT, ABORT = (Transactional(7, ends) for ends in (None, Marker.COMMIT, Marker.ABORT))


def test_aborted_records_go_and_take_nothing_with_them(log: Log) -> None:
    log.append("a", "b")
    log.append("a", "c", tag=DATA)
    log.append("b", tag=ABORT)  # a marker's key is no record's key
    log.roll()
    assert log.clean() == [2, 3]
    assert log.left == [0, 1, 4, 5]


def test_committed_records_count_as_any_others(log: Log) -> None:
    log.append("a")
    log.append("a", tag=DATA)
    log.append("", tag=COMMIT)
    log.roll()
    assert log.clean() == [0]


def test_an_ongoing_transaction_holds_its_segment_back_and_all_after_it(log: Log) -> None:
    log.append("a", "a")
    log.roll()
    log.append("b", "b")
    log.append("c", tag=DATA)
    log.roll()
    log.roll()
    assert log.clean() == [0]
    assert log.cleaner.first_dirty == 2
    log.append("", tag=COMMIT)
    assert log.clean() == [3]


@pytest.mark.parametrize("end", [COMMIT, ABORT])
def test_a_marker_goes_as_a_tombstone_does_once_its_records_have_gone(log: Log, end: Transactional) -> None:
    log.append("a", tag=DATA)
    log.append("", tag=end)
    log.append("a")
    log.roll()
    assert log.clean() == [0]  # the pass met a record of it
    log.roll()
    assert log.clean() == []  # the pass met none: the horizon
    log.roll()
    assert log.clean() == [1]


def test_a_marker_stays_while_a_record_of_its_transaction_is_left(log: Log) -> None:
    log.append("a", tag=DATA)
    log.append("", tag=COMMIT)
    for _ in range(4):
        log.roll()
        assert log.clean(after_ms=10**6) == []
