"""The flat system: one neuron at a time, its state a neuron's map. Pure, and plain Python throughout."""

import math
from collections.abc import Callable

from hal9.backend.handler import Refused
from schemas.base import Tree
from systems import operations
from systems.operations import MOMENTUM


class FlatHandler:
    """`create`, `activate` (or `process`), `learn`, `read`, `delete` on a neuron."""

    read_only = operations.READ_ONLY

    def __call__(self, state: Tree | None, operation: str, value: bytes) -> tuple[Tree | None, bytes]:
        """The new state and the answer; raises `Refused`: unknown-operation, unknown-neuron, exists, bad-value."""
        match operation:
            case "activate" | "process":
                return state, _activate(operations.known(state), value)
            case "learn":
                return _learn(operations.known(state), value)
            case "read":
                return state, operations.shown(operations.known(state))
            case "create":
                return operations.newborn(state, value), operations.created()
            case "delete":
                operations.known(state)
                return None, operations.deleted()
        raise Refused("unknown-operation", operation)


def _activate(neuron: Tree, value: bytes) -> bytes:
    function = FUNCTIONS.get(neuron["activation"])
    if function is None:
        raise Refused("bad-value", "the neuron's activation is unknown")
    inputs, weights, bias = operations.inputs_of(value), neuron["weights"], neuron["bias"]
    operations.check_width(len(inputs[0]), len(weights))
    sums = [_weighted(weights, vector) + bias for vector in inputs]
    if not all(map(math.isfinite, sums)):
        raise operations.not_finite()
    return operations.activated([function(each) for each in sums])


def _weighted(weights: list[float], vector: list[float]) -> float:
    total = 0.0
    for weight, x in zip(weights, vector, strict=True):  # not sum(): that rounds differently from Python 3.12 on
        total += weight * x
    return total


def _learn(neuron: Tree, value: bytes) -> tuple[Tree, bytes]:
    """One step of momentum SGD: m = 0.9 m + (rate x delta) x input, w = w - m. The bias takes the plain step.

    Elementwise, each product and sum rounded once and in this order: any other system gets the same bits.
    """
    weights, momentum = neuron["weights"], neuron["momentum"]
    lesson = operations.lesson_of(value, len(weights))
    step = neuron["learning_rate"] * lesson.delta
    moved = [MOMENTUM * m + step * x for m, x in zip(momentum, lesson.inputs, strict=True)]
    changed = [w - m for w, m in zip(weights, moved, strict=True)]
    bias = neuron["bias"] - step
    back = [w * lesson.delta for w in weights]
    if not all(map(math.isfinite, (*changed, *moved, *back, bias))):
        raise operations.not_finite()
    memory = operations.learnt_once_more(neuron["memory"])
    return {**neuron, "weights": changed, "momentum": moved, "bias": bias, "memory": memory}, operations.learnt(back)


def _relu(x: float) -> float:
    return x if x > 0 else 0.0


def _sigmoid(x: float) -> float:
    power = math.exp(-abs(x))  # never overflows
    return (1.0 if x >= 0 else power) / (1.0 + power)


FUNCTIONS: dict[str, Callable[[float], float]] = {
    "identity": float,
    "relu": _relu,
    "sigmoid": _sigmoid,
    "tanh": math.tanh,
}
