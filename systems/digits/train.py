"""Makes `digits.npz`: `python -m systems.digits.train`. For developers; needs scikit-learn, which nothing else does."""

import sys
from importlib import import_module

import numpy as np

from systems.digits.data import FILE, TRAINING
from systems.digits.network import HIDDEN, LEARNING_RATE, OUTPUTS, PIXELS, Array, Parameters, softmax
from systems.hierarchical.arrays import learnt
from systems.operations import MOMENTUM

SEED = 9
PASSES = 14
"""As many as give about 97 %, so that there is something left to learn."""


def _fresh(random: np.random.Generator, neurons: int, inputs: int) -> Parameters:
    scale = np.sqrt(2.0 / inputs)
    return Parameters(
        random.normal(scale=scale, size=(neurons, inputs)), np.zeros((neurons, inputs)), np.zeros(neurons)
    )


def _step(layer: Parameters, inputs: Array, deltas: Array) -> tuple[Parameters, Array]:
    """One step as the systems make it; the layer after it, and what its neurons hand back."""
    rate = np.full(len(layer.bias), LEARNING_RATE)
    same_inputs = np.broadcast_to(inputs, layer.weights.shape)
    weights, momentum, bias, back = learnt(
        layer.weights, layer.momentum, layer.bias, rate, same_inputs, deltas, MOMENTUM
    )
    return Parameters(weights, momentum, bias), back.sum(axis=0)


def _outputs(hidden: Parameters, output: Parameters, pixels: Array) -> tuple[Array, Array]:
    inner = np.maximum(pixels @ hidden.weights.T + hidden.bias, 0.0)
    return inner, inner @ output.weights.T + output.bias


def main() -> None:
    """Train, say how well, and write the file."""
    pixels, labels = import_module("sklearn.datasets").load_digits(
        return_X_y=True
    )  # absent but on developers' machines
    random = np.random.default_rng(SEED)
    order = random.permutation(len(labels))
    pixels, labels = pixels[order], labels[order]
    scaled = pixels / 16.0
    hidden, output = _fresh(random, HIDDEN, PIXELS), _fresh(random, OUTPUTS, HIDDEN)
    for number in range(PASSES):
        for index in random.permutation(TRAINING):
            inner, sums = _outputs(hidden, output, scaled[index])
            deltas = softmax(sums[None, :])[0]
            deltas[labels[index]] -= 1.0
            output, back = _step(output, inner, deltas)
            hidden, _ = _step(hidden, scaled[index], np.where(inner > 0, back, 0.0))
        found = _outputs(hidden, output, scaled[TRAINING:])[1].argmax(axis=1)
        sys.stdout.write(f"pass {number + 1}: {np.mean(found == labels[TRAINING:]):.4f}\n")
    held = {"pixels": pixels.astype(np.uint8), "labels": labels.astype(np.uint8)}
    for layer, name in ((hidden, "hidden"), (output, "output")):
        held[f"{name}_weights"] = layer.weights.astype(np.float32)
        held[f"{name}_momentum"] = layer.momentum.astype(np.float32)
        held[f"{name}_bias"] = layer.bias.astype(np.float32)
    np.savez_compressed(FILE, **held)
    sys.stdout.write(f"{FILE.name}: {FILE.stat().st_size} bytes\n")


if __name__ == "__main__":
    main()
