"""Seeded schedules over the real cores: none violates a promise, and each rule, taken away, is missed.

The second half tests the test: a rule is switched off in the product's own code, and the search must find harm. Longer
searches: `python -m simulation --first N --count M`.
"""

import pytest

from hal9 import wire
from simulation.rules import RULES, without
from simulation.schedule import KINDS
from simulation.search import one

SEEDS_PER_KIND = 60
ENOUGH = 1_500
"""Seeds within which the search must miss a rule that was taken away."""


@pytest.mark.parametrize("kind", range(len(KINDS)))
def test_no_schedule_breaks_a_promise(kind: int) -> None:
    for seed in range(SEEDS_PER_KIND):
        violation, _ = one(seed, kind=kind)
        assert violation is None, f"python -m simulation --kind {kind} --seed {seed} --trace: {violation}"


def test_a_seed_is_one_schedule() -> None:
    first, second = (one(5, trace=True)[1] for _ in range(2))
    assert first.trace == second.trace


def test_the_schedules_reach_what_they_are_meant_to_reach() -> None:
    worlds = [one(seed)[1] for seed in range(60)]
    restarts = [reason for world in worlds for _, runtime in world.instances.all for reason in runtime.restarts]
    statuses = {wire.text(record.headers, wire.STATUS) for world in worlds for record in world.logs["responses", 0]}
    assert statuses == {"ok", "error", "rejected", "timeout"}
    assert sum(world.witness.voided for world in worlds) > 0
    assert any("claimed" in reason for reason in restarts)
    assert any("void" in reason for reason in restarts)
    assert any("producer" in reason for reason in restarts)
    assert any(settled.forced for world in worlds for settled in world.clients.control.settled.get(0, {}).values())


@pytest.mark.parametrize("name", RULES)
def test_a_rule_that_is_taken_away_is_missed(name: str) -> None:
    rule = RULES[name]
    with without(name):
        missed = next((seed for seed in range(ENOUGH) if one(seed, kind=rule.kind)[0] is not None), None)
    assert missed is not None, f"{ENOUGH} schedules of kind {rule.kind} without this rule, and no harm: {rule.says}"
