"""What the package brings along: images with labels, and a network trained on the first of them.

The images are the test set of "Optical Recognition of Handwritten Digits" by E. Alpaydin and C. Kaynak, UCI Machine
Learning Repository, CC BY 4.0: 1,797 of 8 x 8 pixels, 0 to 16, by way of scikit-learn. `train` makes the file.
"""

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from systems.digits.network import Array, Parameters

FILE: Final = Path(__file__).with_name("digits.npz")
TRAINING: Final = 1437
"""Images that the network was trained on; the other 360 test it."""


@dataclass(frozen=True)
class Images:
    """Images as rows of 64 pixels, 0.0 to 1.0, and the digits they show."""

    pixels: Array
    labels: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class Digits:
    """The data and the trained network; read only."""

    training: Images
    testing: Images
    hidden: Parameters
    output: Parameters


@cache
def load() -> Digits:
    """Read the package data, once."""
    with np.load(FILE) as held:
        pixels, labels = held["pixels"] / 16.0, held["labels"].astype(np.int64)
        layers = [
            Parameters(*(held[f"{layer}_{name}"].astype(np.float64) for name in ("weights", "momentum", "bias")))
            for layer in ("hidden", "output")
        ]
    for part in (pixels, labels, *(array for layer in layers for array in (layer.weights, layer.momentum, layer.bias))):
        part.flags.writeable = False
    return Digits(Images(pixels[:TRAINING], labels[:TRAINING]), Images(pixels[TRAINING:], labels[TRAINING:]), *layers)
