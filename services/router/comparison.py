"""Pairs of executions of one request, and what differed: counts for `outcomes`, records for `divergences`. Pure."""

from collections.abc import Iterator, Sequence

from hal9.compare import RuleBook, differences
from hal9.compare.showing import cut
from hal9.wire import INCOMPARABLE, Response
from schemas.base import FLAT, System, encode
from schemas.reports import Divergence, DivergenceKind, FieldDifference
from services.router.deadlines import Deadlines
from services.router.entry import Entry
from services.router.outcomes import OutcomeBook
from services.router.reported import state_fields
from services.router.twins import Twins

MAX_PAIRS = 5_000
"""Of one partition that wait for one side; with more, the router is pressed and shadows nothing."""

Report = tuple[bytes | None, bytes]
Difference = tuple[DivergenceKind, list[FieldDifference]]


class Comparer:
    """Holds what was shadowed until both sides are there, or nobody waits any more."""

    def __init__(self, partition: int, book: OutcomeBook, rules: RuleBook, grace_ms: float, twins: Twins) -> None:
        self._partition, self._book, self._rules, self._grace_ms = partition, book, rules, grace_ms
        self._pairs: dict[int, Entry] = {}
        self._until = Deadlines()
        self.twins = twins

    def __len__(self) -> int:
        return len(self._pairs)

    def expect(self, entry: Entry, shadow: System, twin_bound: int) -> None:
        """A request is about to be dispatched with a shadow; keys below `twin_bound` have a twin beside."""
        if entry.position not in self._pairs:
            self._until.add(entry.request.deadline_ms + self._grace_ms, entry.position)
        entry.shadow, entry.dispatched_ms = shadow, 0.0
        self._pairs[entry.position] = entry
        entry.twin = twin_bound > 0 and self.twins.expect(entry, twin_bound)

    def primary(self, entry: Entry, response: Response, now_ms: float) -> Sequence[Report]:
        """The owner answered."""
        entry.primary = response
        return self._both(entry, now_ms)

    def shadow(self, system: System, response: Response, now_ms: float) -> Sequence[Report]:
        """The other system answered, in the role of the shadow (or flat once more, in that of the twin)."""
        if response.role == b"twin":
            if system == FLAT:
                self.twins.answered(response, now_ms)
            return ()
        entry = self._pairs.get(response.position)
        if entry is None or entry.shadow != system or entry.epoch != response.epoch:
            return ()
        entry.shadowed = response
        if response.ok or response.error != INCOMPARABLE:
            since_ms = entry.dispatched_ms or entry.received_ms
            self._book.shadowed(system, now_ms - since_ms, now_ms, ok=response.ok)
        return self._both(entry, now_ms)

    def abandon(self, entry: Entry, now_ms: float) -> Sequence[Report]:
        """The request timed out: there is nothing to compare with."""
        if self._pairs.pop(entry.position, None) is not None:
            self._book.compared("incomparable", entry.epoch, now_ms)
            self.twins.forget(entry.position)
        return ()

    def expire(self, now_ms: float) -> Iterator[Report]:
        """Shadows that were never answered."""
        for position in self._until.due(now_ms):
            entry = self._pairs.pop(position, None)
            self.twins.forget(position)
            if entry is not None:
                self._book.compared("one_sided" if entry.primary else "incomparable", entry.epoch, now_ms)
                if entry.primary:
                    yield from self._divergence(entry, entry.primary.state_version, "missing", [], now_ms)

    def _both(self, entry: Entry, now_ms: float) -> Sequence[Report]:
        primary, shadow = entry.primary, entry.shadowed
        if primary is None or shadow is None:
            return ()
        self._pairs.pop(entry.position, None)
        result, found = self._judge(entry, primary, shadow, now_ms)
        self._book.compared(result, entry.epoch, now_ms)
        if entry.twin:
            flat = primary if entry.owner == FLAT else shadow
            self.twins.compared(entry, flat, None if result == "incomparable" else found, now_ms)
        entry.primary = entry.shadowed = None
        if not found:
            return ()
        version = primary.state_version
        return [report for kind, fields in found for report in self._divergence(entry, version, kind, fields, now_ms)]

    def _judge(self, entry: Entry, primary: Response, shadow: Response, now_ms: float) -> tuple[str, list[Difference]]:
        """They ran on unequal state, which says nothing; or what differs says how it ended."""
        if (shadow.error == INCOMPARABLE and not shadow.ok) or primary.state_version != shadow.state_version:
            return "incomparable", []
        flat, hierarchical = (primary, shadow) if entry.owner == FLAT else (shadow, primary)
        found = judged(flat, hierarchical, shadow.state_diff, self._rules, entry.request.operation, now_ms)
        if found:
            return ("divergent" if primary.ok == shadow.ok else "one_sided"), found
        return ("equal" if primary.ok else "both_failed"), found

    def _divergence(
        self, entry: Entry, version: int, kind: DivergenceKind, fields: list[FieldDifference], now_ms: float
    ) -> Iterator[Report]:
        self._book.diverged(kind)
        if not self._book.sampling.admits(entry.request.operation, kind, fields, now_ms):
            return
        found = Divergence(
            id=entry.request.id,
            position=f"{self._partition}:{entry.position}",
            operation=entry.request.operation,
            epoch=entry.epoch,
            primary=entry.owner or FLAT,
            kind=kind,
            fields=fields,
            state_version=version,
            at_ms=int(now_ms),
        )
        yield entry.key, encode(found)


def judged(
    flat: Response, hierarchical: Response, state_diff: bytes | None, rules: RuleBook, operation: str, now_ms: float
) -> list[Difference]:
    """What differs between two executions on equal state, by kind.

    Three cases: one failed, or both did and not alike; both failed alike; both are ok, and their answers and resulting
    states are compared (the states were, by the system that ran second).
    """
    if not (flat.ok and hierarchical.ok):
        if flat.ok == hierarchical.ok and flat.error == hierarchical.error:
            return []
        status = FieldDifference(path="status", flat=_shown(flat), hierarchical=_shown(hierarchical), rule="exact")
        return [("status", [status])]
    found: list[Difference] = []
    if flat.value != hierarchical.value:
        values = differences(flat.value, hierarchical.value, rules, operation, now_ms)
        if values:
            found.append(("value", values))
    if state_diff and state_diff != b"[]":
        states = state_fields(state_diff, rules, operation)
        if states:
            found.append(("state", states))
    return found


def _shown(response: Response) -> object:
    return "ok" if response.ok else cut(f"error: {(response.error or b'').decode('utf-8', 'replace')}")
