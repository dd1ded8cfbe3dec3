"""The hierarchical system: the units of a layer together, its state a unit's map. Pure.

It answers what the flat system answers. A batch holds requests of different keys; each is judged by itself, so a bad
one spoils no other.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from hal9.backend.handler import Item, Refused, Result
from schemas.base import Tree
from schemas.state import ArchitectureLayer
from services.migrator.mapping import AS_NEURON, LAYERS
from services.migrator.transform import to_neuron, to_unit
from systems import operations
from systems.flat.handler import FlatHandler
from systems.hierarchical import arrays
from systems.hierarchical.arrays import Array
from systems.operations import MOMENTUM, Learn


class HierarchicalHandler:
    """`create`, `activate` (or `process`), `learn`, `read`, `delete` on units, many at once.

    Its architecture layers, each on top of the one before it, decide how that is done, never what comes of it:
    substrate, on arrays (without it a unit is computed as the neuron it stands for); protocol, many requests in one
    pass; cognitive, the units of a cognitive layer together; orchestration, layer after layer, reflexive first;
    intelligence, inputs that several units are asked about are multiplied once.
    """

    read_only = operations.READ_ONLY

    def batch(self, items: Sequence[Item]) -> list[Result]:
        """Results in the order of the items; `Refused`: unknown-operation, unknown-neuron, exists, bad-value."""
        return self.batch_without(items, frozenset())

    def batch_without(self, items: Sequence[Item], off: frozenset[ArchitectureLayer]) -> list[Result]:
        """The same with architecture layers switched off."""
        batch = _Batch(off)
        for index, item in enumerate(items):
            batch.take(index, item)
        for one in batch.passes():
            one.run(batch.results)
        return [batch.results[index] for index in range(len(items))]


def passes(items: Sequence[Item], off: frozenset[ArchitectureLayer] = frozenset()) -> list[tuple[str, str, int, int]]:
    """How a batch would be computed: (operation, layer, units, input vectors) of each pass, in order."""
    batch = _Batch(off)
    for index, item in enumerate(items):
        batch.take(index, item)
    return [one.shape for one in batch.passes()]


def activation_of(unit: Tree) -> str:
    """The name of a unit's activation function; `identity` if it was never a neuron."""
    name: str = unit.get("metadata", {}).get(AS_NEURON, {}).get("activation", "identity")
    return name


def _alone(state: Tree | None, operation: str, value: bytes) -> tuple[Tree | None, bytes]:
    match operation:
        case "read":
            return state, operations.shown(to_neuron(operations.known(state)))
        case "create":
            return to_unit(operations.newborn(state, value)), operations.created()
        case "delete":
            operations.known(state)
            return None, operations.deleted()
    raise Refused("unknown-operation", operation)


def _as_neuron(state: Tree | None, operation: str, value: bytes) -> tuple[Tree | None, bytes]:
    """One unit without arrays."""
    unit = operations.known(state)
    neuron, answer = _neurons(to_neuron(unit), operation, value)
    return (unit if operation != "learn" or neuron is None else to_unit(neuron, layer=unit["layer"])), answer


_neurons = FlatHandler()


@dataclass(slots=True)
class _Activation:
    """Units that one matrix product answers, and what each is asked about."""

    layer: str
    asked: list[tuple[int, Tree, Array]] = field(default_factory=list)

    @property
    def shape(self) -> tuple[str, str, int, int]:
        vectors = sum(len(each) for each in {id(inputs): inputs for _, _, inputs in self.asked}.values())
        return "activate", self.layer, len(self.asked), vectors

    def run(self, results: dict[int, Result]) -> None:
        units = [
            (unit["learning"]["weights"], unit["learning"]["bias"], activation_of(unit)) for _, unit, _ in self.asked
        ]
        outputs = arrays.activated(units, [inputs for _, _, inputs in self.asked])
        for (index, unit, _), values in zip(self.asked, outputs, strict=True):
            finite = bool(np.isfinite(values).all())
            results[index] = (unit, operations.activated(values.tolist())) if finite else operations.not_finite()


