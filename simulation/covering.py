"""What a run of seeded schedules covers: the branches of the deciding code, and the pairs of events.

Measured are the modules of the product that decide, as far as the simulation imports them: no list of them is kept.
"""

import json
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from coverage import Coverage, CoverageData

from simulation import branches, pairs
from simulation.branches import Function, Module
from simulation.deciding import sources
from simulation.pairs import Pair
from simulation.rules import without
from simulation.search import Search, one, spread
from simulation.unreached import UNREACHED

ROOT = Path(__file__).resolve().parent.parent
ENOUGH = 10_000
"""Schedules of all kinds after which a branch without a reason counts against the run: some are one in thousands."""


@dataclass(slots=True)
class Covered:
    """What some schedules covered, and what they broke."""

    seeds: int = 0
    violations: list[tuple[int, str]] = field(default_factory=list)
    ways: dict[str, set[tuple[int, int]]] = field(default_factory=dict)
    """By file, the jumps from line to line."""
    pairs: Counter[Pair] = field(default_factory=Counter)
    """In how many schedules."""
    torn: bool = False
    """The code changed meanwhile: lines are mixed up."""

    def add(self, other: "Covered") -> None:
        """Take in what other schedules covered."""
        self.seeds += other.seeds
        self.violations += other.violations
        self.pairs.update(other.pairs)
        for file, ways in other.ways.items():
            self.ways.setdefault(file, set()).update(ways)


def _measure() -> Coverage:
    return Coverage(branch=True, data_file=None, config_file=False, include=list(sources()), messages=False)


def _covered(work: tuple[Search, range]) -> Covered:
    search, seeds = work
    covered, measure = Covered(len(seeds)), _measure()
    with without(*search.rules), measure.collect():
        for seed in seeds:
            violation, world = one(seed, kind=search.kind)
            covered.pairs.update(pairs.pairs(world.script, world.plan.partitions))
            if violation is not None:
                covered.violations.append((seed, violation))
    data = measure.get_data()
    covered.ways = {file: set(data.arcs(file) or ()) for file in data.measured_files()}
    return covered


def cover(search: Search, seeds: range, jobs: int = 1) -> Covered:
    """Play the seeds, `jobs` processes beside this one unless it is 1, and measure."""
    covered, sources = Covered(), _sources()
    for piece in spread(_covered, search, seeds, jobs):
        covered.add(piece)
    covered.violations.sort()
    covered.torn = _sources() != sources
    return covered


def _sources() -> list[bytes]:
    return [Path(file).read_bytes() for file in sources()]


def modules(covered: Covered) -> Iterator[Module]:
    """Every module that is measured, with the branches of its functions."""
    names, measure = sources(), _measure()
    data = CoverageData(no_disk=True)
    data.add_arcs({file: covered.ways.get(file, set()) for file in names})
    measure.get_data().update(data)
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        measure.json_report(list(names), outfile=str(report))
        measured = json.loads(report.read_bytes())["files"]
    for at, found in measured.items():
        file = Path(at).absolute()
        functions = [
            Function(
                bool(of["executed_lines"]),
                min([*of["executed_lines"], *of["missing_lines"]], default=0),
                of["executed_branches"],
                of["missing_branches"],
            )
            for name, of in found["functions"].items()
            if name  # what is outside of functions ran when it was imported
        ]
        path = str(file.relative_to(ROOT)) if file.is_relative_to(ROOT) else str(file)
        yield Module(names[str(file)], path, file.read_text(), functions)


def report(covered: Covered, search: Search) -> tuple[list[str], bool]:
    """What was covered, in lines, and whether all of it is as it should be.

    A run that is short, or of one kind, may miss what others take: it fails by a reason that holds no more, alone.
    """
    found = list(modules(covered))
    verdict = branches.judged(found, UNREACHED)
    lines = [*branches.told(found, verdict), "", *pairs.told(covered.pairs), ""]
    lines.append(
        f"{covered.seeds} schedules: {len(verdict.unexplained)} branches not taken without a reason, "
        f"{len(verdict.stale)} reasons that hold no more"
    )
    if covered.torn:
        lines.append("the code changed while it was measured: measure again")
    whole = covered.seeds >= ENOUGH and search.kind is None and not search.rules
    if not whole:
        lines.append(f"too few to judge by, or not of all kinds: {ENOUGH} are needed")
    return lines, not covered.torn and not verdict.stale and not (whole and verdict.unexplained)
