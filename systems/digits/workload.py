"""The client of the network: it classifies and trains by asking neuron after neuron, whoever serves them.

It holds no state of the network, only counts. A request that does not end `ok` makes its image or its training step
incomplete: that is counted and left, never guessed and never asked again, so each `learn` is at most one effect.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import msgspec
import numpy as np

from hal9.errors import Poison, Transient
from schemas.base import decode, encode
from systems.digits.data import Images
from systems.digits.network import (
    Array,
    Parameters,
    by_image,
    hidden_deltas,
    hidden_ids,
    neurons,
    output_deltas,
    output_ids,
)

COMPLEX = 64
"""Input vectors of a complex task: images are classified so many at a time."""


class Answered(Protocol):
    """What the workload needs of an answer."""

    @property
    def status(self) -> str:
        """`ok`, `error`, `rejected` or `timeout`."""

    @property
    def error(self) -> str | None:
        """A short code, when not ok."""

    @property
    def value(self) -> bytes:
        """The system's answer."""


Ask = tuple[str, str, bytes]
RequestMany = Callable[[list[Ask]], Awaitable[Sequence[Answered]]]


class _Outputs(msgspec.Struct, frozen=True):
    outputs: list[float]


class _Back(msgspec.Struct, frozen=True):
    back: list[float]


_outputs = msgspec.msgpack.Decoder(_Outputs)
_back = msgspec.msgpack.Decoder(_Back)


def _outputs_of(value: bytes) -> list[float]:
    return decode(_outputs, value).outputs


def _back_of(value: bytes) -> list[float]:
    return decode(_back, value).back


def _vectors(
    answers: Sequence[Answered], read: Callable[[bytes], list[float]], length: int
) -> list[list[float]] | None:
    """What each neuron answered; None if one gave no answer, or none of this form."""
    if any(answer.status != "ok" for answer in answers):
        return None
    try:
        vectors = [read(answer.value) for answer in answers]
    except Poison:
        return None
    return vectors if all(len(vector) == length for vector in vectors) else None


@dataclass(slots=True)
class Tally:
    """What became of the work so far.

    Attributes:
        classified: images of which every neuron answered.
        right: of those, the ones read rightly.
        skipped: images that a neuron gave no answer for.
        trained: training steps in which every neuron learnt.
        incomplete: training steps in which some did not, or that ended before anything was learnt.
        learnt: `learn` requests answered ok.
        unknown: `learn` requests answered `timeout`, which may have taken effect.
    """

    classified: int = 0
    right: int = 0
    skipped: int = 0
    trained: int = 0
    incomplete: int = 0
    learnt: int = 0
    unknown: int = 0

    @property
    def accuracy(self) -> float | None:
        """Share of the classified images that were read rightly; None if there are none."""
        return self.right / self.classified if self.classified else None


class Workload:
    """One client of any number of copies of the network. Steps of one copy must not overlap; copies are independent."""

    def __init__(self, request_many: RequestMany) -> None:
        self._ask = request_many
        self.tally = Tally()

    def __repr__(self) -> str:
        return f"<Workload {self.tally}>"

    async def create(self, copies: Sequence[int], hidden: Parameters, output: Parameters, attempts: int = 3) -> int:
        """Create the neurons of the copies; how many there are. One that exists is fine.

        Raises `Transient` if some could not be created.
        """
        wanted = [(key, "create", encode(state)) for copy in copies for key, state in neurons(copy, hidden, output)]
        left = wanted
        for _ in range(attempts):
            answers = await self._ask(left)
            left = [ask for ask, got in zip(left, answers, strict=True) if got.status != "ok" and got.error != "exists"]
            if not left:
                return len(wanted)
        raise Transient(f"{len(left)} of {len(wanted)} neurons could not be created, {left[0][0]} for one")

    async def classify(self, copy: int, images: Images) -> list[int | None]:
        """The digit each image shows, as this copy reads it; None where a neuron did not answer. Counted."""
        found: list[int | None] = []
        for start in range(0, len(images), COMPLEX):
            passed = await self._forward(copy, images.pixels[start : start + COMPLEX])
            if passed is None:
                found += [None] * len(images.labels[start : start + COMPLEX])
            else:
                found += passed[1].argmax(axis=1).tolist()
        for digit, label in zip(found, images.labels.tolist(), strict=True):
            self.tally.skipped += digit is None
            self.tally.classified += digit is not None
            self.tally.right += digit == label
        return found

    async def accuracy(self, copy: int, images: Images) -> float | None:
        """Share of the images that this copy reads rightly, of those it read; None if it read none."""
        found = await self.classify(copy, images)
        read = [digit == label for digit, label in zip(found, images.labels.tolist(), strict=True) if digit is not None]
        return sum(read) / len(read) if read else None

    async def train(self, copy: int, pixels: Array, label: int) -> bool:
        """One training step on one image: forward, outputs learn, hidden learn. Whether every neuron learnt."""
        passed = await self._forward(copy, pixels[None, :])
        complete = passed is not None and await self._backward(copy, pixels, passed[0][0], passed[1][0], label)
        self.tally.trained += complete
        self.tally.incomplete += not complete
        return complete

    async def _forward(self, copy: int, pixels: Array) -> tuple[Array, Array] | None:
        """Outputs of both layers, a row per image; None if a neuron did not answer."""
        inner = await self._activate(hidden_ids(copy), pixels)
        sums = None if inner is None else await self._activate(output_ids(copy), inner)
        return None if inner is None or sums is None else (inner, sums)

    async def _activate(self, keys: list[str], inputs: Array) -> Array | None:
        value = encode({"inputs": inputs.tolist()})
        answers = await self._ask([(key, "activate", value) for key in keys])
        outputs = _vectors(answers, _outputs_of, len(inputs))
        return None if outputs is None else by_image(outputs)

    async def _backward(self, copy: int, pixels: Array, inner: Array, sums: Array, label: int) -> bool:
        handed_back = await self._learn(output_ids(copy), inner, output_deltas(sums, label))
        if handed_back is None:
            return False
        return await self._learn(hidden_ids(copy), pixels, hidden_deltas(handed_back, inner)) is not None

    async def _learn(self, keys: list[str], inputs: Array, deltas: list[float]) -> list[list[float]] | None:
        """What each neuron hands back; None if one did not learn, as far as is known."""
        vector = inputs.tolist()
        asks = [
            (key, "learn", encode({"inputs": vector, "delta": delta})) for key, delta in zip(keys, deltas, strict=True)
        ]
        answers = await self._ask(asks)
        self.tally.learnt += sum(answer.status == "ok" for answer in answers)
        self.tally.unknown += sum(answer.status == "timeout" for answer in answers)
        return _vectors(answers, _back_of, len(vector))


def subset(images: Images, count: int, seed: int) -> Images:
    """`count` of the images, the same for the same seed."""
    chosen = np.random.default_rng(seed).permutation(len(images))[:count]
    return Images(images.pixels[chosen], images.labels[chosen])
