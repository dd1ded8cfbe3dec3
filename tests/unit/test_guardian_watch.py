import pytest
from hypothesis import given
from hypothesis import strategies as st

from hal9.errors import Poison
from hal9.stats.panes import Panes
from schemas.base import HIERARCHICAL, decode, encode
from schemas.telemetry import Arm, Outcome
from services.guardian.watch import Checkpoint, Watch, checkpoint_decoder

NOW = 1_000_000_000


def record(seq: int, second: int, router: str = "router-a") -> bytes:
    arms = [Arm(system=HIERARCHICAL, epoch=1, ok=seq)]
    return encode(Outcome(router=router, seq=seq, at_ms=NOW + second * 1000, arms=arms))


def watch(retain_s: int = 10, next_offset: int = 0) -> Watch:
    return Watch("hal9", Panes(retain_s=retain_s), next_offset, NOW)


def test_a_record_read_before_is_not_merged_again() -> None:
    seen = watch()
    assert seen.feed(0, b"hal9", record(1, 0), NOW) == "merged"
    assert seen.feed(0, b"hal9", record(1, 0), NOW) == "seen"


@given(st.lists(st.integers(min_value=0, max_value=40), min_size=1, max_size=60), st.data())
def test_what_is_replayed_from_a_checkpoint_equals_what_was_there(seconds: list[int], data: st.DataObject) -> None:
    log = [record(seq, second) for seq, second in enumerate(seconds, start=1)]
    first = watch()
    saved = Checkpoint(next_offset=0, replay_from=0)
    taken_at = data.draw(st.integers(min_value=0, max_value=len(log)))
    for offset, value in enumerate(log):
        if offset == taken_at:
            saved = first.checkpoint()
        first.feed(offset, b"hal9", value, NOW)
    again = watch(next_offset=saved.replay_from)
    for offset in range(saved.replay_from, len(log)):
        again.feed(offset, b"hal9", log[offset], NOW)
    assert again.panes.panes() == first.panes.panes()
    assert again.next_offset == first.next_offset


def test_a_checkpoint_points_at_the_oldest_outcome_that_is_still_needed() -> None:
    seen = watch(retain_s=10)
    for second in range(100):
        seen.feed(second, b"hal9", record(second + 1, second), NOW + second * 1000)
    saved = seen.checkpoint()
    assert saved == Checkpoint(next_offset=100, replay_from=90)
    assert decode(checkpoint_decoder, encode(saved)) == saved
    assert len(seen._first_offset) == 10


@pytest.mark.parametrize("value", [None, b"", b"\xc1", b"garbage", encode({"router": "r"}), b"\x91" * 5000])
def test_garbage_is_poison_and_is_passed_over(value: bytes | None) -> None:
    seen = watch()
    with pytest.raises(Poison):
        seen.feed(0, b"hal9", value, NOW)
    assert seen.feed(1, b"hal9", record(1, 0), NOW) == "merged"


def test_an_outcome_from_the_future_is_poison() -> None:
    with pytest.raises(Poison) as caught:
        watch().feed(0, b"hal9", record(1, 3600), NOW)
    assert caught.value.code == "future-outcome"


def test_quiet_is_only_what_was_seen_to_be_quiet() -> None:
    seen = watch()
    seen.feed(0, b"hal9", record(1, 0), NOW)
    assert seen.quiet_ms == 0
    seen.ended(1, NOW + 5000, NOW + 5000)
    assert seen.quiet_ms == 5000
    seen.ended(None, NOW + 60_000, NOW + 60_000)
    assert seen.quiet_ms == 0
    seen.ended(1, NOW + 61_000, NOW + 61_000)
    assert seen.quiet_ms == 1000


def test_an_answer_that_was_long_in_coming_shows_no_silence() -> None:
    seen = watch()
    seen.ended(0, NOW + 5000, NOW + 5500)
    assert seen.quiet_ms == 5500
    seen.ended(0, NOW + 6000, NOW + 26_000)
    assert seen.quiet_ms == 0


def test_records_on_their_way_are_no_silence() -> None:
    seen = watch()
    seen.ended(0, NOW + 4_000, NOW + 4_000)
    seen.ended(3, NOW + 60_000, NOW + 60_000)
    assert seen.quiet_ms == 4_000
    assert seen.stalled_ms(NOW + 60_000) == 56_000


def test_an_outcome_ends_the_quiet_and_garbage_does_not() -> None:
    seen = watch()
    seen.ended(0, NOW + 5000, NOW + 5000)
    with pytest.raises(Poison):
        seen.feed(0, b"hal9", b"garbage", NOW + 6000)
    seen.ended(1, NOW + 7000, NOW + 7000)
    assert seen.quiet_ms == 7000
    seen.feed(1, b"hal9", record(1, 0), NOW + 8000)
    assert seen.quiet_ms == 0


def test_the_outcomes_of_another_migration_are_passed_over() -> None:
    seen = watch()
    assert seen.feed(0, b"another", record(1, 0), NOW) == "foreign"
    assert seen.panes.panes() == []
    assert seen.next_offset == 1


def test_a_log_read_to_its_end_is_not_stalled() -> None:
    seen = watch()
    seen.feed(0, b"hal9", record(1, 0), NOW)
    seen.ended(1, NOW + 90_000, NOW + 90_000)
    assert seen.stalled_ms(NOW + 90_000) == 0
