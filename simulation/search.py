"""Searching seeds: one, many, on several processes, with rules taken away."""

import multiprocessing
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeVar

from simulation.director import Action
from simulation.history import Violation
from simulation.rules import without
from simulation.shrinking import shrunk
from simulation.world import World

T = TypeVar("T")
CHUNK = 25
"""Seeds per piece of work of a process."""
_BEGINNING_S = 1_767_225_600
_PER_SECOND = 1_000
"""More seeds than are played in a second: so two searches never have the same ones."""


@dataclass(frozen=True, slots=True)
class Search:
    """How each seed is played. `kind` None: by the seed, in turn; `rules` are those taken away."""

    kind: str | None = None
    rules: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Piece:
    """What some seeds came to: what each broke, and what all of them exercised."""

    seeds: int
    violations: list[tuple[int, str]]
    exercised: Counter[str]


def fresh(now_s: float) -> int:
    """The first seed of a search that begins now: nobody has tuned anything to what follows it."""
    return int(now_s - _BEGINNING_S) * _PER_SECOND


def one(seed: int, *, kind: str | None = None, trace: bool = False) -> tuple[str | None, World]:
    """Play one seed: what it violates (None: nothing), and the world it left."""
    world = World(seed, kind=kind, trace=trace)
    try:
        world.run()
    except Violation as violation:
        return str(violation), world
    return None, world


def minimal(seed: int, kind: str | None, script: list[Action]) -> list[str]:
    """The trace of the shortest script that breaks what the script of this seed breaks."""
    short = shrunk(lambda: World(seed, kind=kind), script)
    world = World(seed, kind=kind, trace=True)
    try:
        world.replay(short)
    except Violation as violation:
        return [*(world.trace or ()), f"{len(short)} actions of {len(script)}: {violation}"]
    return [*(world.trace or ()), "the script alone breaks nothing"]


def _piece(work: tuple[Search, range]) -> Piece:
    search, seeds = work
    piece = Piece(len(seeds), [], Counter())
    with without(*search.rules):
        for seed in seeds:
            violation, world = one(seed, kind=search.kind)
            piece.exercised.update(world.exercised())
            if violation is not None:
                piece.violations.append((seed, violation))
    return piece


def pieces(search: Search, seeds: range, jobs: int = 1) -> Iterator[Piece]:
    """What the seeds came to, in order, in pieces."""
    return spread(_piece, search, seeds, jobs)


def spread(play: Callable[[tuple[Search, range]], T], search: Search, seeds: range, jobs: int) -> Iterator[T]:
    """What `play` makes of the seeds, in order, in pieces; `jobs` processes beside this one unless it is 1."""
    work = [(search, seeds[at : at + CHUNK]) for at in range(0, len(seeds), CHUNK)]
    if jobs == 1:
        yield from map(play, work)
        return
    with multiprocessing.get_context("spawn").Pool(jobs) as pool:
        yield from pool.imap(play, work)
