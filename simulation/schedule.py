"""How hard one seeded schedule is: drawn once per seed, in kinds that stress one thing each.

To add a disturbance: a field here (drawn in `draw`, forced in a kind of `KINDS`), an action of `simulation.chance`
that does it, and the method of `Clients` or `Instances` that performs the action.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache

from hal9.control.reducer import ROUTE_SALT, salt
from hal9.keys import BUCKETS, bucket_of, partition_of
from schemas.base import FLAT, HIERARCHICAL, System
from simulation.cast import MIGRATION
from simulation.chance import Chance

KEYS = (b"a0", b"a1", b"c0")
"""Neuron ids: by the route salt of migration `hal9` in the lower, the upper and the lower half of the buckets."""


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
    """State logs are compacted up to this many records before their end; None: never."""
    jump: float
    """Probability that the clock leaps by seconds."""
    warm_up: int = 0
    """Steps before the migrator is started for the first time: what was written by then is cold."""
    slow: System | None = None
    """A system whose records take long to land."""
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


def _plain(_rng: Chance, drawn: Schedule) -> Schedule:
    return drawn


def _forced(rng: Chance, drawn: Schedule) -> Schedule:
    return replace(
        drawn,
        force=0.5,
        epochs=rng.randint(4, 6),
        keys=KEYS[: rng.choice((1, 2))],
        steps=300,
        jump=rng.choice((0, 0.01)),
        slow=rng.choice((None, FLAT, HIERARCHICAL)),
    )


def _faults(_rng: Chance, drawn: Schedule) -> Schedule:
    return replace(drawn, fault=0.03)


def _compaction(_rng: Chance, drawn: Schedule) -> Schedule:
    return replace(drawn, fault=0.03, lag=20)


def _death(rng: Chance, drawn: Schedule) -> Schedule:
    return replace(
        drawn, dead=rng.choice((HIERARCHICAL, HIERARCHICAL, FLAT)), force=0.3, pins=False, scopes=False, layers=False
    )


def _all(rng: Chance, drawn: Schedule) -> Schedule:
    return replace(
        drawn,
        steps=500,
        requests=12,
        epochs=4,
        keys=KEYS[:1],
        bad=0.1,
        short=0.15,
        fault=rng.choice((0.012, 0.03)),
        force=0.5,
        lag=rng.choice((None, 20)),
        pins=rng.hit(0.5),
        scopes=rng.hit(0.5),
        layers=rng.hit(0.5),
        oblivion=rng.choice((0, 0.02)),
        redis=rng.hit(0.3),
        flaky=0.1,
        amnesia=0.005,
    )


def _rebalance(rng: Chance, drawn: Schedule) -> Schedule:
    partitions = rng.choice((2, 2, 3))
    return replace(
        drawn,
        partitions=partitions,
        members=rng.choice((1, 2)),
        keys=keys_of(partitions, rng.choice((1, 2))),
        steps=rng.randint(250, 600),
        rebalance=rng.choice((0.004, 0.012, 0.03)),
        misplaced=rng.choice((0, 0.2)),
        anonymous=0.2,
        fault=rng.choice((0, 0.004, 0.012)),
        lag=rng.choice((None, None, 20)),
        jump=rng.choice((0, 0, 0.005)),
    )


def _redis(rng: Chance, drawn: Schedule) -> Schedule:
    return replace(
        drawn, redis=True, fault=rng.choice((0.004, 0.02)), flaky=rng.choice((0, 0.1)), amnesia=rng.choice((0, 0.005))
    )


def _scopes(rng: Chance, drawn: Schedule) -> Schedule:
    return replace(drawn, scopes=True, epochs=rng.randint(3, 6), warm_up=rng.choice((0, 100)), lag=None)


def _elsewhere(rng: Chance, drawn: Schedule) -> Schedule:
    return replace(
        drawn,
        remote=True,
        trouble=rng.choice((0, 5, 2)),
        fault=rng.choice((0, 0.012, 0.03)),
        lag=rng.choice((None, 20)),
        short=rng.choice((0, 0.1)),
    )


def _reads(rng: Chance, drawn: Schedule) -> Schedule:
    return replace(
        drawn,
        reads=True,
        requests=rng.randint(8, 16),
        epochs=rng.randint(2, 5),
        keys=KEYS[: rng.choice((1, 2))],
        fault=rng.choice((0, 0.004, 0.02)),
        jump=rng.choice((0.005, 0.02)),
        scopes=False,
        remote=rng.hit(0.25),
    )


def _unmapped(rng: Chance, drawn: Schedule) -> Schedule:
    return replace(drawn, odd=rng.choice((0.15, 0.4)), epochs=rng.randint(2, 5), redis=rng.hit(0.3), reads=rng.hit(0.3))


def _layers(rng: Chance, drawn: Schedule) -> Schedule:
    return replace(
        drawn,
        layers=True,
        keys=KEYS[: rng.choice((1, 1, 2, 3))],
        steps=rng.randint(300, 600),
        requests=rng.randint(10, 20),
        epochs=rng.randint(4, 8),
        oblivion=rng.choice((0, 0.02, 0.2)),
        scopes=rng.hit(0.3),
        lag=rng.choice((None, None, 20)),
    )


KINDS: tuple[Callable[[Chance, Schedule], Schedule], ...] = (
    _plain,
    _forced,
    _faults,
    _compaction,
    _death,
    _all,
    _rebalance,
    _redis,
    _scopes,
    _elsewhere,
    _reads,
    _unmapped,
    _layers,
)
"""What each kind stresses is its name; `_all` is all at once on one key."""


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


def draw(rng: Chance, kind: int) -> Schedule:
    """The schedule of one seed."""
    drawn = Schedule(
        steps=rng.randint(150, 500),
        requests=rng.randint(3, 10),
        epochs=rng.randint(1, 4),
        keys=KEYS[: rng.choice((1, 2, 3))],
        bad=rng.choice((0, 0, 0, 0.15)),
        short=rng.choice((0, 0, 0, 0.1)),
        fault=rng.choice((0, 0.004, 0.012, 0.03)),
        force=rng.choice((0, 0.1, 0.5)),
        lag=rng.choice((None, None, None, 20)),
        jump=rng.choice((0, 0, 0.005)),
        warm_up=rng.choice((0, 0, 100)),
        shadow=rng.hit(0.5),
        pins=rng.hit(0.15),
        anonymous=rng.choice((0, 0, 0.2)),
        scopes=rng.hit(0.3),
        layers=rng.hit(0.2),
    )
    return KINDS[kind % len(KINDS)](rng, drawn)
