import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import msgpack
import numpy as np
import pytest

from hal9.backend.handler import BatchHandler, Refused, as_batch
from hal9.errors import Poison, Transient
from hal9.keys import bucket_of
from services.migrator.transform import canonical, copy_of_neuron, same, to_neuron
from systems.digits import network
from systems.digits.data import FILE, TRAINING, load
from systems.digits.network import copies_for, hidden_ids, neurons, output_ids
from systems.digits.replay import differing, effects, replayed
from systems.digits.workload import Workload, subset
from systems.flat.handler import FlatHandler
from systems.hierarchical.handler import HierarchicalHandler

Tree = dict[str, Any]


@dataclass
class Answer:
    status: str
    value: bytes = b""
    error: str | None = None


class InProcess:
    """A system without a log between: each request at once; `doom` gives some another end."""

    def __init__(self, handler: BatchHandler, shown: Callable[[Tree], Tree] = lambda state: state) -> None:
        self._handler, self._shown = handler, shown
        self.states: dict[str, Tree | None] = {}
        self.lessons: list[tuple[str, bytes]] = []
        self.asked: Counter[str] = Counter()
        self._dooms: list[tuple[str, str, Answer]] = []
        self._once = False

    def doom(self, *ends: Answer, key: str, operation: str = "", once: bool = False) -> None:
        """Requests with `key` in their key end so; what times out is done all the same. `once`: each end for one."""
        self._dooms, self._once = [(key, operation, end) for end in ends], once

    def _fate(self, key: str, operation: str) -> Answer | None:
        for doom in self._dooms:
            if doom[0] in key and doom[1] in operation:
                if self._once:
                    self._dooms.remove(doom)
                return doom[2]
        return None

    async def request_many(self, asks: list[tuple[str, str, bytes]]) -> Sequence[Answer]:
        items = [(self.states.get(key), operation, value) for key, operation, value in asks]
        return [self._end(*ask, result) for ask, result in zip(asks, self._handler.batch(items), strict=True)]

    def _end(self, key: str, operation: str, value: bytes, result: Any) -> Answer:
        self.asked[operation] += 1
        fate = self._fate(key, operation)
        if fate is not None and fate.status != "timeout":
            return fate
        if isinstance(result, Refused):
            return Answer("error", error=result.code)
        self.states[key] = result[0]
        if operation == "learn":
            self.lessons.append((key, value))
        return fate or Answer("ok", result[1])

    def neurons(self) -> dict[str, Tree]:
        return {key: self._shown(state) for key, state in self.states.items() if state is not None}


def in_flat() -> InProcess:
    return InProcess(as_batch(FlatHandler()))


def in_hierarchical() -> InProcess:
    return InProcess(HierarchicalHandler(), to_neuron)


both = pytest.mark.parametrize("system", [in_flat, in_hierarchical])


async def begun(system: InProcess, copies: int = 1) -> Workload:
    workload = Workload(system.request_many)
    held = load()
    assert await workload.create(range(copies), held.hidden, held.output) == copies * network.PER_COPY
    return workload


async def trained(workload: Workload, steps: int) -> None:
    images = load().training
    for index in range(steps):
        assert await workload.train(0, images.pixels[index], int(images.labels[index]))


def test_the_package_data_is_small_and_whole() -> None:
    held = load()
    assert FILE.stat().st_size < 110_000
    assert (len(held.training), len(held.testing)) == (TRAINING, 360)
    assert held.training.pixels.min() == 0.0
    assert held.training.pixels.max() == 1.0
    assert held.hidden.weights.shape == (48, 64)
    assert held.output.momentum.shape == (10, 48)
    with pytest.raises(ValueError, match="read-only"):
        held.hidden.weights[0, 0] = 1.0


def test_every_neuron_is_valid_and_the_network_fills_all_five_layers() -> None:
    held = load()
    units = [copy_of_neuron(state) for _, state in neurons(3, held.hidden, held.output)]
    assert {unit["layer"] for unit in units} == {"reflexive", "implementation", "operational", "tactical", "strategic"}
    assert [unit["unit_id"] for unit in units] == hidden_ids(3) + output_ids(3)
    assert max(len(canonical(unit)) for unit in units) < 4096


@both
async def test_the_packaged_network_reads_more_than_95_percent_rightly(system: Callable[[], InProcess]) -> None:
    served = system()
    workload = await begun(served)
    accuracy = await workload.accuracy(0, load().testing)
    assert accuracy is not None
    assert 0.95 < accuracy < 0.99
    assert workload.tally.accuracy == accuracy
    assert workload.tally.classified == 360
    assert served.asked["activate"] == 6 * network.PER_COPY


