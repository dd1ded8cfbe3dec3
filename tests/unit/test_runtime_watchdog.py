"""The watchdog: who has work and does nothing is told; who waits for another, rests, or was stopped himself is not."""

import pytest

from hal9.log.watchdog import Pulse, Watchdog


def looked(pulses: list[Pulse], limit_s: float = 5.0, every_s: float = 1.0) -> list[str | None]:
    dog = Watchdog(limit_s)
    return [dog.look({3: pulse}, number * every_s) for number, pulse in enumerate(pulses)]


def test_records_that_wait_while_nothing_moves_end_the_process() -> None:
    found = looked([Pulse(7, 2)] * 7)
    assert found[:5] == [None] * 5
    assert found[5] == "partition 3 is assigned, 7 records wait for it, and nothing has moved for 5 s"


@pytest.mark.parametrize(
    "pulses",
    [
        [Pulse(7, number) for number in range(20)],
        [Pulse(7, number // 4) for number in range(40)],
        [Pulse(0, 2)] * 20,
        [Pulse(7, 2, "the copy of seal 4")] * 20,
    ],
    ids=["it moves", "it moves slowly", "nothing waits", "it waits for another"],
)
def test_all_else_is_let_be(pulses: list[Pulse]) -> None:
    assert set(looked(pulses)) == {None}


def test_a_process_that_was_stopped_is_not_blamed_for_the_time() -> None:
    assert set(looked([Pulse(7, 2)] * 3, every_s=60.0)) == {None}


def test_a_partition_that_was_out_of_sight_begins_anew() -> None:
    dog = Watchdog(5.0)
    seen = [dog.look({} if second % 4 == 0 else {3: Pulse(7, 2)}, second) for second in range(40)]
    assert set(seen) == {None}


def test_it_can_be_switched_off() -> None:
    assert set(looked([Pulse(7, 2)] * 100, limit_s=0.0)) == {None}
