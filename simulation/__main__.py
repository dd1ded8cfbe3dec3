"""`python -m simulation`: search seeds, or play one; exits 1 if a promise was broken."""

import argparse
import sys
import time

from simulation.kinds import KINDS
from simulation.rules import RULES, without
from simulation.search import Search, fresh, minimal, one, pieces


def _kind(given: str) -> str:
    """A kind by its name, or by its number in the list of them."""
    return dict(enumerate(KINDS)).get(int(given), given) if given.isdecimal() else given


def _arguments(given: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="simulation", description="Seeded schedules of the hand-over, on the real cores."
    )
    parser.add_argument("--first", type=int, help="first seed; default: drawn from the clock, and printed")
    parser.add_argument("--count", type=int, default=600, help="how many seeds")
    parser.add_argument("--kind", type=_kind, choices=KINDS, help="default: each in turn; or its number, from 0")
    parser.add_argument("--seed", type=int, help="play this one alone, and shorten what it breaks")
    parser.add_argument("--trace", action="store_true", help="with --seed: print every step of it as it is")
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    parser.add_argument("--coverage", action="store_true", help="tell which branches and pairs of events were covered")
    parser.add_argument("--without", action="append", default=[], choices=sorted(RULES), help="take a rule away")
    return parser.parse_args(given)


def _play(seed: int, kind: str | None, *, trace: bool) -> int:
    """One seed; what breaks a promise is made as short as it gets, and told."""
    violation, world = one(seed, kind=kind, trace=trace)
    print("\n".join(world.trace or ()))
    if violation is not None and not trace:
        print("\n".join(minimal(seed, kind, world.script)))
    print(f"seed {seed}: {violation or 'no violation'}")
    return int(violation is not None)


def _cover(search: Search, seeds: range, jobs: int) -> int:
    """The seeds, measured; 1 if a promise was broken, or if what was not covered is not accounted for."""
    from simulation.covering import cover, report  # noqa: PLC0415  coverage is there for tests alone

    covered = cover(search, seeds, jobs)
    lines, fine = report(covered, search)
    print("\n".join([*lines, *(f"seed {seed}: {violation}" for seed, violation in covered.violations)]))
    return int(bool(covered.violations) or not fine)


def main(given: list[str]) -> int:
    """Search seeds, or play one; 1 if anything was violated."""
    chosen = _arguments(given)
    if chosen.seed is not None:
        with without(*chosen.without):
            return _play(chosen.seed, chosen.kind, trace=chosen.trace)
    began, violations = time.monotonic(), 0
    first = fresh(time.time()) if chosen.first is None else chosen.first
    seeds = range(first, first + chosen.count)
    search = Search(chosen.kind, tuple(chosen.without))
    print(f"seeds from {first} (again: --first {first} --count {chosen.count})", flush=True)
    if chosen.coverage:
        return _cover(search, seeds, chosen.jobs)
    first_failed: int | None = None
    for piece in pieces(search, seeds, chosen.jobs):
        violations += len(piece.violations)
        for seed, violation in piece.violations:
            first_failed = seed if first_failed is None else first_failed
            print(f"seed {seed}: {violation}", flush=True)
    print(f"{len(seeds)} schedules, {violations} violations, {time.monotonic() - began:.0f} s", flush=True)
    if first_failed is not None and not chosen.without:
        _play(first_failed, chosen.kind, trace=False)
    return min(violations, 1)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
