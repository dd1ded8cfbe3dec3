"""Seeded schedules over the real cores: none violates a promise, and each rule, taken away, is missed.

Some seeds are always the same, others are drawn afresh on each run, from the clock: nobody has tuned anything to these.
The last part tests the test: a rule is switched off in the product's own code, and the search must find harm. Longer
searches: `python -m simulation --count N`.
"""

import os
import time
from collections import Counter

import pytest

from simulation.kinds import KINDS
from simulation.rules import RULES, without
from simulation.search import CHUNK, Search, fresh, minimal, one, pieces

SEEDS_PER_KIND = 20
FIRST = fresh(time.time())
"""Of the seeds that are drawn afresh."""
FRESH_S = 15.0
"""For how long, in CI. A minute is wanted, once the present kinds are known to alarm far less often."""
ENOUGH = 20_000
"""Seeds within which the search must miss a rule that was taken away: most are missed within ten, the rarest within a
thousand or two."""


@pytest.mark.parametrize("kind", KINDS)
def test_no_schedule_breaks_a_promise(kind: str) -> None:
    for seed in range(SEEDS_PER_KIND):
        violation, _ = one(seed, kind=kind)
        assert violation is None, f"python -m simulation --kind {kind} --seed {seed} --trace: {violation}"


def test_no_schedule_that_nobody_has_seen_breaks_a_promise() -> None:
    jobs, until_s = os.cpu_count() or 1, time.monotonic() + FRESH_S
    first = FIRST
    while time.monotonic() < until_s:
        seeds = range(first, first + 4 * jobs * CHUNK)
        for piece in pieces(Search(), seeds, jobs):
            for seed, violation in piece.violations:
                script = "\n".join(minimal(seed, None, one(seed)[1].script))
                pytest.fail(f"python -m simulation --seed {seed}: {violation}\n{script}")
        first = seeds.stop


def test_a_seed_is_one_schedule() -> None:
    first, second = (one(5, trace=True)[1] for _ in range(2))
    assert first.trace == second.trace


def test_the_schedules_reach_what_they_are_meant_to_reach() -> None:
    worlds = [one(seed)[1] for seed in range(20 * len(KINDS))]
    seen: Counter[str] = Counter()
    for world in worlds:
        seen.update(world.exercised())
    wanted = (
        "voids",
        "forced_seals",
        "repairs",
        "handovers",
        "shadows",
        "twins",
        "compacted",
        "rebalances",
        "moves",
        "flags",
        "aligned_reads",
        "fallback_reads",
        "stale_reads",
        "answers_fallback",
        "moved_back",
        "given_up",
        "topics_made_anew",
        "requests_lost",
    )
    assert all(seen[what] for what in wanted), seen
    assert all(seen[f"answers_{status}"] for status in ("ok", "error", "rejected", "timeout", "repeated")), seen
    assert all(seen[f"restarts_{why}"] for why in ("claimed", "void", "producer", "anew")), seen


@pytest.mark.parametrize("name", [name for name, rule in RULES.items() if not rule.rare])
def test_a_rule_that_is_taken_away_is_missed(name: str) -> None:
    rule = RULES[name]
    with without(name):
        seeds = range(FIRST, FIRST + ENOUGH)
        missed = next((seed for seed in seeds if one(seed, kind=rule.kind)[0] is not None), None)
    assert missed is not None, f"{seeds} of kind {rule.kind} without this rule, and no harm: {rule.says}"
