"""One incarnation, fed by hand: which cursor is open when, and what reaches the core."""

from collections.abc import Callable, Iterable

import pytest

from hal9.log.batches import Plain
from hal9.log.clock import Clock
from hal9.log.cursor import Cursor
from hal9.log.effects import Headers, Send
from hal9.log.holding import CHUNK, Holding
from hal9.testing.echo import EchoCore
from hal9.topics import Topics
from tests.landing import Landed


class Fetching:
    """Holds the cursors."""

    def __init__(self) -> None:
        self.cursors: dict[str, Cursor] = {}

    def open(self, cursor: Cursor) -> Cursor:
        assert cursor.topic not in self.cursors
        self.cursors[cursor.topic] = cursor
        return cursor

    def drop(self, cursor: Cursor) -> None:
        cursor.closed = True
        self.cursors.pop(cursor.topic, None)

    def land(self, topic: str, offsets: Iterable[int], headers: Headers = ()) -> None:
        cursor = self.cursors[topic]
        records: list[Plain] = [Plain(at, 0, b"k", b"v%d" % at, headers) for at in offsets]
        cursor.landed([Landed(records, records[-1].offset + 1)], records[-1].offset + 1)


class Appender:
    """Keeps what is sent."""

    def __init__(self) -> None:
        self.sends: list[Send] = []

    def add(self, writer: object, sends: Iterable[Send]) -> None:
        assert writer is not None
        self.sends += sends

    def take(self, log: str) -> list[Send]:
        taken = [send for send in self.sends if send.log == log]
        self.sends = [send for send in self.sends if send.log != log]
        return taken