@both
async def test_training_goes_on_where_it_left_off(system: Callable[[], InProcess]) -> None:
    workload = await begun(system())
    before = await workload.accuracy(0, load().testing)
    await trained(workload, 300)
    after = await workload.accuracy(0, load().testing)
    assert before is not None
    assert after is not None
    assert after >= before - 0.02
    assert workload.tally.trained == 300
    assert workload.tally.learnt == 300 * network.PER_COPY


async def test_an_untrained_network_learns_to_read() -> None:
    held = load()
    random = np.random.default_rng(1)
    fresh = [
        network.Parameters(random.normal(scale=0.2, size=layer.weights.shape), layer.momentum * 0, layer.bias * 0)
        for layer in (held.hidden, held.output)
    ]
    workload = Workload(in_hierarchical().request_many)
    await workload.create([0], fresh[0], fresh[1])
    before = await workload.accuracy(0, held.testing)
    await trained(workload, 400)
    after = await workload.accuracy(0, held.testing)
    assert before is not None
    assert after is not None
    assert before < 0.3
    assert after > 0.7


async def test_both_systems_hold_the_same_bits_after_the_same_training() -> None:
    flat, hierarchical = in_flat(), in_hierarchical()
    await trained(await begun(flat), 60)
    await begun(hierarchical)
    for start in range(0, len(flat.lessons), network.PER_COPY):
        step = flat.lessons[start : start + network.PER_COPY]
        await hierarchical.request_many([(key, "learn", value) for key, value in step])
    assert flat.neurons().keys() == hierarchical.neurons().keys()
    for key, state in flat.neurons().items():
        assert canonical(hierarchical.neurons()[key]) == canonical(state)


async def test_a_replay_finds_the_owners_state_bit_for_bit() -> None:
    held = load()
    for system in (in_flat(), in_hierarchical()):
        workload = await begun(system, copies=2)
        await trained(workload, 25)
        start = dict(pair for copy in range(2) for pair in neurons(copy, held.hidden, held.output))
        final = replayed(start, system.lessons)
        assert differing(final, system.neurons()) == []
        assert effects(final.values()) == effects(system.neurons().values()) == 25 * network.PER_COPY
        key, value = system.lessons[-1]
        assert differing(replayed(start, system.lessons[:-1]), system.neurons()) == [key]
        assert differing(replayed(start, [*system.lessons, (key, value)]), system.neurons()) == [key]
        swapped = [*system.lessons[network.PER_COPY :], *system.lessons[: network.PER_COPY]]
        assert len(differing(replayed(start, swapped), system.neurons())) > 40


def test_a_replay_refuses_a_lesson_that_cannot_have_taken_effect() -> None:
    held = load()
    start = dict(neurons(0, held.hidden, held.output))
    with pytest.raises(Poison, match="unknown-neuron"):
        replayed(start, [("digits/1/hidden/0", b"")])
    with pytest.raises(Poison, match="refused"):
        replayed(start, [("digits/0/hidden/0", msgpack.packb({"inputs": [], "delta": 0.0}))])


def test_a_difference_in_the_last_bit_or_a_key_too_few_is_seen() -> None:
    held = load()
    start = dict(neurons(0, held.hidden, held.output))
    key = "digits/0/hidden/3"
    nudged = {**start[key], "bias": float(np.nextafter(start[key]["bias"], 1e9))}
    assert differing(start, {**start, key: nudged}) == [key]
    assert differing(start, {**start, key: {**start[key], "memory": {"learned": 9}}}) == []
    assert differing(start, {k: v for k, v in start.items() if k != key}) == [key]
    assert differing({k: v for k, v in start.items() if k != key}, start) == [key]


async def test_a_neuron_that_does_not_answer_costs_its_images_and_steps_and_nothing_else() -> None:
    system = in_flat()
    workload = await begun(system)
    images = subset(load().testing, 100, seed=1)
    for end in ("timeout", "error", "rejected"):
        system.doom(Answer(end), key="digits/0/output/7")
        assert await workload.classify(0, images) == [None] * 100
        assert await workload.accuracy(0, images) is None
        assert not await workload.train(0, images.pixels[0], int(images.labels[0]))
    assert (workload.tally.classified, workload.tally.skipped) == (0, 600)
    assert (workload.tally.trained, workload.tally.incomplete, workload.tally.learnt) == (0, 3, 0)
    assert workload.tally.accuracy is None


