"""The arithmetic of many units at once, on NumPy arrays. Pure.

`activate` is one matrix product for all units of a layer; its last bit may differ from a sum in order. `learn` is
elementwise only, each product and sum rounded once, so it gives the very bits that one unit at a time would.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

CELLS = 1 << 20
"""Most numbers (8 MB) in the result of one product: a larger batch is cut."""


def array(values: list[float] | list[list[float]]) -> Array:
    """Numbers as doubles; an integer is rounded as Python's `float` would."""
    return np.array(values, dtype=np.float64)


def activated(units: list[tuple[list[float], float, str]], inputs: list[Array]) -> list[Array]:
    """Outputs of each unit (weights, bias, activation) for its own inputs, all of one width; NaN where a sum overflows.

    Inputs that several units share (the same array) are multiplied once.
    """
    outputs: list[Array] = []
    start = 0
    while start < len(units):
        stop, rows, seen = start, 0, set[int]()
        while stop < len(units):
            more = 0 if id(inputs[stop]) in seen else len(inputs[stop])
            if stop > start and (rows + more) * (stop + 1 - start) > CELLS:
                break
            rows += more
            seen.add(id(inputs[stop]))
            stop += 1
        outputs += _product(units[start:stop], inputs[start:stop])
        start = stop
    return outputs


def _product(units: list[tuple[list[float], float, str]], inputs: list[Array]) -> list[Array]:
    distinct = {id(each): each for each in inputs}
    first_row = dict(zip(distinct, np.cumsum([0, *map(len, distinct.values())]).tolist(), strict=False))
    weights = array([weights for weights, _, _ in units])
    with np.errstate(all="ignore"):
        sums = np.concatenate(list(distinct.values())) @ weights.T + array([bias for _, bias, _ in units])
        overflown = ~np.isfinite(sums)
        by_name: dict[str, list[int]] = {}
        for column, (_, _, name) in enumerate(units):
            by_name.setdefault(name, []).append(column)
        for name, columns in by_name.items():
            sums[:, columns] = FUNCTIONS[name](sums[:, columns])
    sums[overflown] = np.nan
    rows = [slice(first_row[id(each)], first_row[id(each)] + len(each)) for each in inputs]
    return [sums[row, column] for column, row in enumerate(rows)]


def learnt(
    weights: Array, momentum: Array, bias: Array, rate: Array, inputs: Array, delta: Array, share: float
) -> tuple[Array, Array, Array, Array]:
    """One step of momentum SGD for each row: new weights, momentum and bias, and weights x delta before the update."""
    with np.errstate(all="ignore"):
        step = rate * delta
        moved = share * momentum + step[:, None] * inputs
        return weights - moved, moved, bias - step, weights * delta[:, None]


def _relu(x: Array) -> Array:
    return np.where(x > 0, x, 0.0)


def _sigmoid(x: Array) -> Array:
    power = np.exp(-np.abs(x))
    return np.where(x >= 0, 1.0, power) / (1.0 + power)


FUNCTIONS: dict[str, Callable[[Array], Array]] = {
    "identity": lambda x: x,
    "relu": _relu,
    "sigmoid": _sigmoid,
    "tanh": np.tanh,
}