class Keeper:
    """Remembers what is asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, Callable[[int], None]]] = []
        self.restarted: list[str] = []

    def ready(self, holding: Holding) -> None:
        pass

    def ask_end(self, holding: Holding, log: str, then: Callable[[int], None]) -> None:
        assert not holding.dropped
        self.asked.append((log, then))

    def restart(self, holding: Holding, reason: str) -> None:
        holding.drop()
        self.restarted.append(reason)


class Rig:
    """A holding of an echo core whose claim is read back at offset 0."""

    def __init__(self) -> None:
        self.core = EchoCore(3, lambda: "me")
        self.fetching, self.appender, self.keeper = Fetching(), Appender(), Keeper()
        self.holding = Holding(
            self.core,
            topics=Topics(prefix=""),
            clock=Clock(),
            fetching=self.fetching,  # type: ignore[arg-type]
            appender=self.appender,  # type: ignore[arg-type]
            keeper=self.keeper,
            intake=("requests",),
            committed={},
        )

    def serve(self) -> "Rig":
        self.holding.begin(self.holding.start(), None)
        self.store(self.appender.take("dispatched"), 0)
        claim = Plain(0, 0, b"\0claim/me", b"", [])
        self.fetching.cursors["dispatched"].landed([Landed([claim], 1)], 1)
        self.holding.pump()
        assert self.core.serving
        return self

    def store(self, sends: list[Send], offset: int) -> None:
        for number, send in enumerate(sends):
            send.offset = offset if offset < 0 else offset + number
        self.holding.stored(sends[0].log, 3, sends)

    def request(self, *offsets: int) -> list[Send]:
        self.fetching.land("requests", offsets)
        self.holding.pump()
        return self.appender.take("dispatched")

    def answered(self) -> list[bytes | None]:
        return [send.value for send in self.appender.take("responses")]


@pytest.fixture
def rig() -> Rig:
    return Rig().serve()


def test_nothing_leaves_before_it_begins() -> None:
    rig = Rig()
    rig.holding.start()
    assert rig.appender.sends == []
    assert rig.fetching.cursors == {}


def test_the_claimed_log_is_read_until_the_claim_and_then_left_alone(rig: Rig) -> None:
    assert "dispatched" not in rig.fetching.cursors
    assert rig.holding.restored


def test_own_records_come_back_without_a_fetch(rig: Rig) -> None:
    rig.store(rig.request(0, 1), 1)
    assert rig.answered() == [b"v0", b"v1"]
    assert "dispatched" not in rig.fetching.cursors


def test_what_others_wrote_between_is_read_before_the_own_record(rig: Rig) -> None:
    sends = rig.request(0)
    rig.store(sends, 900)
    assert rig.answered() == []
    rig.fetching.land("dispatched", range(1, 900))
    while rig.holding.pump():
        pass
    assert "dispatched" in rig.fetching.cursors
    cursor = rig.fetching.cursors["dispatched"]
    own = [Plain(at, 0, b"k", b"own", sends[0].headers) for at in (900, 901)]
    cursor.landed([Landed([*own], 902)], 902)
    rig.holding.pump()
    assert rig.answered() == [b"own"]
    assert "dispatched" not in rig.fetching.cursors
    # What was read with it is not handed over a second time when its acknowledgement comes.
    rig.store([Send("dispatched", b"k", b"own", sends[0].headers, token=0)], 901)
    rig.store(rig.request(1), 902)
    assert rig.answered() == [b"v1"]
    assert rig.core.faults == []


def test_a_place_that_is_not_known_is_looked_for_in_the_log(rig: Rig) -> None:
    sends = rig.request(0)
    rig.store(sends, -1)
    rig.keeper.asked.pop(0)  # the core's own question
    log, then = rig.keeper.asked.pop()
    assert log == "dispatched"
    rig.fetching.land("dispatched", [1], sends[0].headers)
    rig.holding.pump()
    assert rig.answered() == [b"v1"]
    assert "dispatched" in rig.fetching.cursors
    then(2)
    assert "dispatched" not in rig.fetching.cursors
    assert rig.core.faults == []


def test_a_gap_longer_than_a_chunk_is_handed_over_once(rig: Rig) -> None:
    sends = rig.request(0)
    rig.store(sends, 2 * CHUNK)
    rig.fetching.land("dispatched", range(1, 2 * CHUNK + 1))
    while rig.holding.pump():
        pass
    assert "dispatched" not in rig.fetching.cursors
    rig.store(rig.request(1), 2 * CHUNK + 1)
    assert rig.core.faults == []


def test_while_it_drains_nothing_new_is_taken_in(rig: Rig) -> None:
    rig.holding.draining = True
    assert rig.request(0) == []
    rig.holding.draining = False
    rig.holding.pump()
    assert len(rig.appender.take("dispatched")) == 1


def test_after_a_rebalance_nothing_is_taken_in_before_the_claimed_log_is_read_to_its_end(rig: Rig) -> None:
    rig.keeper.asked.clear()
    rig.holding.hold_back()
    rig.holding.resume()
    ((log, then),) = rig.keeper.asked
    assert log == "dispatched"
    assert rig.request(0) == []
    then(3)
    rig.holding.pump()
    assert rig.appender.take("dispatched") == []
    rig.fetching.land("dispatched", [1, 2])
    rig.holding.pump()  # which says that there is more to do
    rig.holding.pump()
    assert len(rig.appender.take("dispatched")) == 1
    assert rig.core.faults == []


def test_a_foreign_claim_that_was_made_meanwhile_restarts_it(rig: Rig) -> None:
    rig.keeper.asked.clear()
    rig.holding.hold_back()
    rig.holding.resume()
    rig.keeper.asked.pop()[1](2)
    foreign = Plain(1, 0, b"\0claim/other", b"", [])
    rig.fetching.cursors["dispatched"].landed([Landed([foreign], 2)], 2)
    rig.holding.pump()
    assert rig.keeper.restarted == ["somebody else claimed"]


def test_a_second_rebalance_before_the_first_is_over_holds_it_back_still(rig: Rig) -> None:
    rig.keeper.asked.clear()
    rig.holding.hold_back()
    rig.holding.resume()
    rig.holding.hold_back()
    rig.keeper.asked.pop()[1](1)
    assert rig.request(0) == []


def test_a_scan_is_handed_over_to_its_end_even_when_nothing_is_left_of_it(rig: Rig) -> None:
    log, then = rig.keeper.asked.pop()
    assert log == "responses"
    then(30)
    cursor = rig.fetching.cursors["responses"]
    assert (cursor.offset, cursor.end) == (20, 30)
    seen: list[tuple[int, int]] = []
    rig.core.scanned = lambda _log, records, at, _now: seen.append((len(records), at))  # type: ignore[method-assign]
    rig.fetching.land("responses", [20, 21])
    rig.holding.pump()
    cursor.landed([Landed([], 35)], 40)
    rig.holding.pump()
    assert seen == [(2, 22), (0, 30)]
    assert "responses" not in rig.fetching.cursors


def test_after_it_is_dropped_nothing_reaches_the_core(rig: Rig) -> None:
    sends = rig.request(0)
    rig.holding.drop()
    assert rig.fetching.cursors == {}
    rig.store(sends, 1)
    assert rig.answered() == []


def test_a_core_that_asks_for_it_is_restarted_and_fed_no_further(rig: Rig) -> None:
    rig.store(rig.request(0), 3)
    foreign = Plain(1, 0, b"\0claim/other", b"", [])
    rig.fetching.cursors["dispatched"].landed([Landed([foreign, Plain(2, 0, b"k", b"v", [])], 3)], 4)
    assert not rig.holding.pump()
    assert rig.keeper.restarted == ["somebody else claimed"]
    assert rig.fetching.cursors == {}


def test_a_log_is_read_from_its_beginning_when_its_core_finds_out_that_it_is_another_one(rig: Rig) -> None:
    rig.request(0, 1)
    before = rig.fetching.cursors["requests"]
    rig.core.effects.rewind.append("requests")
    rig.holding.tick()
    assert (before.closed, rig.fetching.cursors["requests"].position) == (True, 0)
    assert rig.core.effects.rewind == []
