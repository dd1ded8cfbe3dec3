"""How hard one seeded schedule is: drawn once per seed, in kinds that stress one thing each."""

from collections.abc import Callable
from dataclasses import dataclass, replace

from schemas.base import FLAT, HIERARCHICAL, System
from simulation.chance import Chance

KEYS = (b"a0", b"a1", b"c0")
"""Neuron ids: by the route salt of migration `hal9` in the lower, the upper and the lower half of the buckets."""


@dataclass(frozen=True, slots=True)
class Schedule:
    """One seed's figures. Probabilities are per step of the world."""

    steps: int
    requests: int
    epochs: int
    keys: tuple[bytes, ...]
    bad: float
    """Share of the requests that cannot be accepted."""
    short: float
    """Share of the requests with a deadline that passes while the schedule runs."""
    fault: float
    force: float
    """Probability, per tick of the migrator, that it believes a living system dead."""
    lag: int | None
    """State logs are compacted up to this many records before their end; None: never."""
    jump: float
    """Probability that the clock leaps by seconds."""
    warm_up: int = 0
    """Steps before the migrator is started for the first time: what was written by then is cold."""
    dead: System | None = None
    """A system that never comes back once the drain begins."""
    shadow: bool = False
    pins: bool = False


def _forced(rng: Chance, drawn: Schedule) -> Schedule:
    return replace(drawn, force=0.5, epochs=4, keys=KEYS[:2], steps=300, jump=rng.choice((0, 0.01)))


def _faults(_rng: Chance, drawn: Schedule) -> Schedule:
    return replace(drawn, fault=0.03)


def _compaction(_rng: Chance, drawn: Schedule) -> Schedule:
    return replace(drawn, fault=0.03, lag=20)


def _death(rng: Chance, drawn: Schedule) -> Schedule:
    return replace(drawn, dead=rng.choice((HIERARCHICAL, HIERARCHICAL, FLAT)), force=0.3, pins=False)


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
    )


KINDS: tuple[Callable[[Chance, Schedule], Schedule], ...] = (
    lambda _rng, drawn: drawn,
    _forced,
    _faults,
    _compaction,
    _death,
    _all,
)
"""Plain; forced seals; many faults; compaction while running; one system dead for ever; all at once."""


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
    )
    return KINDS[kind % len(KINDS)](rng, drawn)
