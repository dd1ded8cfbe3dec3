"""What a run covers: branches by the text of their lines, reasons that do not rot unnoticed, pairs of events."""

import re
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from simulation import branches, pairs
from simulation.branches import Function, Module, heads, judged
from simulation.covering import ROOT, cover, modules, report
from simulation.deciding import names, sources
from simulation.director import Action
from simulation.kinds import KINDS
from simulation.search import Search, one
from simulation.unreached import UNREACHED

SOURCE = '''\
def chosen(a: int) -> int:
    if (
        a > 1
        and a < 9
    ):
        return a
    while a:
        a -= 1
    return 0


def idle(a: int) -> int:
    """Never called."""
    if a:
        return 1
    return 2
'''
IF, WHILE = "if (a > 1 and a < 9):", "while a:"


def module(*missed: tuple[int, int], taken: tuple[tuple[int, int], ...] = ()) -> Module:
    idle = Function(called=False, first=14, taken=[], missed=[(14, 15), (14, 16)])
    return Module("m", "m.py", SOURCE, [Function(called=True, first=2, taken=taken, missed=missed), idle])


# ---------------------------------------------------------------------- branches
def test_a_branch_is_told_with_the_head_of_its_statement_and_a_function_that_nobody_calls_once() -> None:
    missed = module((2, 6), (7, -1)).missed()
    assert [str(branch) for branch in missed] == [
        f"m.py:2 -> 6  {IF}",
        f"m.py:7 -> exit  {WHILE}",
        "m.py:12 -> 14  def idle(a: int) -> int:",
    ]


def test_the_table_counts_branches_those_of_idle_functions_too() -> None:
    played = module((2, 6), taken=((2, 7), (7, 8), (7, 9)))
    assert (played.branches, played.taken) == (6, 3)
    assert branches.told([played], judged([played], {}))[1].split() == ["m.py", "6", "3", "50.0", "%"]


def test_a_reason_stays_while_its_line_moves() -> None:
    known = {"m": {IF: "why", "def idle(a: int) -> int:": "why"}}
    moved = Module("m", "m.py", "\n\n" + SOURCE, [Function(True, 4, [], [(4, 8)]), Function(False, 16, [], [(16, 17)])])
    for played in (module((2, 6)), moved):
        verdict = judged([played], known)
        assert (verdict.unexplained, verdict.stale) == ([], [])
        assert len(verdict.explained["why"]) == 2


def test_a_reason_is_stale_when_its_branch_is_taken_or_its_line_gone() -> None:
    known = {"m": {WHILE: "why", "while b:": "why"}, "n": {"if a:": "why"}}
    verdict = judged([module()], known)
    assert list(verdict.stale) == [f"m: {WHILE}  (taken)", "m: while b:  (gone)", "n: if a:  (gone)"]


def test_a_reason_within_a_function_that_nobody_calls_is_not_stale() -> None:
    verdict = judged([module()], {"m": {"if a:": "why"}})
    assert (len(verdict.unexplained), verdict.stale) == (1, [])


def test_the_text_of_a_line_alone_is_the_line() -> None:
    assert heads(SOURCE).text(8) == "a -= 1"


# ---------------------------------------------------------------------- measuring
def test_what_decides_is_measured_and_no_shell() -> None:
    measured = set(names())
    assert measured >= {
        "services.router.core",
        "services.migrator.core",
        "services.migrator.projection",
        "hal9.backend.core",
        "hal9.log.validity",
        "hal9.control.reducer",
        "hal9.control.route",
    }
    assert not [name for name in measured if name.endswith((".app", "__main__", ".remote", ".projector"))]


