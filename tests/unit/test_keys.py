"""Partitions and buckets: fixed arithmetic, alike in every language and for ever."""

from collections import Counter

import pytest
from aiokafka.partitioner import DefaultPartitioner
from hypothesis import given
from hypothesis import strategies as st

from hal9.keys import BUCKETS, bucket_of, is_mark, key_error, murmur2, partition_of

KEYS = st.binary(min_size=1, max_size=300)


@given(KEYS, st.integers(1, 1024))
def test_the_partition_is_the_one_aiokafka_chooses(key: bytes, partitions: int) -> None:
    everywhere = list(range(partitions))
    assert partition_of(key, partitions) == DefaultPartitioner()(key, everywhere, everywhere)


@pytest.mark.parametrize(
    ("key", "signed"),
    [
        # The vectors of Kafka's own UtilsTest.testMurmur2.
        (b"21", -973932308),
        (b"foobar", -790332482),
        (b"a-little-bit-long-string", -985981536),
        (b"a-little-bit-longer-string", -1486304829),
        (b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971),
        (b"abc", 479470107),
    ],
)
def test_murmur2_agrees_with_the_vectors_of_the_java_client(key: bytes, signed: int) -> None:
    assert murmur2(key) == signed & 0xFFFFFFFF


@given(KEYS, st.text(max_size=20))
def test_a_bucket_is_in_range_and_depends_on_nothing_but_salt_and_key(key: bytes, salt: str) -> None:
    bucket = bucket_of(salt, key)
    assert 0 <= bucket < BUCKETS
    assert bucket == bucket_of(salt, bytes(bytearray(key)))


def test_the_bucket_of_known_keys_never_changes() -> None:
    assert [bucket_of("hal9/route", b"digits/0/0/%d" % i) for i in range(4)] == [1694, 1982, 6674, 6048]


def test_the_buckets_of_two_purposes_are_independent() -> None:
    keys = [b"neuron-%d" % i for i in range(20_000)]
    routed = [k for k in keys if bucket_of("hal9/route", k) < 1000]
    shadowed = sum(bucket_of("hal9/shadow", k) < 1000 for k in routed)
    # A tenth of a tenth of 20 000 is 200, with a standard deviation of about 13: six of them either side.
    assert abs(len(routed) - 2000) < 260
    assert abs(shadowed - len(routed) / 10) < 85


def test_the_buckets_are_independent_of_the_partition() -> None:
    keys = [b"neuron-%d" % i for i in range(12_000)]
    per_partition = Counter(partition_of(k, 12) for k in keys if bucket_of("hal9/route", k) < 2500)
    assert len(per_partition) == 12
    assert all(abs(n - 250) < 95 for n in per_partition.values()), per_partition


@pytest.mark.parametrize(
    ("key", "why"),
    [
        (None, "missing or empty"),
        (b"", "missing or empty"),
        (b"x" * 257, "more than 256"),
        (b"\0claim/1", "NUL"),
        (b"\xff\xfe", "UTF-8"),
    ],
)
def test_what_is_no_neuron_id_is_named(key: bytes | None, why: str) -> None:
    assert why in (key_error(key) or "")


@given(st.text(min_size=1, max_size=64).filter(lambda t: t[0] != "\0"))
def test_any_short_text_is_a_neuron_id(text: str) -> None:
    assert key_error(text.encode()) is None


def test_a_mark_is_told_by_its_first_byte() -> None:
    assert is_mark(b"\0seal/1")
    assert not is_mark(b"neuron")
    assert not is_mark(b"")
    assert not is_mark(None)
