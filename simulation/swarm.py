"""Schedules that draw which disturbances and features they have, and how often: swarm testing, and deep ones.

A schedule with all disturbances at once reaches less than many with some of them each: one hides what the other would
show (Groce et al., "Swarm Testing", ISSTA 2012).
"""

from dataclasses import replace
from typing import Any, TypeVar

from simulation.cast import SERVICES
from simulation.chance import Chance
from simulation.schedule import MIXED, Decision, Schedule, keys_of

T = TypeVar("T")


class Draw:
    """What one schedule has: each thing with a probability of its own."""

    def __init__(self, rng: Chance) -> None:
        self._rng, self._share = rng, rng.choice((0.3, 0.5, 0.7))

    def some(self, absent: T, *present: T) -> T:
        """One of `present`, or `absent`."""
        return self._rng.choice(present) if self._rng.hit(self._share) else absent

    def has(self) -> bool:
        """Whether it has a feature."""
        return self._rng.hit(self._share)


def swarm(rng: Chance, drawn: Schedule) -> Schedule:
    """Some of everything."""
    draw = Draw(rng)
    partitions, pairs = rng.choice((1, 1, 2, 3)), rng.choice((1, 1, 2))
    keys = keys_of(partitions, pairs)
    decisions: list[Decision] = [each for each in dict.fromkeys(MIXED) if draw.has()]
    return replace(
        drawn,
        steps=rng.randint(200, 900),
        requests=rng.randint(6, 30),
        epochs=rng.randint(1, 10),
        partitions=partitions,
        members=rng.choice((1, 2)),
        keys=keys[: rng.randint(1, len(keys))],
        decisions=(*decisions, "route"),
        **_features(draw),
        **_faults(rng, draw),
    )


def _features(draw: Draw) -> dict[str, Any]:
    layers = draw.has()
    return {
        "shadow": draw.has(),
        "pins": draw.has(),
        "scopes": draw.has(),
        "reads": draw.has(),
        "layers": layers,
        "oblivion": draw.some(0, 0.01, 0.05, 0.2) if layers else 0,
        "redis": draw.has(),
        "remote": draw.has(),
        "small": draw.has(),
        "trouble": draw.some(0, 2, 5),
        "odd": draw.some(0, 0.05, 0.3),
        "anonymous": draw.some(0, 0.2),
        "misplaced": draw.some(0, 0.1, 0.3),
        "deletions": draw.some(0, 0.1, 0.4),
        "bad": draw.some(0, 0.1),
        "short": draw.some(0, 0.1, 0.3),
    }


def _faults(rng: Chance, draw: Draw) -> dict[str, Any]:
    return {
        "fault": draw.some(0.004, 0.012, 0.03, 0.06),
        "fates": (*(rng.choice((0, 1, 4)) for _ in range(3)), 1),
        "victims": draw.some(SERVICES, *((service,) for service in SERVICES)),
        "cascade": draw.some(0, 0.1, 0.3),
        "rebalance": draw.some(0, 0.004, 0.012, 0.03),
        "force": draw.some(0, 0.1, 0.5),
        "lag": draw.some(None, 0, 5, 20),
        "nights": draw.some(0, 0.004, 0.015),
        "jump": draw.some(0, 0.005, 0.02),
        "warm_up": draw.some(0, 100),
        "slow": draw.some(None, *SERVICES),
        "flaky": draw.some(0, 0.1, 0.3),
        "amnesia": draw.some(0, 0.005, 0.02),
        "anew": draw.some(0, 0.002, 0.006) if rng.hit(0.3) else 0,
    }


def deep(rng: Chance, drawn: Schedule) -> Schedule:
    """The same for longer: more epochs, more partitions, and one successor after the other."""
    partitions = rng.choice((1, 1, 2, 4))
    keys = keys_of(partitions, 1)
    return replace(
        swarm(rng, drawn),
        steps=rng.randint(600, 1200),
        requests=rng.randint(20, 40),
        epochs=rng.randint(6, 16),
        partitions=partitions,
        members=rng.choice((1, 2, 3)),
        keys=keys[: rng.randint(1, len(keys))],
        fault=rng.choice((0.012, 0.03, 0.06)),
        cascade=rng.choice((0.1, 0.3)),
    )
