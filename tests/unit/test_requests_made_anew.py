"""The topic `requests` is deleted and made anew: whose positions are whose, on a quiet stage and in the parts."""

from collections.abc import Mapping

import pytest

from hal9 import wire
from hal9.errors import Transient
from hal9.log.cursor import Cursor
from hal9.log.effects import EARLIEST, Commit
from hal9.log.identified import Identified
from hal9.log.log_ends import TopicMissing
from hal9.log.validity import Validity
from hal9.testing.memory import Stored
from hal9.testing.runtime import MemoryRuntime
from hal9.topics import Topics
from schemas.base import encode
from schemas.state import Claim, Requests
from services.router.core import RouterCore
from services.router.numbering import GAP, Numbering
from simulation.stage import Stage, headers

KEY = b"a0"
OLD, NEW = Requests(topic="old", base=0), Requests(topic="new", base=GAP)


def positions(stage: Stage) -> list[str]:
    return [headers(record)["position"] for record in stage.records("dispatched")]


def router(stage: Stage) -> RouterCore:
    core = next(r for r in reversed(stage.runtimes) if r.name.startswith("router")).core
    assert isinstance(core, RouterCore)
    return core


def made_anew(stage: Stage, *, forgotten: bool = True) -> Stage:
    """As Kafka does it: what was committed of the topic goes with it; not if it was mirrored."""
    stage.logs.make_anew("requests")
    if forgotten:
        stage.groups["router"].committed.pop("requests", None)
    return stage


@pytest.fixture
def stage() -> Stage:
    """Three requests are done: one without an id, `a` and `b`."""
    stage = Stage("router", "flat").run()
    stage.ask(KEY, "mut", b"0")
    stage.ask(KEY, "mut", b"1", name="a")
    stage.ask(KEY, "mut", b"2", name="b")
    stage.run()
    for runtime in stage.runtimes:
        runtime.commit()
    assert positions(stage) == ["0:0", "0:1", "0:2"]
    return stage


@pytest.mark.parametrize("forgotten", [True, False])
@pytest.mark.parametrize("later", [False, True], ids=["the same router", "a later router"])
def test_requests_of_the_new_topic_are_executed_once(stage: Stage, later: bool, forgotten: bool) -> None:
    made_anew(stage, forgotten=forgotten)
    if later:
        stage.start("router")
    stage.ask(KEY, "mut", b"3", name="c")
    stage.ask(KEY, "mut", b"4", name="d")
    stage.run()
    assert [name for name, *said in stage.answers()] == ["hal9.requests-0-0", "a", "b", "c", "d"]
    assert {said for _, said in stage.answers()} == {"ok"}
    assert positions(stage)[3:] == [f"0:{GAP}", f"0:{GAP + 1}"]
    assert router(stage).commits()["requests"] == Commit(2, "requests#1")
    stage.start("router")
    stage.run()
    assert len(stage.records("neurons.changes")) == 5


def test_each_topic_begins_far_behind_the_one_before_it(stage: Stage) -> None:
    for number in (1, 2):
        made_anew(stage).run()
        stage.ask(KEY, "mut", b"x", name=f"of {number}")
        stage.run()
    assert positions(stage)[3:] == [f"0:{GAP}", f"0:{2 * GAP}"]
    assert len(stage.marks("dispatched", wire.REQUESTS)) == 3


def test_an_id_of_a_client_is_one_request_in_both_topics(stage: Stage) -> None:
    made_anew(stage)
    stage.ask(KEY, "mut", b"1", name="a")
    stage.run()
    first, again = (record for record in stage.records("responses") if headers(record)["id"] == "a")
    assert (first.value, headers(first)) == (again.value, headers(again))
    assert len(positions(stage)) == 3


@pytest.mark.parametrize("later", [False, True], ids=["the same router", "a later router"])
def test_a_default_id_that_both_topics_gave_is_two_requests(stage: Stage, later: bool) -> None:
    made_anew(stage).run()
    if later:
        stage.held.add("responses.flat")
    stage.ask(KEY, "mut", b"3")
    stage.run()
    if later:
        stage.held.clear()
        stage.runtimes[0].crash()
        stage.start("router")
        stage.run()
    both = [record for record in stage.records("responses") if headers(record)["id"] == "hal9.requests-0-0"]
    assert [headers(record).get("base") for record in both] == [None, str(GAP)]
    assert both[0].value != both[1].value
    stage.start("router")
    stage.run()
    assert len(stage.answers()) == 4
    assert len(stage.records("neurons.changes")) == 4


def test_a_default_id_goes_along_with_its_topic_when_its_request_is_moved() -> None:
    stage = Stage("router", partitions=3)
    away = next(b"k%d" % n for n in range(99) if router(stage).keys.of(b"k%d" % n).misplaced_to is not None)
    to = router(stage).keys.of(away).misplaced_to
    assert to is not None
    stage.ask(away, "mut", b"x")
    stage.run()
    (first,) = stage.records("requests", to)
    made_anew(stage).run()
    stage.ask(away, "mut", b"y")
    stage.run()
    (second,) = stage.records("requests", to)
    assert headers(first)["id"] == headers(second)["id"] == "hal9.requests-0-0"
    assert (headers(first).get("base"), headers(second).get("base")) == (None, str(GAP))


def test_what_was_dispatched_from_the_old_topic_is_answered(stage: Stage) -> None:
    stage.held.add("responses.flat")
    stage.ask(KEY, "mut", b"3", name="c")
    stage.run()
    made_anew(stage)
    stage.ask(KEY, "mut", b"4", name="d")
    stage.run()
    stage.held.clear()
    stage.run()
    assert stage.answers()[3:] == [("c", "ok"), ("d", "ok")]
    assert router(stage).idle()


