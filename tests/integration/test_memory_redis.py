"""The simulation's model of the fenced script against a real Valkey: the same calls, the same replies and hashes."""

from collections.abc import Iterator
from random import Random
from typing import Any

import pytest
from redis import Redis

from services.migrator.projection import SCRIPT, applied_key, unit_key, validity_key
from simulation.memory_redis import MemoryRedis

PARTITION = 978
CALLS = 2_000
TOPICS = ("units.replica", "units.changes")


@pytest.fixture
def valkey(redis_url: str) -> Iterator[Any]:
    with Redis.from_url(redis_url) as redis:
        yield redis
        for key in redis.scan_iter(match=f"hal9:{{{PARTITION}}}:*"):
            redis.delete(key)


def call(rng: Random, stored: dict[str, str]) -> tuple[list[str], list[str | bytes | int]]:
    """One call, mostly from where Redis stands; a batch names each key once."""
    topic = rng.choice(TOPICS)
    expected = stored.get(topic, "") if rng.random() < 0.8 else rng.choice(["", "id:1", "id:9", "other:1"])
    names = rng.sample(["a", "b", "ü", "c:d"], rng.randint(0, 4))
    arguments: list[str | bytes | int] = [topic, expected, f"id:{rng.randint(0, 99)}", rng.choice(["", "dmFsaWQ="])]
    for _ in names:
        arguments += [rng.randint(1, 12), rng.choice([b"", b"unit", bytes(range(256))])]
    return [applied_key(PARTITION), validity_key(PARTITION), *(unit_key(PARTITION, name) for name in names)], arguments


def test_the_same_calls_have_the_same_replies_and_leave_the_same_hashes(valkey: Any) -> None:
    rng, memory, stored = Random(1), MemoryRedis(), dict[str, str]()
    script = valkey.register_script(SCRIPT)
    refused = 0
    for _ in range(CALLS):
        keys, arguments = call(rng, stored)
        reply = memory.evaluate(keys, arguments)
        assert script(keys, arguments) == reply
        refused += reply.decode() != arguments[2]
        stored[str(arguments[0])] = reply.decode()
    assert 100 < refused < CALLS - 100
    for key, held in memory.hashes.items():
        assert valkey.hgetall(key) == {name.encode(): value for name, value in held.items()}
    fields = ["version", "unit", "absent"]
    key = unit_key(PARTITION, "a")
    assert memory.hmget(key, fields) == valkey.hmget(key, fields)


def test_what_is_lost_is_the_last_calls_and_nothing_of_the_others() -> None:
    memory, keys = MemoryRedis(), [applied_key(0), validity_key(0), unit_key(0, "a")]
    assert memory.evaluate(keys, ["t", "", "id:1", "", 1, b"one"]) == b"id:1"
    assert memory.evaluate(keys, ["t", "id:1", "id:2", "", 2, b"two"]) == b"id:2"
    assert memory.forget(1) == 1
    assert memory.hmget(keys[2], ["version", "unit"]) == [b"1", b"one"]
    assert (memory.hmget(keys[0], ["t"]), memory.hmget(keys[1], ["t"])) == ([b"id:1"], [b"id:1;"])
    assert memory.forget(5) == 1
    assert memory.hashes == {}
