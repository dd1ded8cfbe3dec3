"""The packed fetch request, byte for byte what aiokafka's schema makes of the same question and answer."""

from io import BytesIO

import pytest
from aiokafka.errors import IncompatibleBrokerVersion
from aiokafka.protocol.fetch import FetchRequest as Schemas
from aiokafka.protocol.fetch import FetchRequest_v11, FetchResponse_v11
from hypothesis import given
from hypothesis import strategies as st

from hal9.log.fetch_request import FetchRequest

int32, int64 = st.integers(0, 2**31 - 1), st.integers(-1, 2**63 - 1)
names = st.text("abc.-_é", min_size=1, max_size=20)
offsets = st.dictionaries(names, st.lists(st.tuples(int32, int64), min_size=1, max_size=4), max_size=4)
aborted = st.none() | st.lists(st.tuples(int64, int64), max_size=2)
state = st.tuples(int32, st.integers(-1, 90), int64, int64, int64, aborted, int32, st.none() | st.binary(max_size=30))
answers = st.lists(st.tuples(names, st.lists(state, max_size=3)), max_size=3)


@given(int32, int32, int32, offsets)
def test_the_question_is_the_same(
    wait_ms: int, least: int, most: int, wanted: dict[str, list[tuple[int, int]]]
) -> None:
    topics = [(name, [(number, offset, most) for number, offset in places]) for name, places in wanted.items()]
    theirs = Schemas(wait_ms, least, most, 0, topics).build(FetchRequest_v11)
    assert FetchRequest(wait_ms, least, most, wanted).encode() == theirs.encode()


@given(answers)
def test_the_answer_is_the_same(topics: list[tuple[str, list[tuple[object, ...]]]]) -> None:
    stream = BytesIO(b"head" + FetchResponse_v11(0, 0, 0, topics).encode())
    stream.read(4)
    found = FetchRequest.RESPONSE_TYPE.decode(stream)
    assert [(f.topic, f.partition, f.code, f.highwater, bytes(f.data)) for f in found] == [
        (name, number, code, high, data or b"") for name, states in topics for number, code, high, *_, data in states
    ]


def test_a_request_refused_as_a_whole_is_not_an_empty_answer() -> None:
    found = FetchRequest.RESPONSE_TYPE.decode(BytesIO(FetchResponse_v11(0, 29, 0, []).encode()))
    assert [f.code for f in found] == [29]


def test_a_broker_too_old_or_too_new_is_named() -> None:
    request = FetchRequest(1, 1, 1, {})
    assert request.prepare({1: (4, 17)}) is request
    with pytest.raises(IncompatibleBrokerVersion, match="version 0 to 10"):
        request.prepare({1: (0, 10)})