def test_a_superseded_router_does_not_take_the_answer_of_a_request_of_the_new_topic() -> None:
    stage = Stage("router", "flat").run()
    zombie = stage.runtimes[0]
    stage.held.add("dispatched")
    for name in ("a", "b"):
        stage.ask(KEY, "mut", name.encode(), name=name)
    stage.run()
    lost = zombie.outgoing.pop(("dispatched", 0))
    stage.held.clear()
    made_anew(stage)
    stage.start("router")
    stage.ask(KEY, "mut", b"c", name="c")
    rest = [runtime for runtime in stage.runtimes if runtime is not zombie]
    stage.run(rest)
    assert len(lost) == 2
    assert stage.answers() == [("c", "ok")]
    zombie.feed("responses.flat", 10, stage.now_ms)
    assert zombie.sending() == []


def test_nothing_of_a_topic_is_read_before_its_base_was_read_back() -> None:
    stage = Stage("router", "flat")
    stage.ask(KEY, "mut", b"x", name="one")
    runtime: MemoryRuntime = stage.runtimes[0]
    runtime.land(("dispatched", 0), stage.now_ms)
    runtime.deliver_ack(("dispatched", 0), stage.now_ms)
    runtime.answer(stage.now_ms)
    core = router(stage)
    assert (core.phase, core.wants("requests")) == ("serve", False)
    assert "requests" not in core.commits()
    runtime.land(("dispatched", 0), stage.now_ms)
    runtime.deliver_ack(("dispatched", 0), stage.now_ms)
    assert core.wants("requests")
    assert core.commits()["requests"] == Commit(0, "requests#0")


@pytest.mark.parametrize(
    ("committed", "mark", "begins"),
    [
        ({}, None, (0, EARLIEST)),  # the first router ever
        ({"requests": Commit(7), "dispatched": Commit(9)}, None, (0, 7)),  # an older version went before
        ({"dispatched": Commit(9)}, None, (GAP, EARLIEST)),  # the same, and the topic was deleted meanwhile
        ({"requests": Commit(7, "new")}, NEW, (GAP, 7)),
        ({"requests": Commit(7, "old")}, NEW, (GAP, EARLIEST)),  # nothing of the new one was committed yet
        ({"requests": Commit(7)}, NEW, (GAP, EARLIEST)),
        ({"requests": Commit(7, "old")}, OLD, (GAP, EARLIEST)),
        ({"requests": Commit(7)}, OLD, (GAP, EARLIEST)),
        ({"requests": Commit(7, "old")}, None, (GAP, EARLIEST)),
        ({}, Requests(topic="older", base=3 * GAP), (4 * GAP, EARLIEST)),
    ],
)
def test_where_a_topic_begins(committed: Mapping[str, Commit], mark: Requests | None, begins: tuple[int, int]) -> None:
    numbering = Numbering()
    numbering.topic = "new"
    numbering.start(committed)
    written = numbering.decide(mark)
    assert (numbering.base, numbering.offset) == begins
    assert written == (None if mark == NEW else Requests(topic="new", base=begins[0]))
    assert numbering.read_back == (written is None)


def test_a_mark_counts_by_its_term_and_is_known_to_a_reader_that_begins_behind_it() -> None:
    validity = Validity()
    claims = [Stored(at, 0, wire.CLAIM + b"%d" % at, encode(Claim(instance="i")), ()) for at in (0, 1)]
    marks = [
        Stored(2 + at, 0, wire.REQUESTS + b"x", encode(mark), [(wire.TERM, b"%d" % term)])
        for at, (mark, term) in enumerate([(OLD, 1), (NEW, 0)])
    ]
    broken = Stored(4, 0, wire.REQUESTS + b"x", b"", [(wire.TERM, b"1")])
    kinds = [validity.feed(record) for record in (*claims, *marks, broken)]
    assert kinds == ["claim", "claim", "requests", "void", "void"]
    later = Validity()
    later.restore(validity.saved(5))
    assert later.requests == validity.requests == OLD


def test_a_cursor_in_doubt_fetches_nothing_and_doubts_but_once() -> None:
    cursor, asked = Cursor("t", 0, 5), list[int]()
    assert not cursor.doubt()  # nobody tells topics of this name apart
    cursor.on_doubt = lambda: asked.append(1)
    assert cursor.doubt()
    assert not cursor.due()
    cursor.believe()
    assert cursor.due()
    assert not cursor.doubt()  # it was looked at just now: what is wrong is something else
    assert cursor.doubt()
    assert len(asked) == 2


class Broker:
    """What it knows of topics."""

    def __init__(self, *ids: str) -> None:
        self.ids = list(ids)

    async def topic_ids(self, names: object) -> dict[str, str]:  # noqa: ARG002  one is enough
        topic_id = self.ids.pop(0)
        return {"requests": topic_id} if topic_id else {}


async def test_a_topic_that_is_gone_is_not_back_because_a_broker_has_not_heard() -> None:
    topics = Identified(Broker("old", "", "new", "old", "new"), Topics(prefix=""), ["requests"])  # type: ignore[arg-type]
    assert await topics.now() == {"requests": "old"}
    with pytest.raises(TopicMissing, match="topic requests is not there"):
        await topics.now()
    assert await topics.now() == {"requests": "new"}
    with pytest.raises(Transient, match="a broker does not know yet"):
        await topics.now()
    assert await topics.now() == {"requests": "new"}


async def test_a_service_that_tells_no_topics_apart_asks_nothing() -> None:
    assert await Identified(Broker(), Topics(prefix=""), []).now() == {}  # type: ignore[arg-type]
