"""The kinds of schedule: each stresses one thing, and `everything` is all at once.

To add one: a function here that draws its figures over those of `draw`, and its name in `KINDS`.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace

from schemas.base import FLAT, HIERARCHICAL
from simulation.cast import SERVICES
from simulation.chance import Chance
from simulation.schedule import KEYS, MIXED, Schedule, keys_of
from simulation.swarm import deep, swarm


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


def _nights(rng: Chance, drawn: Schedule) -> Schedule:
    return replace(
        drawn,
        nights=rng.choice((0.01, 0.02)),
        requests=rng.randint(10, 25),
        epochs=rng.randint(2, 5),
        keys=KEYS[: rng.choice((1, 2))],
        fault=rng.choice((0, 0.012, 0.03)),
        force=rng.choice((0, 0.3)),
        deletions=rng.choice((0, 0.3)),
        redis=rng.hit(0.3),
        reads=rng.hit(0.3),
        bad=0,
        lag=None,
        warm_up=0,
    )


def _rebirth(rng: Chance, drawn: Schedule) -> Schedule:
    return replace(
        _nights(rng, drawn),
        nights=rng.choice((0.02, 0.04)),
        keys=KEYS[: rng.choice((1, 1, 2))],
        fault=0.02,
        deletions=0.5,
        lag=rng.choice((None, 0, 0, 0)),
        layers=rng.hit(0.4),
        small=rng.hit(0.2),
    )


def _death(rng: Chance, drawn: Schedule) -> Schedule:
    return replace(
        drawn, dead=rng.choice((HIERARCHICAL, HIERARCHICAL, FLAT)), force=0.3, pins=False, scopes=False, layers=False
    )


def _one_key(rng: Chance, drawn: Schedule) -> Schedule:
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
        nights=rng.choice((0, 0, 0.005)),
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


def _forgetful(rng: Chance, drawn: Schedule) -> Schedule:
    return replace(
        _layers(rng, drawn),
        keys=KEYS[:1],
        requests=rng.randint(15, 30),
        oblivion=rng.choice((0.05, 0.2)),
        fault=rng.choice((0.02, 0.05)),
        cascade=rng.choice((0, 0.2)),
        victims=rng.choice((SERVICES, ("router",))),
        fates=rng.choice(((35, 45, 10, 10), (1, 0, 0, 0))),
        bad=0,
        short=0,
        lag=None,
    )


def _anew(rng: Chance, drawn: Schedule) -> Schedule:
    partitions = rng.choice((1, 1, 2))
    return replace(
        drawn,
        anew=rng.choice((0.002, 0.006)),
        partitions=partitions,
        keys=drawn.keys if partitions == 1 else keys_of(partitions, 1),
        misplaced=0.2,
        anonymous=rng.choice((0, 0.3)),
        requests=rng.randint(8, 20),
        fault=rng.choice((0, 0.012, 0.03)),
        rebalance=rng.choice((0, 0.012)),
        oblivion=rng.choice((0, 0.02)),
        reads=rng.hit(0.2),
    )


def _everything(rng: Chance, drawn: Schedule) -> Schedule:
    partitions = rng.choice((2, 2, 3))
    keys = keys_of(partitions, 1)
    return replace(
        drawn,
        partitions=partitions,
        members=rng.choice((1, 2)),
        keys=keys[: rng.choice((2, 2, 4, len(keys)))],
        steps=rng.randint(400, 1000),
        requests=rng.randint(12, 30),
        epochs=rng.randint(4, 12),
        bad=rng.choice((0, 0.1)),
        short=rng.choice((0, 0.1)),
        fault=rng.choice((0.004, 0.012, 0.03)),
        force=rng.choice((0, 0.1, 0.5)),
        lag=rng.choice((None, 20)),
        jump=rng.choice((0, 0.005, 0.02)),
        warm_up=rng.choice((0, 100)),
        slow=rng.choice((None, None, FLAT, HIERARCHICAL)),
        shadow=True,
        pins=True,
        scopes=True,
        reads=True,
        layers=True,
        oblivion=rng.choice((0, 0.02)),
        misplaced=0.1,
        odd=rng.choice((0.05, 0.2)),
        anonymous=0.1,
        rebalance=rng.choice((0.004, 0.012)),
        redis=True,
        flaky=0.1,
        amnesia=rng.choice((0, 0.005)),
        remote=True,
        trouble=rng.choice((0, 5)),
        anew=rng.choice((0, 0.002)),
        nights=rng.choice((0, 0.004)),
        deletions=rng.choice((0, 0.2)),
        decisions=MIXED,
    )


KINDS: Mapping[str, Callable[[Chance, Schedule], Schedule]] = {
    "plain": _plain,
    "forced": _forced,
    "faults": _faults,
    "compaction": _compaction,
    "death": _death,
    "one-key": _one_key,
    "rebalance": _rebalance,
    "redis": _redis,
    "scopes": _scopes,
    "elsewhere": _elsewhere,
    "reads": _reads,
    "unmapped": _unmapped,
    "layers": _layers,
    "forgetful": _forgetful,
    "anew": _anew,
    "everything": _everything,
    "nights": _nights,
    "rebirth": _rebirth,
    "swarm": swarm,
    "deep": deep,
}
"""What each kind stresses is its name; `one-key` is hand-overs and faults at their worst on one key."""


ORDER = (*KINDS, "swarm", "swarm", "swarm")
"""Which kinds seeds are of, one after the other: those that draw most have more."""


def kind_of(seed: int) -> str:
    """The kind that a seed is of when none is asked for: each in turn."""
    return ORDER[seed % len(ORDER)]


def draw(rng: Chance, kind: str) -> Schedule:
    """The schedule of one seed. A seed of one kind stays the same when others are added."""
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
    return KINDS[kind](rng, drawn)
