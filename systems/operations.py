"""The operations of the built-in systems: what their values are, and when they are refused. Pure.

Both systems read values and write answers here, so that they refuse the same things and answer the same bytes. A
hostile value is `Refused('bad-value')`, never another exception; its length was limited before (`hal9.wire`).
"""

from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta, Struct

from hal9.backend.handler import Refused
from hal9.errors import Poison
from schemas.base import Tree, decode
from services.migrator.transform import canonical, validate

READ_ONLY: Final = frozenset({"activate", "process", "read"})

ACTIVATIONS: Final = frozenset({"identity", "relu", "sigmoid", "tanh"})

MOMENTUM: Final = 0.9
"""The share of the last step that a step of `learn` repeats; one for all neurons, as a neuron has no field for it."""

MOST_LEARNT: Final = 2**63 - 1


class Activate(Struct, frozen=True):
    """Value of `activate`: one or many input vectors."""

    inputs: Annotated[list[list[float]], Meta(min_length=1)]


class Learn(Struct, frozen=True):
    """Value of `learn`: the inputs of one example, and the error signal of this neuron."""

    inputs: list[float]
    delta: float


_activate = msgspec.msgpack.Decoder(Activate)
_learn = msgspec.msgpack.Decoder(Learn)
_create = msgspec.msgpack.Decoder(dict[str, Any])


def known(state: Tree | None) -> Tree:
    """The state of a neuron that exists; else raises `Refused('unknown-neuron')`."""
    if state is None:
        raise Refused("unknown-neuron")
    return state


def _left_out(weights: object) -> Tree:
    """Fields that `create` may leave out, as they are then."""
    return {
        "neuron_type": "standard",
        "activation": "identity",
        "bias": 0.0,
        "learning_rate": 0.01,
        "momentum": [0.0] * len(weights) if isinstance(weights, list) else [],
        "connections": [],
        "memory": {},
        "context": {},
        "response_time_ms": 0.0,
        "is_async": False,
        "created_at": 0,
        "carried": {},
    }


def newborn(state: Tree | None, value: bytes) -> Tree:
    """The neuron that a `create` makes; raises `Refused`: `exists`, `bad-value`."""
    if state is not None:
        raise Refused("exists")
    try:
        given = decode(_create, value)
        neuron = _left_out(given.get("weights")) | given
        validate(neuron)
    except Poison as error:
        raise Refused("bad-value", error.detail) from error
    if neuron["activation"] not in ACTIVATIONS:
        raise Refused("bad-value", f"activation {neuron['activation'][:64]!r}; known: {', '.join(sorted(ACTIVATIONS))}")
    learnt_once_more(neuron["memory"])
    return neuron


def inputs_of(value: bytes) -> list[list[float]]:
    """The input vectors of an `activate`, of one length; else raises `Refused('bad-value')`."""
    try:
        inputs = decode(_activate, value).inputs
    except Poison as error:
        raise Refused("bad-value", error.detail) from error
    if len(set(map(len, inputs))) > 1:
        raise Refused("bad-value", "inputs of several lengths")
    return inputs


def lesson_of(value: bytes, width: int) -> Learn:
    """The value of a `learn` for a neuron with `width` weights; else raises `Refused('bad-value')`."""
    try:
        lesson = decode(_learn, value)
    except Poison as error:
        raise Refused("bad-value", error.detail) from error
    check_width(len(lesson.inputs), width)
    return lesson


def check_width(found: int, weights: int) -> None:
    """Raises `Refused('bad-value')` unless there is one input per weight."""
    if found != weights:
        raise Refused("bad-value", f"{found} inputs for {weights} weights")


def learnt_once_more(memory: Tree) -> Tree:
    """The memory with one more in `learned`; raises `Refused('bad-value')` if that is no count."""
    learned = memory.get("learned", 0)
    if type(learned) is not int or not 0 <= learned < MOST_LEARNT:
        raise Refused("bad-value", "memory.learned is no count")
    return {**memory, "learned": learned + 1}


def not_finite() -> Refused:
    """The refusal of what leaves the finite numbers: inputs that are not finite end here too, whatever the weights."""
    return Refused("bad-value", "the result is not finite")


def created() -> bytes:
    """The answer to `create`: a neuron's first version in this life."""
    return canonical({"version": 1})


def activated(outputs: list[float]) -> bytes:
    """The answer to `activate`: one output per input vector."""
    return canonical({"outputs": outputs})


def learnt(back: list[float]) -> bytes:
    """The answer to `learn`: weights x delta before the update, the error to hand back to each input."""
    return canonical({"back": back})


def shown(neuron: Tree) -> bytes:
    """The answer to `read`: the neuron's map."""
    return canonical(neuron)


def deleted() -> bytes:
    """The answer to `delete`."""
    return canonical({})
