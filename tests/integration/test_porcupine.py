"""A second opinion on the outsider's search: Porcupine says the same of the same histories, sound and spoiled.

The histories are those of seeded worlds, as they are and with one thing spoiled by chance. What is built lies in the
user's cache; without Go, or without its module, the tests are skipped, and say why.
"""

import subprocess
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest

from simulation.kinds import KINDS
from simulation.linearizability import Operation, Verdict, judge
from simulation.outsider import line
from simulation.world import World
from tests.building import go_program

SOURCE = Path(__file__).parents[1] / "support" / "porcupine"
PROGRAM = Path("~/.cache/hal9/porcupine/verdicts").expanduser()
SEEDS = 5 * len(KINDS)
BOUND = 2_000_000
"""Configurations: a spoiled history of which less is known takes more than the search itself allows."""
LONGEST = 25
"""Operations of a key."""
"""As many of each kind: some two hundred histories."""

History = list[Operation]


@pytest.fixture(scope="module")
def porcupine() -> str:
    """The program that prints Porcupine's verdicts."""
    return go_program(SOURCE, PROGRAM)


@pytest.fixture(scope="module")
def histories() -> list[History]:
    """What clients of seeded worlds saw, of each kind of schedule; long ones take a plain search too long."""
    found = [operations for seed in range(SEEDS) for operations in seen(World(seed))]
    return [operations for operations in found if len(operations) <= LONGEST]


def seen(world: World) -> list[History]:
    """The histories of the keys of a world that is played to its end."""
    world.run()
    return [operations for _, operations in world.outsider.histories()]


def verdicts(program: str, histories: Sequence[History]) -> list[str]:
    """What Porcupine says of each."""
    lines = "".join(f"{line(b'k', operations)}\n" for operations in histories)
    done = subprocess.run([program], input=lines, capture_output=True, text=True, timeout=300, check=True)
    return done.stdout.splitlines()


def agreed(program: str, histories: Sequence[History]) -> Counter[str]:
    """Verdicts on which both agree, counted."""
    said, ours = verdicts(program, histories), [judge(operations, bound=BOUND).value for operations in histories]
    apart = [(one, other, h) for one, other, h in zip(said, ours, histories, strict=True) if one != other]
    assert not apart, f"of {len(histories)} histories {len(apart)} are judged otherwise, the first: {apart[0]}"
    return Counter(ours)


# ---------------------------------------------------------------------- what is spoiled
def shown(history: History) -> list[int]:
    """Operations whose answer shows labels."""
    return [at for at, operation in enumerate(history) if operation.answer]


def changes(history: History) -> list[int]:
    """Changes that were answered `ok`."""
    return [at for at in shown(history) if history[at].operation in {"mut", "odd", "cond"}]


def swap_two_answers(rng: Random, history: History) -> None:
    one, other = rng.sample([at for at, operation in enumerate(history) if operation.status == "ok"], 2)
    first, second = history[one], history[other]
    history[one] = replace(first, answer=second.answer)
    history[other] = replace(second, answer=first.answer)


def drop_an_effect(rng: Random, history: History) -> None:
    """Nobody but the one who asked for it sees it."""
    dropped = history[rng.choice(changes(history))].label
    for at in shown(history):
        if history[at].label != dropped:
            answer = tuple(label for label in history[at].answer or () if label != dropped)
            history[at] = replace(history[at], answer=answer)


def double_a_label(rng: Random, history: History) -> None:
    at = rng.choice(shown(history))
    answer = history[at].answer or ()
    history[at] = replace(history[at], answer=(*answer, rng.choice(answer)))


def make_a_read_stale(rng: Random, history: History) -> None:
    at = rng.choice([at for at in shown(history) if history[at].reads])
    history[at] = replace(history[at], answer=())


def refuse_a_change(rng: Random, history: History) -> None:
    at = rng.choice([at for at in changes(history) if history[at].operation == "cond"])
    history[at] = replace(history[at], status="error", error="refused", answer=None)


def lose_an_answer(rng: Random, history: History) -> None:
    at = rng.randrange(len(history))
    history[at] = replace(history[at], status="timeout", error="deadline", answer=None)


def hurry(rng: Random, history: History) -> None:
    """Every operation takes less time: what was at the same time may be so no more, and in any order."""
    for at, operation in enumerate(history):
        if operation.returned is not None:
            invoked = rng.randint(operation.invoked, operation.returned)
            returned = rng.randint(invoked, operation.returned)
            history[at] = replace(operation, invoked=invoked, returned=returned)


def end_one_later(rng: Random, history: History) -> None:
    at = rng.randrange(len(history))
    history[at] = replace(history[at], returned=(history[at].returned or 0) + 1_000)


HARMFUL = (swap_two_answers, drop_an_effect, double_a_label, make_a_read_stale, refuse_a_change, hurry)
HARMLESS = (lose_an_answer, end_one_later)


def spoiled(spoil: Callable[[Random, History], None], histories: Sequence[History]) -> list[History]:
    """Copies, each spoiled; those in which there is nothing to spoil are left out."""
    rng, found = Random(0), []
    for history in histories:
        copy = list(history)
        try:
            spoil(rng, copy)
        except (IndexError, ValueError):  # chance has nothing to choose from
            continue
        found.append(copy)
    return found


# ---------------------------------------------------------------------- both say the same
def test_sound_histories_are_linearizable_for_both(porcupine: str, histories: list[History]) -> None:
    assert len(histories) > SEEDS
    assert agreed(porcupine, histories) == {Verdict.LINEARIZABLE.value: len(histories)}


@pytest.mark.parametrize("spoil", HARMFUL)
def test_spoiled_histories_are_judged_alike(
    spoil: Callable[[Random, History], None], porcupine: str, histories: list[History]
) -> None:
    found = agreed(porcupine, spoiled(spoil, histories))
    assert found[Verdict.NOT_LINEARIZABLE.value] > 0
    assert found[Verdict.UNDECIDED.value] == 0


@pytest.mark.parametrize("spoil", HARMLESS)
def test_histories_of_which_less_is_known_stay_linearizable_for_both(
    spoil: Callable[[Random, History], None], porcupine: str, histories: list[History]
) -> None:
    found = spoiled(spoil, histories)
    assert agreed(porcupine, found) == {Verdict.LINEARIZABLE.value: len(found)}
    for harm in (double_a_label, swap_two_answers):
        assert agreed(porcupine, spoiled(harm, found))[Verdict.NOT_LINEARIZABLE.value] > 10