def test_a_run_is_measured_alike_by_one_process_and_by_two() -> None:
    alone, shared = (cover(Search("plain"), range(30), jobs) for jobs in (1, 2))
    assert (alone.seeds, alone.pairs) == (shared.seeds, shared.pairs)
    # What this process has cached takes no way; that is little.
    missed = {file: ways - alone.ways.get(file, set()) for file, ways in shared.ways.items()}
    assert all(ways <= shared.ways[file] for file, ways in alone.ways.items())
    assert sum(map(len, missed.values())) < sum(map(len, shared.ways.values())) / 20
    assert ("ask mut", "ask read") in alone.pairs
    assert not alone.torn
    validity = next(m for m in modules(alone) if m.name == "hal9.log.validity")
    assert 0 < validity.taken < validity.branches


def test_a_short_run_fails_by_stale_reasons_alone_or_by_code_that_changed_meanwhile(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("simulation.covering.UNREACHED", {})
    covered = cover(Search("plain"), range(2))
    lines, fine = report(covered, Search("plain"))
    assert fine
    assert "not taken, and no reason known:" in lines
    covered.seeds = 1_000_000
    assert not report(covered, Search())[1]
    assert not report(replace(covered, torn=True), Search("plain"))[1]
    monkeypatch.setattr("simulation.covering.UNREACHED", {"hal9.log.validity": {"if nobody:": "why"}})
    assert not report(cover(Search("plain"), range(2)), Search("plain"))[1]


def test_every_reason_is_of_a_line_that_exists_and_names_tests_that_exist() -> None:
    texts_of = {name: heads(Path(file).read_text()).texts() for file, name in sources().items()}
    for name, known in UNREACHED.items():
        texts = texts_of[name]
        assert set(known) <= texts, f"{name}: {set(known) - texts}"
        for why in known.values():
            assert all((ROOT / file).exists() for file in re.findall(r"tests/[\w/]+\.py", why)), why


# ---------------------------------------------------------------------- pairs
SCRIPT: list[Action] = [
    ("assign", "router", 0, "router-1"),
    ("crash", "router-1", 0.5, "router-2"),
    *[("clock", 1)] * 3,
    ("flag", "pins.a0=flat"),
    ("tick", "flat-1/0", "flat"),
    ("tick", "migrator-1/0", "flat"),
    ("project", "projector-1", "units.changes", 0, 5, "done"),
    ("calm",),
    ("clock", 1000),
]


def test_events_are_named_by_what_befalls_whom_and_the_everyday_has_no_name() -> None:
    assert list(pairs.events(SCRIPT, 1)) == [(1, "crash router"), (5, "flag pins"), (7, "force flat")]


def test_a_pair_is_two_events_soon_after_each_other_in_their_order() -> None:
    assert pairs.pairs(SCRIPT, 1, soon=4) == {("crash router", "flag pins"), ("flag pins", "force flat")}
    assert ("crash router", "force flat") in pairs.pairs(SCRIPT, 1)


@pytest.mark.parametrize(
    ("what", "kind"),
    [
        ({"bad": True}, "bad"),
        ({"partition": 1}, "misplaced"),
        ({"short": 5}, "short"),
        ({"anonymous": True}, "anonymous"),
        ({}, "read"),
    ],
)
def test_a_request_is_named_by_what_is_most_special(what: dict[str, int], kind: str) -> None:
    asked = {"partition": 0, "operation": "read", "short": None, "bad": False, "anonymous": False} | what
    assert pairs.event(("ask", "i0", b"a0", *asked.values()), 2) == f"ask {kind}"


def test_what_no_schedule_had_is_told_by_the_first_event() -> None:
    lines = pairs.told(Counter({("a", "b"): 2, ("b", "b"): 1}), ("a", "b", "c"))
    assert lines[0].endswith("2 of 9 seen")
    assert lines[-3:] == ["never a, then: a, c", "never b, then: a, c", "never c, then anything"]


def test_every_event_happens() -> None:
    seen: set[str] = set()
    for seed in range(40 * len(KINDS)):
        _, world = one(seed, kind=None if seed % 2 else "everything")
        seen.update(event for _, event in pairs.events(world.script, world.plan.partitions))
        if seen == set(pairs.EVENTS):
            return
    assert seen == set(pairs.EVENTS)
