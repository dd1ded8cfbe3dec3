"""Units in Redis: each batch applied once, in order, whatever is repeated, lost or flushed; on a real Valkey."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import msgpack
import pytest
from redis import Redis

from hal9 import wire
from hal9.backend.store import envelope
from hal9.log.effects import Send
from hal9.log.validity import Validity
from schemas.base import HIERARCHICAL, encode
from schemas.state import RouteMark, Seal
from services.migrator.projection import SCRIPT, Projection, applied_key, unit_key, validity_key

TOPIC, TOPIC_ID = "test-projection.units.replica", "id-1"
PARTITION = 977


def record(offset: int, key: str, version: int, state: dict[str, Any] | None, term: int = 0) -> Send:
    """A unit as it lies in a unit log."""
    headers = wire.change_headers(wire.Change(version, offset, 0, HIERARCHICAL, "ok", None), PARTITION, term)
    send = Send("units.replica", key.encode(), envelope(state, b""), headers)
    send.offset = offset
    return send


@dataclass
class Ground:
    """A connection, and one projection on it."""

    redis: Any
    projection: Projection

    def apply(self, *records: Send) -> bool:
        """Apply a batch; whether Redis took it."""
        batch = self.projection.batch(list(records))
        answer: bytes = self.redis.eval(SCRIPT, len(batch.keys), *batch.keys, *batch.arguments)
        if answer.decode() == batch.position:
            self.projection.stored = batch.position
            return True
        return False

    def begin(self) -> int:
        """Start from what Redis has, as a successor does; the offset to read from."""
        stored, validity = (self.redis.hget(key(PARTITION), TOPIC) for key in (applied_key, validity_key))
        self.projection = Projection(PARTITION, TOPIC, TOPIC_ID, Validity)
        return self.projection.start((stored or b"").decode(), (validity or b"").decode())

    def unit(self, key: str) -> tuple[int, object]:
        """(version, unit) as they lie in Redis."""
        version, unit = self.redis.hmget(unit_key(PARTITION, key), "version", "unit")
        return int(version or 0), None if unit is None else decode_tree(unit)


def decode_tree(value: bytes) -> object:
    """Any msgpack tree."""
    return msgpack.unpackb(value)


@pytest.fixture
def ground(redis_url: str) -> Iterator[Ground]:
    with Redis.from_url(redis_url) as redis:
        found = Ground(redis, Projection(PARTITION, TOPIC, TOPIC_ID, Validity))
        assert found.begin() == 0
        yield found
        for key in redis.scan_iter(match=f"hal9:{{{PARTITION}}}:*"):
            redis.delete(key)


def test_a_batch_sets_units_and_the_position(ground: Ground) -> None:
    assert ground.apply(record(0, "a", 1, {"n": 1}), record(1, "b", 1, {"n": 2}), record(2, "a", 2, {"n": 3}))
    assert (ground.unit("a"), ground.unit("b")) == ((2, {"n": 3}), (1, {"n": 2}))
    assert ground.redis.hget(applied_key(PARTITION), TOPIC) == b"id-1:3"


def test_a_deleted_unit_keeps_its_version_and_nothing_else(ground: Ground) -> None:
    assert ground.apply(record(0, "a", 1, {"n": 1}))
    assert ground.apply(record(1, "a", 2, None))
    assert ground.unit("a") == (2, None)
    assert ground.redis.hkeys(unit_key(PARTITION, "a")) == [b"version"]


def test_a_replay_and_a_zombie_change_nothing(ground: Ground) -> None:
    assert ground.apply(record(0, "a", 1, {"n": 1}))
    zombie = Ground(ground.redis, Projection(PARTITION, TOPIC, TOPIC_ID, Validity))
    zombie.projection.start("", "")
    assert zombie.apply(record(0, "a", 9, {"n": "again"})), "a lost reply: the position stands there, so it was done"
    assert ground.unit("a") == (1, {"n": 1})
    assert ground.apply(record(1, "a", 2, {"n": 2}))
    assert not zombie.apply(record(1, "a", 9, {"n": "late"}), record(2, "b", 1, {"n": "late"}))
    assert (ground.unit("a"), ground.unit("b")) == ((2, {"n": 2}), (0, None))


def test_an_older_version_from_the_other_log_is_left_out(ground: Ground) -> None:
    assert ground.apply(record(0, "a", 5, {"n": 5}))
    assert ground.apply(record(1, "a", 4, {"n": 4}))
    assert ground.unit("a") == (5, {"n": 5})


def test_a_successor_goes_on_where_redis_is_and_knows_who_was_void(ground: Ground) -> None:
    claim = Send("units.replica", wire.CLAIM + b"x", encode({"instance": "i"}), [])
    claim.offset = 0
    assert ground.apply(claim, record(1, "a", 1, {"n": 1}, term=0))
    assert ground.begin() == 2
    assert ground.projection.validity.claim == 0
    newer = Send("units.replica", wire.CLAIM + b"y", encode({"instance": "j"}), [])
    newer.offset = 2
    assert ground.apply(newer, record(3, "a", 2, {"n": "zombie"}, term=0))
    assert ground.begin() == 4
    assert ground.apply(record(4, "a", 3, {"n": "zombie"}, term=0), record(5, "b", 1, {"n": 1}, term=2))
    assert (ground.unit("a"), ground.unit("b")) == ((1, {"n": 1}), (1, {"n": 1}))


def test_a_flushed_redis_is_filled_again_from_the_beginning(ground: Ground) -> None:
    assert ground.apply(record(0, "a", 1, {"n": 1}))
    ground.redis.delete(applied_key(PARTITION), unit_key(PARTITION, "a"))
    assert not ground.apply(record(1, "b", 1, {"n": 2}))
    assert ground.begin() == 0
    assert ground.apply(record(0, "a", 1, {"n": 1}), record(1, "b", 1, {"n": 2}))
    assert (ground.unit("a")[0], ground.unit("b")[0]) == (1, 1)


def test_a_position_without_what_must_be_known_there_is_not_gone_on_from(ground: Ground) -> None:
    assert ground.apply(record(0, "a", 1, {"n": 1}))
    before = ground.redis.hget(validity_key(PARTITION), TOPIC)
    assert ground.apply(record(1, "a", 2, {"n": 2}))
    ground.redis.hset(validity_key(PARTITION), TOPIC, before)
    assert ground.begin() == 0
    ground.redis.delete(validity_key(PARTITION))
    assert ground.begin() == 0


def test_a_topic_that_was_made_again_is_read_from_its_beginning(ground: Ground) -> None:
    assert ground.apply(record(0, "a", 1, {"n": 1}), record(1, "a", 2, {"n": 2}))
    other = Projection(PARTITION, TOPIC, "id-2", Validity)
    stored, validity = (ground.redis.hget(key(PARTITION), TOPIC) for key in (applied_key, validity_key))
    assert other.start(stored.decode(), validity.decode()) == 0
    ground.projection = other
    assert ground.apply(record(0, "a", 3, {"n": 3}))
    assert ground.unit("a") == (3, {"n": 3})


def test_seals_and_garbage_are_no_units(ground: Ground) -> None:
    seal = Send(
        "units.replica", wire.SEAL + b"1/x", encode(Seal(route=RouteMark(epoch=1, bound=100))), [(wire.TERM, b"0")]
    )
    seal.offset = 0
    garbage = record(1, "a", 1, {"n": 1})
    garbage.value = b"\xc1"
    assert ground.apply(seal, garbage, record(2, "b", 1, {"n": 1}))
    assert ground.unit("a") == (0, None)
    assert ground.projection.unreadable == 1
    assert ground.begin() == 3
