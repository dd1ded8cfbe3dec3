"""Schedules in which the search found harm, as short as it made them: each broke a promise once, and no more.

Scripts, not seeds: what a seed draws changes whenever the schedules learn something new.
"""

from dataclasses import replace

import pytest

from simulation.director import Action
from simulation.schedule import Schedule
from simulation.shrinking import broken
from simulation.world import World

QUIET = Schedule(steps=0, requests=0, epochs=0, keys=(), bad=0, short=0, fault=0, force=0, lag=None, jump=0)

FOUND: dict[str, tuple[Schedule, list[Action]]] = {
    "an expired copy on the wrong partition was rejected, and the request had been executed": (
        replace(QUIET, partitions=3),
        [
            ("assign", "router", 0, "router-1"),
            ("ask", "i7", b"k2", 0, "del", 71, False, False),
            ("repeat", "i7", 2),
            ("land", "router-1/0", "dispatched", 0),
            ("clock", 70),
        ],
    ),
    "a commit passed a change whose cold original was still on its way to the replica": (
        QUIET,
        [
            ("assign", "router", 0, "router-1"),
            ("assign", "flat", 0, "flat-1"),
            ("land", "flat-1/0", "neurons.changes", 0),
            ("ask", "i1", b"a0", 0, "del", None, False, False),
            ("feed", "flat-1/0", "neurons.changes", 2),
            ("land", "router-1/0", "dispatched", 0),
            ("ack", "router-1/0", "dispatched", 0, False),
            ("answer", "router-1/0", 5),
            ("feed", "router-1/0", "requests", 5),
            ("cut", "flat-1", True, "flat-2"),
            ("land", "flat-2/0", "neurons.changes", 0),
            ("land", "router-1/0", "dispatched", 0),
            ("resume", "flat-1"),
            ("ack", "flat-2/0", "neurons.changes", 0, False),
            ("feed", "flat-2/0", "neurons.changes", 50),
            ("feed", "flat-2/0", "dispatched", 50),
            ("land", "flat-2/0", "neurons.changes", 0),
            ("ack", "flat-2/0", "neurons.changes", 0, False),
            ("feed", "flat-1/0", "dispatched", 5),
            ("land", "flat-1/0", "neurons.changes", 0),
            ("feed", "flat-2/0", "neurons.changes", 1),
            ("assign", "migrator", 0, "migrator-1"),
            ("answer", "migrator-1/0", 1),
            ("land", "migrator-1/0", "neurons.replica", 0),
            ("feed", "migrator-1/0", "neurons.replica", 50),
            ("land", "flat-2/0", "neurons.changes", 0),
            ("route", 50.0),
            ("fold", "migrator-1/0", 5),
            ("land", "migrator-1/0", "units.replica", 0),
            ("ack", "migrator-1/0", "units.replica", 0, False),
            ("answer", "migrator-1/0", 2),
            ("answer", "migrator-1/0", 2),
            ("feed", "migrator-1/0", "neurons.changes", 5),
            ("commit", "migrator-1/0"),
        ],
    ),
    "Redis came back without its last second while nothing was written any more": (
        replace(QUIET, redis=True),
        [
            ("assign", "router", 0, "router-1"),
            ("assign", "flat", 0, "flat-1"),
            ("projector", "projector-1", 0),
            ("assign", "migrator", 0, "migrator-1"),
            ("land", "router-1/0", "dispatched", 0),
            ("project", "projector-1", "units.replica", 0, 2, "done"),
            ("land", "migrator-1/0", "units.replica", 0),
            ("answer", "migrator-1/0", 50),
            ("feed", "migrator-1/0", "units.replica", 1),
            ("ack", "router-1/0", "dispatched", 0, False),
            ("answer", "router-1/0", 1),
            ("land", "flat-1/0", "neurons.changes", 0),
            ("ack", "flat-1/0", "neurons.changes", 0, False),
            ("land", "migrator-1/0", "neurons.replica", 0),
            ("feed", "migrator-1/0", "neurons.replica", 50),
            ("ask", "i6", b"a0", 0, "cond", None, False, False),
            ("feed", "router-1/0", "requests", 50),
            ("land", "router-1/0", "dispatched", 0),
            ("feed", "flat-1/0", "dispatched", 50),
            ("land", "flat-1/0", "neurons.changes", 0),
            ("feed", "migrator-1/0", "neurons.changes", 50),
            ("land", "migrator-1/0", "units.replica", 0),
            ("project", "projector-1", "units.replica", 0, 50, "done"),
            ("project", "projector-1", "units.replica", 0, 2, "done"),
            ("forget", 3),
        ],
    ),
    "a read that had fallen back was never asked of the owner by a successor of its router": (
        replace(QUIET, reads=True),
        [
            ("assign", "router", 0, "router-1"),
            ("land", "router-1/0", "dispatched", 0),
            ("ack", "router-1/0", "dispatched", 0, False),
            ("answer", "router-1/0", 5),
            ("ask", "i3", b"a0", 0, "read", None, False, False),
            ("trip", "flat"),
            ("feed", "router-1/0", "requests", 2),
            ("land", "router-1/0", "dispatched", 0),
            ("crash", "router-1", 0.3, "router-2"),
        ],
    ),
    "a system that refused a read as not the owner was taken for the owner that it had become": (
        replace(QUIET, shadow=True, reads=True, layers=True, remote=True, trouble=5),
        [
            ("assign", "router", 0, "router-1"),
            ("assign", "migrator", 0, "migrator-1"),
            ("route", 100.0),
            ("ask", "i1", b"k5", 0, "odd", None, False, False),
            ("fold", "router-1/0", 2),
            ("land", "router-1/0", "dispatched", 0),
            ("ack", "router-1/0", "dispatched", 0, False),
            ("answer", "router-1/0", 5),
            ("trip", "hierarchical"),
            ("flag", "held=reflexive,tactical"),
            ("ask", "i3", b"k2", 0, "read", None, False, False),
            ("fold", "router-1/0", 1),
            ("feed", "router-1/0", "requests", 50),
            ("flag", "reads.read=flat"),
            ("flag", "pins.k2=hierarchical"),
            ("fold", "router-1/0", 5),
            ("ask", "i7", b"k2", 0, "err", None, False, False),
            ("ask", "i8", b"k5", 0, "mut", None, False, True),
            ("ask", "i14", b"k5", 0, "read", None, False, False),
            ("feed", "router-1/0", "requests", 5),
            ("clock", 46),
            ("oblivion", "router-1/0"),
            ("clock", 7),
        ],
    ),
    "a route moved a key whose state could not be mapped before its pin came, and an older state went on": (
        QUIET,
        [
            ("assign", "router", 0, "router-1"),
            ("assign", "flat", 0, "flat-1"),
            ("land", "router-1/0", "dispatched", 0),
            ("ack", "router-1/0", "dispatched", 0, False),
            ("answer", "router-1/0", 5),
            ("ask", "i1", b"c0", 0, "odd", None, False, False),
            ("feed", "router-1/0", "requests", 50),
            ("route", 50.0),
            ("land", "flat-1/0", "neurons.changes", 0),
            ("ask", "i6", b"c0", 0, "mut", None, False, False),
        ],
    ),
    "a read whose system failed was asked of the new owner, and overtook a change that was still at the old one": (
        replace(QUIET, reads=True),
        [
            ("assign", "router", 0, "router-1"),
            ("assign", "migrator", 0, "migrator-1"),
            ("land", "router-1/0", "dispatched", 0),
            ("ack", "router-2/0", "dispatched", 0, False),
            ("answer", "router-2/0", 1),
            ("route", 100.0),
            ("land", "migrator-2/0", "units.replica", 0),
            ("ask", "i6", b"a1", 0, "err", None, False, False),
            ("trip", "flat"),
            ("land", "migrator-4/0", "neurons.replica", 0),
            ("ask", "i9", b"a1", 0, "read", None, False, False),
            ("feed", "router-2/0", "requests", 5),
            ("fold", "router-2/0", 2),
            ("land", "router-2/0", "dispatched", 0),
            ("land", "router-2/0", "dispatched", 0),
            ("ack", "migrator-4/0", "units.replica", 0, False),
            ("ack", "migrator-4/0", "neurons.replica", 0, False),
            ("feed", "migrator-4/0", "dispatched", 50),
            ("land", "router-2/0", "dispatched", 0),
            ("feed", "migrator-5/0", "dispatched", 2),
            ("tick", "migrator-5/0", "flat"),
        ],
    ),
}


@pytest.mark.parametrize("what", FOUND)
def test_what_broke_a_promise_once_breaks_it_no_more(what: str) -> None:
    plan, script = FOUND[what]
    promise, world = broken(lambda: World(0, plan=plan), script)
    assert promise is None, "\n".join(world.trace or [promise or ""])
