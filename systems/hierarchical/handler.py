"""The hierarchical system: the units of a layer together, its state a unit's map. Pure.

It answers what the flat system answers. A batch holds requests of different keys; each is judged by itself, so a bad
one spoils no other.
"""

from collections.abc import Sequence

import numpy as np

from hal9.backend.handler import Item, Refused, Result
from schemas.base import Tree
from services.migrator.mapping import AS_NEURON
from services.migrator.transform import to_neuron, to_unit
from systems import operations
from systems.hierarchical import arrays
from systems.hierarchical.arrays import Array
from systems.operations import MOMENTUM, Learn


class HierarchicalHandler:
    """`create`, `activate` (or `process`), `learn`, `read`, `delete` on units, many at once."""

    read_only = operations.READ_ONLY

    def batch(self, items: Sequence[Item]) -> list[Result]:
        """Results in the order of the items; `Refused`: unknown-operation, unknown-neuron, exists, bad-value."""
        batch = _Batch()
        for index, (state, operation, value) in enumerate(items):
            try:
                match operation:
                    case "activate" | "process":
                        batch.activate(index, operations.known(state), value)
                    case "learn":
                        batch.learn(index, operations.known(state), value)
                    case _:
                        batch.results[index] = _alone(state, operation, value)
            except Refused as refused:
                batch.results[index] = refused
        batch.run()
        return [batch.results[index] for index in range(len(items))]


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


class _Batch:
    """The requests of one batch by what can be computed together, and the results so far."""

    def __init__(self) -> None:
        self.results: dict[int, Result] = {}
        self._inputs: dict[bytes, Array] = {}
        self._activate: dict[tuple[str, int], list[tuple[int, Tree, Array]]] = {}
        self._learn: dict[int, list[tuple[int, Tree, Learn]]] = {}

    def activate(self, index: int, unit: Tree, value: bytes) -> None:
        if activation_of(unit) not in operations.ACTIVATIONS:
            raise Refused("bad-value", "the neuron's activation is unknown")
        inputs = self._inputs.get(value)
        if inputs is None:
            inputs = self._inputs[value] = arrays.array(operations.inputs_of(value))
        width = inputs.shape[1]
        operations.check_width(width, len(unit["learning"]["weights"]))
        self._activate.setdefault((unit["layer"], width), []).append((index, unit, inputs))

    def learn(self, index: int, unit: Tree, value: bytes) -> None:
        width = len(unit["learning"]["weights"])
        lesson = operations.lesson_of(value, width)
        self._learn.setdefault(width, []).append((index, unit, lesson))

    def run(self) -> None:
        """One matrix product per layer (and width of the inputs), one elementwise step per width."""
        for asked in self._activate.values():
            units = [
                (unit["learning"]["weights"], unit["learning"]["bias"], activation_of(unit)) for _, unit, _ in asked
            ]
            outputs = arrays.activated(units, [inputs for _, _, inputs in asked])
            for (index, unit, _), values in zip(asked, outputs, strict=True):
                finite = bool(np.isfinite(values).all())
                self.results[index] = (
                    (unit, operations.activated(values.tolist())) if finite else operations.not_finite()
                )
        for lessons in self._learn.values():
            self._run_learn(lessons)

    def _run_learn(self, lessons: list[tuple[int, Tree, Learn]]) -> None:
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
                self.results[index] = operations.not_finite()
                continue
            learning = {**unit["learning"], "weights": w, "momentum": m, "bias": b}
            self.results[index] = _with(unit, learning, operations.learnt(handed_back))


def _with(unit: Tree, learning: Tree, answer: bytes) -> Result:
    cognitive = unit["cognitive"]
    try:
        memory = operations.learnt_once_more(cognitive["working_memory"])
    except Refused as refused:
        return refused
    return {**unit, "learning": learning, "cognitive": {**cognitive, "working_memory": memory}}, answer
