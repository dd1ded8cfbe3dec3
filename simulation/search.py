"""Searching seeds: one, many, on several processes, with rules taken away."""

import multiprocessing
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from simulation.director import Action
from simulation.history import Violation
from simulation.rules import without
from simulation.shrinking import shrunk
from simulation.world import World

CHUNK = 50
"""Seeds per piece of work of a process."""


@dataclass(frozen=True, slots=True)
class Search:
    """How each seed is played. `kind` None: by the seed, in turn; `rules` are those taken away."""

    kind: int | None = None
    rules: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Found:
    """What one seed came to: what it violates, None if nothing."""

    seed: int
    violation: str | None


def one(seed: int, *, kind: int | None = None, trace: bool = False) -> tuple[str | None, World]:
    """Play one seed: what it violates (None: nothing), and the world it left."""
    world = World(seed, kind=kind, trace=trace)
    try:
        world.run()
    except Violation as violation:
        return str(violation), world
    return None, world


def minimal(seed: int, kind: int | None, script: list[Action]) -> list[str]:
    """The trace of the shortest script that breaks what the script of this seed breaks."""
    short = shrunk(lambda: World(seed, kind=kind), script)
    world = World(seed, kind=kind, trace=True)
    try:
        world.replay(short)
    except Violation as violation:
        return [*(world.trace or ()), f"{len(short)} actions of {len(script)}: {violation}"]
    return [*(world.trace or ()), "the script alone breaks nothing"]


def _piece(work: tuple[Search, range]) -> list[Found]:
    search, seeds = work
    with without(*search.rules):
        return [Found(seed, one(seed, kind=search.kind)[0]) for seed in seeds]


def found(search: Search, seeds: range, jobs: int = 1) -> Iterator[Found]:
    """Each seed's result, in order; `jobs` processes beside this one unless it is 1."""
    work: Iterable[tuple[Search, range]] = (
        (search, seeds[at : at + (CHUNK if jobs > 1 else 1)]) for at in range(0, len(seeds), CHUNK if jobs > 1 else 1)
    )
    if jobs == 1:
        for piece in work:
            yield from _piece(piece)
        return
    with multiprocessing.get_context("spawn").Pool(jobs) as pool:
        for results in pool.imap(_piece, work):
            yield from results
