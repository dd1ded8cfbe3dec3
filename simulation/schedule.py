"""How hard one seeded schedule is: drawn once per seed (`simulation.kinds`).

To add a disturbance: a field here (drawn in `kinds.draw`, forced in a kind), an action of `simulation.director`
that does it, and the method of `Clients` or `Instances` that performs the action.
"""

from dataclasses import dataclass
from functools import cache
from typing import Literal

from hal9.control.reducer import ROUTE_SALT, salt
from hal9.keys import BUCKETS, bucket_of, partition_of
from schemas.base import System
from simulation.cast import MIGRATION, SERVICES

KEYS = (b"a0", b"a1", b"c0")
"""Neuron ids: by the route salt of migration `hal9` in the lower, the upper and the lower half of the buckets."""

Decision = Literal["route", "pin", "scope", "layer", "reads"]
MIXED: tuple[Decision, ...] = ("route", "route", "route", "layer", "layer", "scope", "scope", "reads", "pin")


@dataclass(frozen=True, slots=True)
class Schedule:
    """One seed's figures. Probabilities are per step of the world, shares are of the requests."""

    steps: int
    requests: int
    epochs: int
    keys: tuple[bytes, ...]
    bad: float
    """Share that cannot be accepted."""
    short: float
    """Share with a deadline that passes while the schedule runs."""
    fault: float
    force: float
    """Probability, per tick of the migrator, that it believes a living system dead."""
    lag: int | None
    """State logs are compacted cruelly, up to this many records before their end; None: never."""
    jump: float
    """Probability that the clock leaps by seconds."""
    warm_up: int = 0
    """Steps before the migrator is started for the first time: what was written by then is cold."""
    fates: tuple[int, int, int, int] = (35, 45, 10, 10)
    """Weights of what befalls an instance: a crash, a life as a zombie, a lost producer, a clean stop."""
    victims: tuple[str, ...] = SERVICES
    """Whom it befalls, one of these each time."""
    cascade: float = 0.0
    """Probability that the next thing befalls the same service, per step of the `director.ALARM` steps after one."""
    nights: float = 0.0
    """Probability that time leaps by minutes: Kafka compacts, deletions are forgotten."""
    slow: str | None = None
    """A service whose records take long to land."""
    dead: System | None = None
    """A system that never comes back once the drain begins."""
    shadow: bool = False
    pins: bool = False
    scopes: bool = False
    """Keys and prefixes are pinned to either system and let go, and the global switch is used."""
    reads: bool = False
    """`read` is known to be read-only: it falls back, and is served by operation; breakers open and close."""
    layers: bool = False
    """States name cognitive layers, and these are held at flat and let go."""
    oblivion: float = 0.0
    """Probability that a router forgets the layers that it knows."""
    partitions: int = 1
    members: int = 1
    """Instances of each service among which the partitions are shared out at first."""
    misplaced: float = 0.0
    """Share that is produced to another partition than its key's."""
    deletions: float = 0.0
    """Share that deletes, beside those drawn otherwise."""
    odd: float = 0.0
    """Share that makes a state which cannot be mapped to the other system's."""
    anonymous: float = 0.0
    """Share without an `id`."""
    rebalance: float = 0.0
    """Probability that a partition moves from one living instance to another."""
    redis: bool = False
    """Units are projected into Redis, by one instance or two."""
    flaky: float = 0.0
    """Share of the calls of Redis whose reply is lost, whether or not they were carried out."""
    amnesia: float = 0.0
    """Probability that Redis loses what it was told last."""
    remote: bool = False
    """The handlers of both systems are somewhere else."""
    trouble: int = 0
    """Every so many calls of them fail; 0: none."""
    small: bool = False
    """Every limit is so small that it is met: slices, queues, kept answers, what rides with a commit."""
    anew: float = 0.0
    """Probability that the topic `requests` is deleted and made anew."""
    decisions: tuple[Decision, ...] = ()
    """What people decide, one of these each time; none: by what the fields above say."""


@cache
def keys_of(partitions: int, pairs: int) -> tuple[bytes, ...]:
    """Keys of each partition: per pair, one in the lower and one in the upper half of the buckets."""
    found: dict[tuple[int, bool], list[bytes]] = {(p, low): [] for p in range(partitions) for low in (True, False)}
    number = 0
    while any(len(held) < pairs for held in found.values()):
        key = b"k%d" % number
        low = bucket_of(salt(MIGRATION, ROUTE_SALT), key) < BUCKETS // 2
        held = found[partition_of(key, partitions), low]
        if len(held) < pairs:
            held.append(key)
        number += 1
    return tuple(key for held in found.values() for key in held)