@dataclass(slots=True)
class _Learning:
    """Units that learn in one elementwise step."""

    layer: str
    lessons: list[tuple[int, Tree, Learn]] = field(default_factory=list)

    @property
    def shape(self) -> tuple[str, str, int, int]:
        return "learn", self.layer, len(self.lessons), len(self.lessons)

    def run(self, results: dict[int, Result]) -> None:
        lessons = self.lessons
        before = [unit["learning"] for _, unit, _ in lessons]
        weights, momentum, bias, back = arrays.learnt(
            arrays.array([each["weights"] for each in before]),
            arrays.array([each["momentum"] for each in before]),
            arrays.array([each["bias"] for each in before]),
            arrays.array([each["learning_rate"] for each in before]),
            arrays.array([lesson.inputs for _, _, lesson in lessons]),
            arrays.array([lesson.delta for _, _, lesson in lessons]),
            MOMENTUM,
        )
        finite = [bool(row.all()) for row in np.isfinite(np.column_stack((weights, momentum, bias, back)))]
        rows = zip(weights.tolist(), momentum.tolist(), bias.tolist(), back.tolist(), strict=True)
        for (index, unit, _), sound, (w, m, b, handed_back) in zip(lessons, finite, rows, strict=True):
            if not sound:
                results[index] = operations.not_finite()
                continue
            learning = {**unit["learning"], "weights": w, "momentum": m, "bias": b}
            results[index] = _with(unit, learning, operations.learnt(handed_back))


class _Batch:
    """The requests of one batch by what can be computed together, and the results so far."""

    def __init__(self, off: frozenset[ArchitectureLayer]) -> None:
        self.results: dict[int, Result] = {}
        self._off = off
        self._inputs: dict[bytes, Array] = {}
        self._passes: dict[tuple[str, str, int, int], _Activation | _Learning] = {}

    def take(self, index: int, item: Item) -> None:
        """Sort one request in, or answer it at once."""
        state, operation, value = item
        try:
            if operation not in ("activate", "process", "learn"):
                self.results[index] = _alone(state, operation, value)
            elif "substrate" in self._off:
                self.results[index] = _as_neuron(state, operation, value)
            elif operation == "learn":
                self._learn(index, operations.known(state), value)
            else:
                self._activate(index, operations.known(state), value)
        except Refused as refused:
            self.results[index] = refused

    def passes(self) -> list[_Activation | _Learning]:
        """What is to be computed, in order."""
        found = list(self._passes.values())
        return found if "orchestration" in self._off else sorted(found, key=_place)

    def _activate(self, index: int, unit: Tree, value: bytes) -> None:
        if activation_of(unit) not in operations.ACTIVATIONS:
            raise Refused("bad-value", "the neuron's activation is unknown")
        inputs = self._inputs.get(value)
        if inputs is None:
            inputs = arrays.array(operations.inputs_of(value))
            if "intelligence" not in self._off:
                self._inputs[value] = inputs
        width = inputs.shape[1]
        operations.check_width(width, len(unit["learning"]["weights"]))
        found = self._passes.setdefault(self._place("activate", unit, width, index), _Activation(self._layer(unit)))
        if isinstance(found, _Activation):
            found.asked.append((index, unit, inputs))

    def _learn(self, index: int, unit: Tree, value: bytes) -> None:
        width = len(unit["learning"]["weights"])
        lesson = operations.lesson_of(value, width)
        found = self._passes.setdefault(self._place("learn", unit, width, index), _Learning(self._layer(unit)))
        if isinstance(found, _Learning):
            found.lessons.append((index, unit, lesson))

    def _layer(self, unit: Tree) -> str:
        return "" if "cognitive" in self._off else unit["layer"]

    def _place(self, operation: str, unit: Tree, width: int, index: int) -> tuple[str, str, int, int]:
        """What goes into one pass: the same operation, layer and width; without the protocol nothing else."""
        return operation, self._layer(unit), width, index if "protocol" in self._off else -1


def _place(one: _Activation | _Learning) -> int:
    """Layer after layer; nothing that has no layer is held up by it."""
    return LAYERS.index(one.layer) if one.layer in LAYERS else 0


def _with(unit: Tree, learning: Tree, answer: bytes) -> Result:
    cognitive = unit["cognitive"]
    try:
        memory = operations.learnt_once_more(cognitive["working_memory"])
    except Refused as refused:
        return refused
    return {**unit, "learning": learning, "cognitive": {**cognitive, "working_memory": memory}}, answer
