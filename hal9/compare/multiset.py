"""Lists whose order does not count. Pure: the verdict is symmetric and the same for any order of either list."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from math import isclose
from typing import TYPE_CHECKING

from hal9.compare.showing import canonical

if TYPE_CHECKING:
    from hal9.compare.rules import Tolerance

MAX_LEFT = 32
"""Items without an exactly equal one that are paired by the rules; if there are more, the lists differ."""

Same = Callable[[object, object], bool]


def unmatched(
    a: Sequence[object], b: Sequence[object], same: Same, within: "Tolerance | None"
) -> tuple[list[object], list[object]]:
    """The items of each list without a partner in the other; both empty if they are the same multiset.

    Floats are paired in their order, which finds a pairing within a tolerance if there is one. Other items are paired
    with an exactly equal one first, and what is left by `same`.
    """
    if within is not None and len(a) == len(b) and _floats(a) and _floats(b):
        left, right = sorted(a), sorted(b)  # type: ignore[type-var]  # floats, none of them NaN
        apart = [
            (x, y)
            for x, y in zip(left, right, strict=True)
            if x != y and not isclose(x, y, rel_tol=within.relative, abs_tol=within.absolute)  # type: ignore[arg-type]
        ]
        return [x for x, _ in apart], [y for _, y in apart]
    left, right = _without_equals(a, b)
    if len(left) != len(right) or len(left) > MAX_LEFT:
        return left, right
    return _without_pairs(left, right, same)


def _floats(items: Sequence[object]) -> bool:
    return all(isinstance(item, float) and item == item for item in items)  # noqa: PLR0124  NaN has no order


def _without_equals(a: Sequence[object], b: Sequence[object]) -> tuple[list[object], list[object]]:
    there: dict[bytes, list[object]] = defaultdict(list)
    for item in b:
        there[canonical(item)].append(item)
    left = []
    for item in a:
        equals = there.get(canonical(item))
        if equals:
            equals.pop()
        else:
            left.append(item)
    return sorted(left, key=canonical), [item for key in sorted(there) for item in there[key]]


def _without_pairs(left: list[object], right: list[object], same: Same) -> tuple[list[object], list[object]]:
    """A greatest pairing, by augmenting paths."""
    fits = [[j for j, y in enumerate(right) if same(x, y)] for x in left]
    partner: dict[int, int] = {}

    def pair(i: int, tried: set[int]) -> bool:
        for j in fits[i]:
            if j not in tried:
                tried.add(j)
                if j not in partner or pair(partner[j], tried):
                    partner[j] = i
                    return True
        return False

    alone = [i for i in range(len(left)) if not pair(i, set())]
    paired = set(partner.values())
    return (
        [left[i] for i in range(len(left)) if i not in paired] if alone else [],
        [right[j] for j in range(len(right)) if j not in partner] if alone else [],
    )
