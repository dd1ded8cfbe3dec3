"""One cognitive layer is held at flat: its units go back alone; what comes back tells the router which they are."""

import msgspec

from hal9 import wire
from hal9.control.route import Route
from schemas.base import FLAT, HIERARCHICAL, Tree
from services.router.core import RouterCore
from services.router.entry import Entry
from services.router.handover import Handover
from services.router.keybook import Key
from simulation.applied import applied
from simulation.stage import Stage, headers


class Layered:
    """Appends values; the first one names the layer."""

    read_only = frozenset({"read"})

    def __call__(self, state: Tree | None, operation: str, value: bytes) -> tuple[Tree | None, bytes]:
        held, text = applied(state), value.decode()
        if operation == "read":
            return state, msgspec.msgpack.encode(held)
        layer = state["layer"] if state else text
        return {"applied": [*held, text], "layer": layer}, b""


def stage() -> Stage:
    return Stage("router", FLAT, HIERARCHICAL, "migrator", handler=Layered()).run()


def dispatches(held: Stage, key: bytes) -> list[tuple[str, ...]]:
    """(position, primary, layer, version it waits for) of each."""
    names = ("position", "primary", "layer", "layer-version")
    return [tuple(headers(r).get(n, "") for n in names) for r in held.records("dispatched") if r.key == key and r.value]


def changes(held: Stage, log: str, key: bytes) -> list[tuple[str, ...]]:
    names = ("version", "origin", "layer")
    return [tuple(headers(r).get(n, "") for n in names) for r in held.records(log) if r.key == key]


def test_units_of_a_held_layer_go_back_alone_and_come_again_when_it_is_let_go() -> None:
    held = stage()
    held.route(100.0)
    for key, layer in ((b"a", b"tactical"), (b"b", b"reflexive")):
        held.run().ask(key, "mut", layer)
    held.run().flag("held=tactical")
    for key in (b"a", b"b", b"a"):
        held.run().ask(key, "mut", b"x")
    assert changes(held.run(), "neurons.changes", b"a") == [("2", "flat", "tactical"), ("3", "flat", "tactical")]
    assert changes(held, "units.changes", b"b") == [
        ("1", "hierarchical", "reflexive"),
        ("2", "hierarchical", "reflexive"),
    ]
    assert dispatches(held, b"a")[1:] == [
        ("0:2", "hierarchical", "", ""),
        ("0:2", "flat", "tactical", "1"),
        ("0:4", "flat", "tactical", "1"),
    ], "the first one found out, the second one knew"
    held.flag("held=")
    held.run().ask(b"a", "mut", b"y")
    assert changes(held.run(), "units.changes", b"a")[-1] == ("4", "hierarchical", "tactical")
    assert [status for _, status in held.answers()] == ["ok"] * 6


def test_what_would_be_born_into_a_held_layer_is_born_at_flat() -> None:
    held = stage()
    held.route(100.0)
    held.flag("held=tactical")
    held.run().ask(b"new", "mut", b"tactical", name="one")
    held.ask(b"new", "mut", b"more", name="two")
    assert changes(held.run(), "units.changes", b"new") == [("1", "move", "tactical")]
    assert changes(held, "neurons.changes", b"new") == [("2", "flat", "tactical"), ("3", "flat", "tactical")]
    assert held.answers() == [("one", "ok"), ("two", "ok")]
    assert [headers(r)["status"] for r in held.records("responses.hierarchical")] == ["moved", "moved"]


def test_flat_waits_for_the_version_in_which_the_key_was_given_up() -> None:
    held = stage()
    held.route(100.0)
    held.flag("held=tactical")
    held.run().held.add("neurons.replica")
    held.ask(b"new", "mut", b"tactical", name="one")
    assert dispatches(held.run(), b"new")[-1] == ("0:0", "flat", "tactical", "1")
    assert held.answers() == []
    held.held.clear()
    assert held.run().answers() == [("one", "ok")]


def test_a_router_that_forgets_the_layer_of_a_key_or_takes_over_loses_a_hop_and_nothing_else() -> None:
    held = stage()
    held.route(100.0)
    held.flag("held=tactical")
    held.run().ask(b"k", "mut", b"tactical")
    router = held.run().runtimes[0].core
    assert isinstance(router, RouterCore)
    router.forget()
    held.ask(b"k", "mut", b"2")
    held.run().start("router")
    held.run().ask(b"k", "mut", b"3")
    held.run().ask(b"k", "read")
    assert [status for _, status in held.run().answers()] == ["ok"] * 4
    assert _read(held) == ["tactical", "2", "3"]
    assert changes(held, "units.changes", b"k") == [("1", "move", "tactical")]


def test_a_successor_that_learns_a_layer_waits_for_what_is_at_hierarchical_still() -> None:
    handover, known = Handover("hal9", 0, 1), Key("k", 0, 0, None)
    handover.route = Route(10_000, held=frozenset({"tactical"}))
    entry = Entry(0, b"k", known, wire.Request("one", "mut", 0, None, []), b"")
    entry.owner = HIERARCHICAL
    handover.taken_over([entry])
    assert not handover.holds(b"k"), "its layer is not known: what comes after it goes the same way"
    known.layer = "tactical"
    handover.taken_over([entry])
    assert handover.holds(b"k")
    handover.gave_back(entry, [])
    assert not handover.holds(b"k")


def test_a_pin_goes_before_the_layer() -> None:
    held = stage()
    held.route(100.0)
    held.run().ask(b"k", "mut", b"tactical")
    held.run().flag("held=tactical", "pins.k=hierarchical")
    held.run().ask(b"k", "mut", b"2")
    assert changes(held.run(), "units.changes", b"k")[-1] == ("2", "hierarchical", "tactical")
    assert [headers(r)["status"] for r in held.records("responses.hierarchical")] == ["ok", "ok"]


def test_a_user_cannot_say_of_which_layer_a_key_is() -> None:
    held = stage()
    held.route(100.0)
    held.run().ask(b"k", "mut", b"reflexive", headers=[(wire.LAYER, b"tactical"), (wire.LAYER_VERSION, b"9")])
    assert dispatches(held.run(), b"k") == [("0:0", "hierarchical", "", "")]


def _read(held: Stage) -> list[str]:
    found: list[str] = msgspec.msgpack.decode(held.records("responses")[-1].value or b"")
    return found
