"""Deletions that the logs forget: versions that go on, states that stay away, layers of one life after the other."""

from itertools import count
from typing import Any

import pytest

from hal9 import wire
from hal9.backend.store import envelope
from hal9.log.effects import Send
from services.migrator.config import MigratorConfig
from services.migrator.core import MigratorCore
from simulation.director import Action
from simulation.schedule import Schedule
from simulation.shrinking import broken
from simulation.world import World

QUIET = Schedule(steps=0, requests=0, epochs=0, keys=(), bad=0, short=0, fault=0, force=0, lag=0, jump=0)
KEY = b"a0"
EVERYBODY: list[Action] = [("assign", s, 0, f"{s}-1") for s in ("router", "flat", "hierarchical", "migrator")]
ROUTER, MIGRATOR = "router-1/0", "migrator-1/0"


def ask(name: str, operation: str, key: bytes = KEY) -> Action:
    return ("ask", name, key, 0, operation, None, False, False)


def lands(name: str, *logs: str, times: int = 4) -> list[Action]:
    landed: list[Action] = [("land", name, log, 0) for log in logs for _ in range(times)]
    return landed + [("ack", name, log, 0, False) for log in logs for _ in range(times)]


def dispatched(*asked: Action) -> list[Action]:
    """The router takes requests in, and reads back what it dispatched."""
    return [*asked, ("feed", ROUTER, "requests", 50), *lands(ROUTER, "dispatched"), ("feed", ROUTER, "dispatched", 50)]


def takes_over(name: str) -> list[Action]:
    return [*lands(name, "neurons.changes"), ("feed", name, "neurons.changes", 50), ("answer", name, 50)]


def executes(name: str) -> list[Action]:
    return [
        ("feed", name, "dispatched", 50),
        *lands(name, "neurons.changes"),
        ("feed", name, "neurons.changes", 50),
    ]


@pytest.mark.parametrize("operation", ["err", "del"])
def test_versions_go_on_by_a_few_with_each_life(operation: str) -> None:
    lives = 12
    script = list(EVERYBODY)
    for life in range(lives):
        script += [ask(f"i{life}", operation), ("night", 320_000)]
    promise, world = broken(lambda: World(0, plan=QUIET), script)
    assert promise is None
    floors = [record for record in world.logs["neurons.changes", 0] if (record.key or b"").startswith(wire.FLOOR)]
    assert len(world.witness.chains[KEY]) <= 3 * lives
    assert len({record.key for record in floors}) == 1, "compaction leaves one of each writer"


def test_what_the_other_system_has_put_down_is_asked_when_a_deletion_is_forgotten() -> None:
    """Flat is replaced, and reads its replica log late: there lies a state that hierarchical made before."""
    first, second, third = "flat-1/0", "flat-2/0", "flat-3/0"
    script = [
        *EVERYBODY,
        *(ask("i1", "mut"), ("night", 100), ("route", 100.0), ("night", 100)),
        *(ask("i2", "mut"), ("night", 100), ("rollback",), ("night", 100)),
        *dispatched(ask("i3", "del")),
        *executes(first),
        *lands(first, "responses.flat"),
        ("feed", ROUTER, "responses.flat", 50),
        *lands(ROUTER, "responses"),
        *(("commit", first), ("commit", ROUTER), ("crash", "flat-1", 0.0, "flat-2")),
        *takes_over(second),
        ("feed", second, "dispatched", 50),
        *(("clock", 80_000), ("tick", second, None), ("commit", second), ("commit", second), ("tick", second, None)),
        *lands(second, "neurons.changes"),
        *(("feed", second, log, 50) for log in ("neurons.changes", "neurons.replica", "neurons.replica")),
        *dispatched(ask("j1", "mut", b"a1")),
        *executes(second),
        *(("feed", MIGRATOR, "neurons.changes", 50), ("feed", second, "neurons.replica", 50)),
        *lands(MIGRATOR, "units.replica", times=8),
        *(("feed", MIGRATOR, "units.replica", 50), ("commit", MIGRATOR), ("commit", second), ("clock", 400_000)),
        *(("compact", "neurons.changes", 0, 0), ("crash", "flat-2", 0.0, "flat-3")),
        *takes_over(third),
        ("feed", third, "neurons.replica", 50),
        *dispatched(ask("i4", "mut")),
        *executes(third),
    ]
    assert broken(lambda: World(0, plan=QUIET), script)[0] is None


def change(log: str, version: int, layer: str, state: Any = None, *, null: bool = False, follows: int = 0) -> Send:
    of = wire.Change(version, version, 0, "flat", "ok", None, layer=layer, follows=follows or None)
    return Send(log, b"n1", None if null else envelope(state, b""), wire.change_headers(of, 0, 10**6))


@pytest.mark.parametrize("order", ["nnnuu", "nuunn", "nnuun", "uunnn", "unnnu"])
@pytest.mark.parametrize("follows", [5, 0])
def test_a_migrator_tells_the_layers_of_two_lives_apart_however_it_reads_two_logs(order: str, follows: int) -> None:
    numbers = count()
    config = MigratorConfig("m", 1, "migrator", lambda: str(next(numbers)), lambda state, _: state, lambda state: state)
    core = MigratorCore(0, config)
    core.start({}, 0)
    core.end("neurons.changes", 0, 0)
    logs = {
        "neurons.replica": [
            change("neurons.replica", 5, "tactical"),
            change("neurons.replica", 5, "tactical", null=True),
        ],
        "units.replica": [change("units.replica", 9, "reflexive", {"layer": "reflexive"}, follows=follows)],
    }
    for log, records in logs.items():
        records.append(next(send for send in core.effects.sends if send.log == log))  # its claim
        for offset, record in enumerate(records):
            record.offset, record.timestamp = offset, 0
    names = {"n": "neurons.replica", "u": "units.replica"}
    for name in order:
        core.read(names[name], [logs[names[name]].pop(0)], 0)
    assert core.phase == "serve"
    assert core.translation.owner(b"n1") == "reflexive"
