"""The hand-over searched: as many fresh schedules as asked, on all cores; what they broke, and what they exercised.

The result file keeps the runs that were drawn on the deciding code as it is now, told by its digest: the rate counts
over all of them. A run on other code begins the file anew.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections import Counter
from datetime import UTC, datetime
from typing import Any

from bench import ground
from simulation.deciding import digest
from simulation.kinds import ORDER
from simulation.search import Search, fresh, pieces

COUNT = 100_000
EVERY_S = 60.0
NAME = "simulate"


def main(given: list[str]) -> int:
    """Search, add to the result; 1 if a promise was broken, or if the deciding code changed meanwhile."""
    parser = argparse.ArgumentParser(prog="bench simulate")
    parser.add_argument("--first", type=int, help="first seed; default: drawn from the clock")
    parser.add_argument("--count", type=int, default=COUNT, help="how many seeds")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes")
    chosen = parser.parse_args(given)
    code, commit, when = digest(), _commit(), datetime.now(UTC).isoformat(timespec="seconds")
    first = fresh(time.time()) if chosen.first is None else chosen.first
    print(f"seeds from {first}, on deciding code {code}", file=sys.stderr, flush=True)
    run = _searched(range(first, first + chosen.count), chosen.jobs)
    if digest() != code:
        print("the deciding code changed meanwhile: nothing is written", file=sys.stderr)
        return 1
    runs = [*_earlier(code), {"when": when, "commit": commit, **run}]
    result: dict[str, object] = {
        "deciding": code,
        "seeds": sum(each["seeds"] for each in runs),
        "violations": [violation for each in runs for violation in each["violations"]],
        "kinds": list(ORDER),
        "runs": runs,
    }
    print(ground.write(NAME, result).read_text())
    return min(len(run["violations"]), 1)


def _searched(seeds: range, jobs: int) -> dict[str, Any]:
    began = told = time.monotonic()
    played, violations, exercised = 0, list[tuple[int, str]](), Counter[str]()
    for piece in pieces(Search(), seeds, jobs):
        played += piece.seeds
        violations += piece.violations
        exercised.update(piece.exercised)
        for seed, violation in piece.violations:
            print(f"seed {seed}: {violation}", file=sys.stderr, flush=True)
        if time.monotonic() > told + EVERY_S:
            told = time.monotonic()
            print(f"{played} seeds, {len(violations)} violations", file=sys.stderr, flush=True)
    seconds = time.monotonic() - began
    return {
        "first": seeds.start,
        "seeds": played,
        "jobs": jobs,
        "seconds": round(seconds, 1),
        "seeds_per_s": round(played / seconds, 1),
        "violations": [{"seed": seed, "violation": violation} for seed, violation in violations],
        "exercised": dict(sorted(exercised.items())),
    }


def _earlier(code: str) -> list[dict[str, Any]]:
    """The runs on this very code that the result file has."""
    file = ground.RESULTS / f"{NAME}.json"
    found = json.loads(file.read_text()) if file.exists() else {}
    return list(found["runs"]) if found.get("deciding") == code else []


def _commit() -> str:
    found = subprocess.run(
        ["git", "describe", "--always", "--dirty", "--abbrev=12"],  # noqa: S607  git is on PATH where a bench runs
        cwd=ground.RESULTS,
        capture_output=True,
        text=True,
        check=False,
    )
    return found.stdout.strip() or "unknown"
