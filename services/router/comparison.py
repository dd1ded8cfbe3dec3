"""Pairs of executions of one request, and what differed: counts for `outcomes`, records for `divergences`. Pure."""

import heapq
from collections.abc import Iterator

import msgspec

from hal9.compare import Tolerance, differences
from hal9.wire import Response
from schemas.base import FLAT, System, encode
from schemas.reports import Divergence, DivergenceKind, FieldDifference
from services.router.entry import Entry, Result
from services.router.outcomes import OutcomeBook

INCOMPARABLE = b"incomparable"
"""Error code of a shadow that could not run on the state that the primary ran on."""

Report = tuple[bytes | None, bytes]
_state_diff = msgspec.json.Decoder(list[FieldDifference | str])


class Comparer:
    """Holds what was shadowed until both sides are there, or nobody waits any more."""

    def __init__(self, partition: int, book: OutcomeBook, tolerance: Tolerance, grace_ms: float) -> None:
        self._partition, self._book, self._tolerance, self._grace_ms = partition, book, tolerance, grace_ms
        self._pairs: dict[int, Entry] = {}
        self._until: list[tuple[float, int]] = []

    def __len__(self) -> int:
        return len(self._pairs)

    def expect(self, entry: Entry) -> None:
        """A request was dispatched with a shadow."""
        if entry.position not in self._pairs:
            heapq.heappush(self._until, (entry.request.deadline_ms + self._grace_ms, entry.position))
        self._pairs[entry.position] = entry

    def primary(self, entry: Entry, result: Result, now_ms: float) -> Iterator[Report]:
        """The owner answered."""
        entry.primary = result
        return self._both(entry, now_ms)

    def shadow(self, system: System, response: Response, result: Result, now_ms: float) -> Iterator[Report]:
        """The other system answered, in the role of the shadow."""
        entry = self._pairs.get(response.position)
        if entry is None or entry.shadow != system or entry.epoch != response.epoch:
            return iter(())
        entry.shadowed = result
        if not result.ok and result.error != INCOMPARABLE:
            self._book.shadow_failed(system, now_ms)
        return self._both(entry, now_ms)

    def abandon(self, entry: Entry, now_ms: float) -> Iterator[Report]:
        """The request timed out: there is nothing to compare with."""
        if self._pairs.pop(entry.position, None) is not None:
            self._book.compared("incomparable", entry.epoch, now_ms)
        return iter(())

    def expire(self, now_ms: float) -> Iterator[Report]:
        """Shadows that were never answered."""
        while self._until and self._until[0][0] <= now_ms:
            entry = self._pairs.pop(heapq.heappop(self._until)[1], None)
            if entry is not None:
                self._book.compared("one_sided" if entry.primary else "incomparable", entry.epoch, now_ms)
                if entry.primary:
                    yield self._divergence(entry, "missing", [], now_ms)

    def _both(self, entry: Entry, now_ms: float) -> Iterator[Report]:
        primary, shadow = entry.primary, entry.shadowed
        if primary is None or shadow is None:
            return
        self._pairs.pop(entry.position, None)
        kind, fields, result = self._judge(entry, primary, shadow)
        self._book.compared(result, entry.epoch, now_ms)
        if kind is not None:
            yield self._divergence(entry, kind, fields, now_ms)
        entry.primary = entry.shadowed = None

    def _judge(
        self, entry: Entry, primary: Result, shadow: Result
    ) -> tuple[DivergenceKind | None, list[FieldDifference], str]:
        """Four cases: they ran on unequal state; one side failed; both failed; both are ok."""
        flat, hierarchical = (primary, shadow) if entry.owner == FLAT else (shadow, primary)
        if (shadow.error == INCOMPARABLE and not shadow.ok) or primary.state_version != shadow.state_version:
            return None, [], "incomparable"
        if primary.ok != shadow.ok:
            return "status", [_status(flat, hierarchical)], "one_sided"
        if not primary.ok:
            if primary.error == shadow.error:
                return None, [], "both_failed"
            return "status", [_status(flat, hierarchical)], "divergent"
        fields = differences(flat.value, hierarchical.value, self._tolerance)
        if fields:
            return "value", fields, "divergent"
        fields = _state_fields(shadow.state_diff)
        return ("state", fields, "divergent") if fields else (None, [], "equal")

    def _divergence(self, entry: Entry, kind: DivergenceKind, fields: list[FieldDifference], now_ms: float) -> Report:
        self._book.diverged(kind)
        found = Divergence(
            id=entry.request.id,
            position=f"{self._partition}:{entry.position}",
            operation=entry.request.operation,
            epoch=entry.epoch,
            primary=entry.owner or FLAT,
            kind=kind,
            fields=fields,
            state_version=entry.primary.state_version if entry.primary else 0,
            at_ms=int(now_ms),
        )
        return entry.key, encode(found)


def _status(flat: Result, hierarchical: Result) -> FieldDifference:
    return FieldDifference(path="status", flat=_shown(flat), hierarchical=_shown(hierarchical), rule="exact")


def _shown(result: Result) -> str:
    return "ok" if result.ok else f"error: {(result.error or b'').decode('utf-8', 'replace')}"


def _state_fields(diff: bytes | None) -> list[FieldDifference]:
    """What the shadowing system reported; a cut or foreign text still says that something differs."""
    if not diff or diff == b"[]":
        return []
    try:
        found = _state_diff.decode(diff)
    except (msgspec.MsgspecError, ValueError):
        return [FieldDifference(path="(state)", flat=None, hierarchical=None, rule="reported by the shadow")]
    return [FieldDifference(path=f, rule="exact") if isinstance(f, str) else f for f in found]
