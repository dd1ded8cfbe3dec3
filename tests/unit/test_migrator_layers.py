"""The layer of a unit is chosen once, also when a successor copies the neuron's next change."""

from collections.abc import Iterator
from itertools import count

from hal9 import wire
from hal9.backend.store import envelope
from hal9.log.effects import Record, Send
from schemas.base import FLAT, Tree, decode
from schemas.state import envelope_decoder
from services.migrator.config import MigratorConfig
from services.migrator.core import MigratorCore
from services.migrator.transform import copy_of_neuron, copy_of_unit

NEURON: Tree = {
    "neuron_id": "n1",
    "neuron_type": "standard",
    "activation": "identity",
    "weights": [0.5],
    "bias": 0.0,
    "learning_rate": 0.1,
    "momentum": [0.0],
    "connections": [],
    "memory": {},
    "context": {},
    "response_time_ms": 5.0,
    "is_async": False,
    "created_at": 0,
    "carried": {},
}


def change(version: int, response_time_ms: float, offset: int) -> Send:
    """A change of flat's, as read."""
    headers = wire.change_headers(wire.Change(version, version, 0, FLAT, "ok", None), 0, 0)
    send = Send("neurons.changes", b"n1", envelope(NEURON | {"response_time_ms": response_time_ms}, b""), headers)
    send.offset, send.timestamp = offset, 0
    return send


def serving(numbers: Iterator[int], replica: list[Send]) -> MigratorCore:
    """A migrator that has read `replica` (units.replica) up to its own claim, and serves."""
    config = MigratorConfig(
        "m", 1, "migrator", lambda: str(next(numbers)), lambda n, layer: copy_of_neuron(n, layer=layer), copy_of_unit
    )
    core = MigratorCore(0, config)
    core.start({}, 0)
    core.end("neurons.changes", 0, 0)
    for log, before in (("units.replica", replica), ("neurons.replica", [])):
        claim = next(s for s in core.effects.sends if s.log == log)
        records: list[Record] = [*before, claim]
        for offset, record in enumerate(records):
            record.offset = offset
        core.read(log, records, 0)
    core.effects.sends.clear()
    return core


def copies(core: MigratorCore) -> list[Send]:
    """What the core has sent to units.replica."""
    return [send for send in core.effects.sends if send.log == "units.replica"]


def layer_of(send: Send) -> object:
    """The layer of the unit that a copy holds."""
    return (decode(envelope_decoder, send.value).state or {})["layer"]


def test_a_slower_neuron_keeps_the_layer_of_its_unit() -> None:
    core = serving(count(), [])
    core.read("neurons.changes", [change(1, 5.0, 0), change(2, 900.0, 1)], 0)
    assert [layer_of(send) for send in copies(core)] == ["reflexive", "reflexive"]


def test_a_successor_keeps_it_too() -> None:
    numbers = count()
    first = serving(numbers, [])
    first.read("neurons.changes", [change(1, 5.0, 0)], 0)
    successor = serving(numbers, copies(first))
    successor.read("neurons.changes", [change(2, 900.0, 1)], 0)
    assert [layer_of(send) for send in copies(successor)] == ["reflexive"]
    assert successor.migrated == 1
    assert successor.phase == "serve"
