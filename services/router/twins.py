"""Requests that flat runs twice: how often does it differ from itself where it differs from hierarchical? Pure.

A twin is never awaited. Of each pair (shadow, twin) of one request the fields in which each differed from flat's first
run are counted side by side; `hal9.stats.paired` tells from the counts what is noise.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass

from hal9.compare import RuleBook
from hal9.compare.paths import field_class
from hal9.control.reducer import salt
from hal9.keys import bucket_of
from hal9.wire import Response
from schemas.reports import DivergenceKind, FieldDifference
from services.router.entry import Entry
from services.router.outcomes import Field, OutcomeBook

TWIN_SALT = "twin"
MAX_TWINS = 1_000
"""Of one partition that are awaited; what is dispatched beyond that has none."""

Fields = frozenset[Field]
Judge = Callable[
    [Response, Response, bytes | None, RuleBook, str, float], list[tuple[DivergenceKind, list[FieldDifference]]]
]


@dataclass(slots=True)
class Pair:
    """One request: flat's first run and what the shadow differed in (once compared), and flat's second run."""

    operation: str
    epoch: int
    first: Response | None = None
    shadow: Fields | None = None
    second: Response | None = None


class Twins:
    """Twins of one partition."""

    def __init__(self, migration: str, book: OutcomeBook, rules: RuleBook, judge: Judge) -> None:
        self._salt, self._book, self._rules, self._judge = salt(migration, TWIN_SALT), book, rules, judge
        self._pairs: dict[int, Pair] = {}

    def __len__(self) -> int:
        return len(self._pairs)

    def expect(self, entry: Entry, bound: int) -> bool:
        """A request is about to be dispatched with a shadow: it has a twin too if its key lies below `bound`.

        The buckets (10,000) are those of a salt of their own.
        """
        if entry.key is None or entry.known is None:
            return False
        bucket = entry.known.twin_bucket
        if bucket < 0:
            bucket = entry.known.twin_bucket = bucket_of(self._salt, entry.key)
        if bucket >= bound:
            return False
        if len(self._pairs) >= MAX_TWINS:
            self._book.twin_dropped()
            return False
        self._pairs[entry.position] = Pair(entry.request.operation, entry.epoch)
        return True

    def compared(
        self,
        entry: Entry,
        first: Response,
        found: Collection[tuple[DivergenceKind, list[FieldDifference]]] | None,
        now_ms: float,
    ) -> None:
        """Primary and shadow were compared (None: they could not be), and flat's run was `first`."""
        pair = self._pairs.get(entry.position)
        if pair is None:
            return
        if found is None:
            del self._pairs[entry.position]
            return
        pair.first, pair.shadow = first, _classes(found)
        self._both(entry.position, pair, now_ms)

    def answered(self, response: Response, now_ms: float) -> None:
        """Flat ran it a second time."""
        pair = self._pairs.get(response.position)
        if pair is None or pair.epoch != response.epoch:
            return
        self._book.twinned(now_ms, ok=response.ok)
        pair.second = response
        self._both(response.position, pair, now_ms)

    def forget(self, position: int) -> None:
        """Nobody waits any more."""
        self._pairs.pop(position, None)

    def _both(self, position: int, pair: Pair, now_ms: float) -> None:
        first, second, shadow = pair.first, pair.second, pair.shadow
        if first is None or second is None or shadow is None:
            return
        del self._pairs[position]
        if first.state_version == second.state_version:
            found = self._judge(first, second, second.state_diff, self._rules, pair.operation, now_ms)
            self._book.paired(pair.operation, shadow, _classes(found), now_ms)


def _classes(found: Collection[tuple[DivergenceKind, list[FieldDifference]]]) -> Fields:
    return frozenset((kind, field_class(field.path)) for kind, fields in found for field in fields)
