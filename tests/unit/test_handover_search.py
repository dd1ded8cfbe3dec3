"""Seeded schedules over the real cores: none violates a promise, and each rule, taken away, is missed.

The second half tests the test: a rule is switched off in the product's own code, and the search must find harm. Longer
searches: `python -m hal9.testing.world --first N --count M`.
"""

from collections.abc import Callable
from typing import Any

import pytest

from hal9 import wire
from hal9.backend.core import BackendCore
from hal9.backend.queues import Queues, Task
from hal9.backend.responses import Outbox
from hal9.log.validity import Validity
from hal9.testing.schedule import KINDS
from hal9.testing.world import one
from services.migrator.core import MigratorCore
from services.router.handover import Handover
from services.router.ledger import Ledger

SEEDS_PER_KIND = 60
ENOUGH = 1_500
"""Seeds within which the search must miss a rule that was taken away."""


@pytest.mark.parametrize("kind", range(len(KINDS)))
def test_no_schedule_breaks_a_promise(kind: int) -> None:
    for seed in range(SEEDS_PER_KIND):
        violation, _ = one(seed, kind=kind)
        assert violation is None, f"python -m hal9.testing.world --kind {kind} --seed {seed} --trace: {violation}"


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


Rule = Callable[[pytest.MonkeyPatch], None]


def without_claims(patch: pytest.MonkeyPatch) -> None:
    """Records of an older term than the newest claim are void."""
    feed = Validity.feed

    def forgetful(self: Validity, record: Any) -> Any:
        kind = feed(self, record)
        self.claim = -1
        return kind

    patch.setattr(Validity, "feed", forgetful)


def without_seals(patch: pytest.MonkeyPatch) -> None:
    """Changes of an older epoch after a seal are void."""
    patch.setattr(Validity, "sealed", lambda *_: False)


def without_opening(patch: pytest.MonkeyPatch) -> None:
    """A request of a moved key waits for the seal in the replica log."""
    add = Queues.add

    def at_once(self: Queues, task: Task) -> None:
        task.request.after_seal = 0
        add(self, task)

    patch.setattr(Queues, "add", at_once)


def without_read_back(patch: pytest.MonkeyPatch) -> None:
    """An answer leaves only when its change was read back as valid."""
    true_by = Outbox.true_by
    patch.setattr(Outbox, "true_by", lambda self, _: true_by(self, 1 << 60))


def without_positions(patch: pytest.MonkeyPatch) -> None:
    """A position is applied once."""
    take = BackendCore._take

    def again(self: BackendCore, key: bytes) -> Task | None:
        self.store.kept.clear()
        held = self.store.held(key)
        position, held.position = held.position, -1
        try:
            return take(self, key)
        finally:
            held.position = position

    patch.setattr(BackendCore, "_take", again)


def without_waiting_keys(patch: pytest.MonkeyPatch) -> None:
    """A key waits in the router while one of its requests is in flight from before a move."""
    patch.setattr(Handover, "holds", lambda *_: False)


def without_second_dispatch(patch: pytest.MonkeyPatch) -> None:
    """Requests of moved keys that are unanswered when their epoch settles are dispatched again."""
    patch.setattr(Handover, "take_back", lambda *_: [])


def without_repair(patch: pytest.MonkeyPatch) -> None:
    """A state is appended again when a void record lies after it."""
    patch.setattr(BackendCore, "_repair", lambda _: None)


def without_low_watermark(patch: pytest.MonkeyPatch) -> None:
    """The router commits no request that waits."""
    patch.setattr(Ledger, "requests", lambda _self, position, _waiting: position)


def without_copied_seals_in_commits(patch: pytest.MonkeyPatch) -> None:
    """The migrator commits a source only when its copy, a seal's too, is read back."""
    patch.setattr(MigratorCore, "_is_cold", lambda *_: True)


# (rule, kinds of schedule that stress it)
RULES: list[tuple[Rule, int]] = [
    (without_claims, 2),
    (without_seals, 1),
    (without_opening, 1),
    (without_read_back, 2),
    (without_positions, 2),
    (without_waiting_keys, 1),
    (without_second_dispatch, 1),
    (without_repair, 3),
    (without_low_watermark, 2),
    (without_copied_seals_in_commits, 2),
]


@pytest.mark.parametrize(("rule", "kind"), RULES, ids=lambda value: getattr(value, "__name__", ""))
def test_a_rule_that_is_taken_away_is_missed(rule: Rule, kind: int, monkeypatch: pytest.MonkeyPatch) -> None:
    rule(monkeypatch)
    missed = next((seed for seed in range(ENOUGH) if one(seed, kind=kind)[0] is not None), None)
    assert missed is not None, f"{ENOUGH} schedules of kind {kind} without this rule, and no harm: {rule.__doc__}"
