"""The network: 64 pixels, 48 hidden neurons (relu), 10 outputs (softmax, which is the client's), momentum SGD. Pure.

It knows which neurons there are, what to ask them, and how their answers make a forward and a backward pass. Their
state and their arithmetic belong to the system that owns them.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from schemas.base import Tree

Array = NDArray[np.float64]

PIXELS: Final = 64
HIDDEN: Final = 48
OUTPUTS: Final = 10
PER_COPY: Final = HIDDEN + OUTPUTS

LEARNING_RATE: Final = 0.002
"""Small, as each example is a step of its own, and momentum makes ten of it."""

HIDDEN_MS: Final = (5.0, 120.0, 350.0, 800.0)
OUTPUT_MS: Final = 1500.0
"""Response times that spread the neurons over all five cognitive layers."""


@dataclass(frozen=True)
class Parameters:
    """One layer's learning state, a row per neuron."""

    weights: Array
    momentum: Array
    bias: Array


def neuron_id(copy: int, layer: str, index: int) -> str:
    """The key of a neuron; `layer` is `hidden` or `output`."""
    return f"digits/{copy}/{layer}/{index}"


def hidden_ids(copy: int) -> list[str]:
    """Keys of the hidden neurons of one copy of the network, in order."""
    return [neuron_id(copy, "hidden", index) for index in range(HIDDEN)]


def output_ids(copy: int) -> list[str]:
    """Keys of the output neurons of one copy of the network, in order: one per digit."""
    return [neuron_id(copy, "output", index) for index in range(OUTPUTS)]


def neurons(copy: int, hidden: Parameters, output: Parameters) -> list[tuple[str, Tree]]:
    """Keys and maps of all neurons of one copy, ready for `create`."""
    forward = [{"target": target, "weight": 1.0, "kind": "forward"} for target in output_ids(copy)]
    found = []
    for index, key in enumerate(hidden_ids(copy)):
        response_time_ms = HIDDEN_MS[index % len(HIDDEN_MS)]
        own = {"activation": "relu", "connections": forward, "response_time_ms": response_time_ms}
        found.append((key, {**_neuron(key, hidden, index), **own}))
    for index, key in enumerate(output_ids(copy)):
        found.append((key, {**_neuron(key, output, index), "response_time_ms": OUTPUT_MS}))
    return found


def _neuron(key: str, layer: Parameters, index: int) -> Tree:
    return {
        "neuron_id": key,
        "neuron_type": key.split("/")[2],
        "activation": "identity",
        "weights": layer.weights[index].tolist(),
        "bias": float(layer.bias[index]),
        "learning_rate": LEARNING_RATE,
        "momentum": layer.momentum[index].tolist(),
        "connections": [],
        "memory": {"learned": 0},
        "context": {"network": "digits"},
        "response_time_ms": 0.0,
        "is_async": False,
        "created_at": 0,
        "carried": {},
    }


def copies_for(bucket_of: Callable[[str], int], bound: int, at_least: int, most: int = 10_000) -> int:
    """The fewest copies with `at_least` neurons in buckets below `bound`; ValueError if `most` are not enough."""
    found = 0
    for copy in range(most):
        found += sum(bucket_of(key) < bound for key in (*hidden_ids(copy), *output_ids(copy)))
        if found >= at_least:
            return copy + 1
    raise ValueError(f"{most} copies have {found} neurons in buckets below {bound}, not {at_least}")


def softmax(sums: Array) -> Array:
    """Probabilities of the digits, a row per image."""
    powers = np.exp(sums - sums.max(axis=1, keepdims=True))
    shares: Array = powers / powers.sum(axis=1, keepdims=True)
    return shares


def by_image(outputs: Sequence[Sequence[float]]) -> Array:
    """What the neurons of a layer answered (a row per neuron) as a row per image."""
    return np.array(outputs, dtype=np.float64).T


def output_deltas(sums: Array, label: int) -> list[float]:
    """The error signal of each output neuron for one image: probability less truth."""
    deltas = softmax(sums[None, :])[0]
    deltas[label] -= 1.0
    found: list[float] = deltas.tolist()
    return found


def hidden_deltas(backs: Sequence[Sequence[float]], hidden: Array) -> list[float]:
    """The error signal of each hidden neuron from what the output neurons hand back, and its own output."""
    errors = np.sum(np.array(backs, dtype=np.float64), axis=0)
    found: list[float] = np.where(hidden > 0, errors, 0.0).tolist()
    return found