async def test_a_chunk_of_images_is_lost_alone() -> None:
    system = in_flat()
    workload = await begun(system)
    system.doom(Answer("timeout"), key="digits/0/hidden/0", once=True)
    found = await workload.classify(0, subset(load().testing, 100, seed=1))
    assert found[:64] == [None] * 64
    assert None not in found[64:]
    assert (workload.tally.classified, workload.tally.skipped) == (36, 64)


async def test_lessons_of_unknown_end_are_counted_as_unknown() -> None:
    system = in_flat()
    workload = await begun(system)
    system.doom(Answer("timeout"), key="/hidden/5", operation="learn")
    images = load().training
    assert not await workload.train(0, images.pixels[0], int(images.labels[0]))
    assert (workload.tally.learnt, workload.tally.unknown) == (network.PER_COPY - 1, 1)
    assert effects(system.neurons().values()) == workload.tally.learnt + workload.tally.unknown
    system.doom(Answer("error"), key="/output/", operation="learn")
    assert not await workload.train(0, images.pixels[1], int(images.labels[1]))
    assert effects(system.neurons().values()) == workload.tally.learnt + workload.tally.unknown


@pytest.mark.parametrize("value", [b"", b"\xc1", msgpack.packb({"outputs": [1.0]}), msgpack.packb({"outputs": "x"})])
async def test_an_answer_of_another_form_is_no_answer(value: bytes) -> None:
    system = in_flat()
    workload = await begun(system)
    system.doom(Answer("ok", value), key="digits/0/hidden/1")
    assert await workload.classify(0, subset(load().testing, 10, seed=1)) == [None] * 10


async def test_neurons_that_were_not_created_are_asked_for_again_and_then_given_up() -> None:
    held = load()
    system = in_flat()
    system.doom(Answer("timeout"), Answer("rejected"), key="digits/0/hidden/7", once=True)
    workload = Workload(system.request_many)
    assert await workload.create([0], held.hidden, held.output) == network.PER_COPY
    assert len(system.neurons()) == network.PER_COPY
    assert system.asked["create"] == network.PER_COPY + 2
    system.doom(Answer("error", error="unavailable"), key="")
    with pytest.raises(Transient, match="58 of 58"):
        await workload.create([1], held.hidden, held.output)


async def test_copies_train_side_by_side_without_touching_each_other() -> None:
    held = load()
    together, alone = in_hierarchical(), in_hierarchical()
    workload = await begun(together, copies=3)
    images = held.training
    await asyncio.gather(*(workload.train(copy, images.pixels[copy], int(images.labels[copy])) for copy in range(3)))
    other = await begun(alone, copies=3)
    for copy in range(3):
        await other.train(copy, images.pixels[copy], int(images.labels[copy]))
    assert differing(together.neurons(), alone.neurons()) == []
    assert not same(together.neurons()["digits/0/output/0"], together.neurons()["digits/1/output/0"])


def test_a_hidden_neuron_that_was_silent_gets_no_error_signal() -> None:
    backs = [[1.0, 2.0, 4.0], [0.5, -3.0, 8.0]]
    assert network.hidden_deltas(backs, np.array([0.1, 7.0, 0.0])) == [1.5, -1.0, 0.0]


def test_the_error_signal_of_an_output_is_probability_less_truth() -> None:
    assert network.output_deltas(np.array([0.0, 0.0]), 1) == [0.5, -0.5]
    assert network.output_deltas(np.array([1000.0, -1000.0]), 0) == [0.0, 0.0]


def test_enough_copies_for_one_percent_to_hold_five_neurons() -> None:
    def bucket(key: str) -> int:
        return bucket_of("hal9/route", key.encode())

    copies = copies_for(bucket, bound=100, at_least=5)

    def below(count: int) -> int:
        keys = [key for copy in range(count) for key in (*hidden_ids(copy), *output_ids(copy))]
        return sum(bucket(key) < 100 for key in keys)

    assert below(copies) >= 5 > below(copies - 1)
    assert copies < 40
    assert copies_for(lambda _: 0, bound=1, at_least=58) == 1
    assert copies_for(lambda _: 0, bound=1, at_least=59) == 2
    with pytest.raises(ValueError, match="not 5"):
        copies_for(lambda _: 9999, bound=100, at_least=5, most=3)
