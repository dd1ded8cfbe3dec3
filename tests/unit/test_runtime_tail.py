"""The tail rule against a log that others write to as well: own records come back once, in order, with all between."""

from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st

from hal9.log.tail import Acked, Tail

OWN, FOREIGN, ACK, LOST, READ = "own", "foreign", "ack", "lost", "read"


@dataclass
class World:
    """A log, a writer with batches on their way, and what it was handed."""

    start: int
    log: list[str] = field(default_factory=list)
    acks: list[tuple[int, int]] = field(default_factory=list)
    given: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.log = ["old"] * (self.start + 3)
        self.tail = Tail(self.start)
        self.append(1)  # the claim

    def append(self, count: int) -> None:
        self.acks.append((len(self.log), count))
        self.log += [OWN] * count

    def ack(self, *, known: bool) -> None:
        if not self.acks:
            return
        offset, count = self.acks.pop(0)
        news = self.tail.acked(offset if known else -1, count)
        if news is Acked.NEXT:
            self.given += range(offset, offset + count)
        if news is Acked.UNKNOWN:
            self.tail.until(len(self.log))

    def read(self, count: int) -> None:
        if not self.tail.reading:
            return
        end = min(len(self.log), self.tail.position + count)
        self.given += range(self.tail.position, end)
        self.tail.read(end)


def steps() -> st.SearchStrategy[list[tuple[str, int]]]:
    kinds = st.sampled_from([OWN, OWN, FOREIGN, ACK, ACK, ACK, LOST, READ, READ])
    return st.lists(st.tuples(kinds, st.integers(1, 4)), max_size=60)


def play(start: int, plan: list[tuple[str, int]]) -> World:
    world = World(start)
    for kind, count in plan:
        if kind == OWN:
            world.append(count)
        elif kind == FOREIGN:
            world.log += [FOREIGN] * count
        elif kind == READ:
            world.read(count)
        else:
            world.ack(known=kind == ACK)
    return world


@given(st.integers(0, 5), steps())
def test_each_record_up_to_the_last_own_one_is_handed_over_once_and_in_order(
    start: int, plan: list[tuple[str, int]]
) -> None:
    world = play(start, plan)
    while world.acks:
        world.ack(known=True)
    for _ in range(len(world.log)):
        world.read(3)
    last_own = max(at for at, kind in enumerate(world.log) if kind == OWN)
    assert world.given == list(range(start, len(world.given) + start))
    assert len(world.given) > last_own - start
    assert not world.tail.reading


@given(st.integers(0, 5), st.lists(st.tuples(st.sampled_from([OWN, ACK]), st.integers(1, 4)), max_size=40))
def test_without_other_writers_the_log_is_read_up_to_the_claim_and_never_again(
    start: int, plan: list[tuple[str, int]]
) -> None:
    world = World(start)
    world.ack(known=True)
    world.read(100)
    for kind, count in plan:
        assert not world.tail.reading
        if kind == OWN:
            world.append(count)
        else:
            world.ack(known=True)


def test_a_tail_is_still_when_nothing_came_since_the_last_look() -> None:
    tail = Tail(0)
    assert not tail.still()
    tail.acked(0, 1)
    tail.read(1)
    assert [tail.still(), tail.still(), tail.still()] == [False, True, True]
    tail.acked(1, 1)
    assert [tail.still(), tail.still()] == [False, True]
    tail.until(5)
    assert not tail.still()
    tail.read(5)
    assert [tail.still(), tail.still()] == [False, True]


@given(st.integers(0, 5), steps())
def test_a_look_at_the_end_finds_what_others_wrote_behind_it(start: int, plan: list[tuple[str, int]]) -> None:
    world = play(start, [*plan, (FOREIGN, 2)])
    while world.acks:
        world.ack(known=True)
    world.tail.until(len(world.log))
    for _ in range(len(world.log)):
        world.read(3)
    assert world.given == list(range(start, len(world.log)))
    assert not world.tail.reading


def test_what_it_does_is_visible() -> None:
    tail = Tail(7)
    assert repr(tail) == "<Tail at 7, reading up to None>"
    assert tail.acked(9, 2) is Acked.GAP
    assert repr(tail) == "<Tail at 7, reading up to 11>"
    tail.read(11)
    assert repr(tail) == "<Tail at 11>"
    assert tail.acked(11, 1) is Acked.NEXT
    assert tail.acked(15, 1) is Acked.GAP
    tail.read(20)
    assert tail.acked(17, 2) is Acked.KNOWN
    assert tail.acked(-1, 1) is Acked.UNKNOWN
    assert tail.reading
