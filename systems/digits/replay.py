"""What the network must be after a run: the same `learn` requests, replayed offline in the order of the log. Pure.

The flat system's own handler does it, so the result is equal to the owners' states bit for bit, or learning was lost,
repeated or reordered.
"""

from collections.abc import Iterable, Mapping

from hal9.backend.handler import Refused
from hal9.errors import Poison
from schemas.base import Tree
from services.migrator.transform import same
from systems.flat.handler import FlatHandler

LEARNT_FIELDS = ("weights", "bias", "momentum")


def replayed(neurons: Mapping[str, Tree], lessons: Iterable[tuple[str, bytes]]) -> dict[str, Tree]:
    """The neurons after the lessons (key and value of each `learn` that took effect, in position order per neuron).

    Raises `Poison` (`unknown-neuron`, `refused`) if a lesson could not have taken effect.
    """
    handler = FlatHandler()
    states = dict(neurons)
    for key, value in lessons:
        if key not in states:
            raise Poison("unknown-neuron", key)
        try:
            after, _ = handler(states[key], "learn", value)
        except Refused as refused:
            raise Poison("refused", f"{key}: {refused}") from refused
        assert after is not None  # `learn` never deletes
        states[key] = after
    return states


def differing(expected: Mapping[str, Tree], found: Mapping[str, Tree]) -> list[str]:
    """Keys whose weights, bias or momentum are not equal bit for bit, and keys that only one side has; sorted."""
    return sorted(
        key
        for key in expected.keys() | found.keys()
        if key not in expected
        or key not in found
        or not all(same(expected[key].get(name), found[key].get(name)) for name in LEARNT_FIELDS)
    )


def effects(states: Iterable[Tree]) -> int:
    """How many `learn` requests took effect: the sum of `memory.learned` over neurons."""
    return sum(state["memory"].get("learned", 0) for state in states)
