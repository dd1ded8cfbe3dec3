"""The hand-over searched: as many seeded schedules as asked, on all cores; what they broke, and what they exercised."""

import argparse
import os
import sys
import time
from collections import Counter

from bench import ground
from simulation.search import Search, pieces

COUNT = 100_000
EVERY_S = 60.0


def main(given: list[str]) -> int:
    """Search, write the result; 1 if a promise was broken."""
    parser = argparse.ArgumentParser(prog="bench simulate")
    parser.add_argument("--first", type=int, default=0, help="first seed")
    parser.add_argument("--count", type=int, default=COUNT, help="how many seeds")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes")
    chosen = parser.parse_args(given)
    began = told = time.monotonic()
    seeds, violations, exercised = 0, list[tuple[int, str]](), Counter[str]()
    for piece in pieces(Search(), range(chosen.first, chosen.first + chosen.count), chosen.jobs):
        seeds += piece.seeds
        violations += piece.violations
        exercised.update(piece.exercised)
        for seed, violation in piece.violations:
            print(f"seed {seed}: {violation}", file=sys.stderr, flush=True)
        if time.monotonic() > told + EVERY_S:
            told = time.monotonic()
            print(f"{seeds} seeds, {len(violations)} violations", file=sys.stderr, flush=True)
    seconds = time.monotonic() - began
    result: dict[str, object] = {
        "first": chosen.first,
        "seeds": seeds,
        "jobs": chosen.jobs,
        "seconds": round(seconds, 1),
        "seeds_per_s": round(seeds / seconds, 1),
        "violations": [{"seed": seed, "violation": violation} for seed, violation in violations],
        "exercised": dict(sorted(exercised.items())),
    }
    print(ground.write("simulate", result).read_text())
    return min(len(violations), 1)
