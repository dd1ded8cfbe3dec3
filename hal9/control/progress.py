"""How a migration stands: what `control` says, and how far the services have come by their heartbeats. Pure."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

from hal9.control.reducer import ControlState, Outcome, fold
from schemas.base import Percentage, encode
from schemas.control import AnyControl, Phase, Pin
from schemas.telemetry import Status


@dataclass(frozen=True, slots=True)
class Progress:
    """One look at a migration.

    Attributes:
        standing: `not started`, `running`, `frozen`, `rolled back`, `finished` or `failed`.
        intended: percentage of the keys that hierarchical owns by the newest epoch.
        effective: the same by what each partition has settled, averaged over them: what is on its way is with its old
            owner still.
        acknowledged: partitions whose router is at the newest epoch.
        holding: why the plan does not go on, as its orchestrator says.
        settled: partitions that have handed over in the newest epoch.
        hand_over: what each of the others waits for, and for how long it has.
        backfilled: percentage of the keys that hierarchical holds, in the partition that has the least.
        services: living instances per service.
    """

    migration: str
    standing: str
    reason: str
    epoch: int
    phase: Phase | None
    step: str
    holding: list[str]
    intended: Percentage
    effective: float
    partitions: int
    acknowledged: int
    settled: int
    hand_over: dict[int, str]
    backfill: Percentage
    backfilled: float | None
    pinned: int
    services: dict[str, int]
    in_flight: int
    waiting: int
    quarantined: int


def epochs_of_route(state: ControlState) -> range:
    """The present epoch and those before it with the same owners: a pin holds a key where it is and moves none."""
    first = state.epoch
    for entry in reversed(state.history):
        if not isinstance(entry.record, Pin):
            break
        first = entry.epoch - 1
    return range(first, state.epoch + 1)


def progress(state: ControlState, alive: Sequence[Status], partitions: int) -> Progress:
    """What the folded log and the newest heartbeats of the living say together."""
    marked = {p: max(epochs) for p in range(partitions) if (epochs := _epochs(alive, p))}
    copied = [
        max((s.backfilled.get(p, 0.0) for s in alive if s.service == "migrator"), default=0.0)
        for p in range(partitions)
    ]
    standing, reason = _standing(state)
    return Progress(
        migration=state.migration,
        standing=standing,
        reason=reason,
        epoch=state.epoch,
        phase=state.phase,
        step=_step(state),
        holding=next((s.holding for s in alive if s.holding), []) if standing == "running" else [],
        intended=state.route.percentage,
        effective=effective(state, partitions),
        partitions=partitions,
        acknowledged=sum(1 for epoch in marked.values() if epoch >= state.epoch),
        settled=sum(1 for p in range(partitions) if max(state.settled.get(p, {}), default=0) >= state.epoch),
        hand_over=hand_over(state, alive, partitions),
        backfill=state.backfill,
        backfilled=min(copied) if any(s.service == "migrator" for s in alive) else None,
        pinned=len(state.route.pins),
        services=dict(sorted(Counter(status.service for status in alive).items())),
        in_flight=sum(status.in_flight for status in alive if status.service == "router"),
        waiting=sum(status.waiting for status in alive if status.service == "router"),
        quarantined=sum(status.quarantined for status in alive),
    )


def effective(state: ControlState, partitions: int) -> float:
    """Share of the buckets that hierarchical has in fact, in percent: per partition, by the newest epoch it settled."""
    shares = [state.history[max(state.settled.get(p, {}), default=0)].route.percentage for p in range(partitions)]
    return sum(shares) / len(shares) if shares else 0.0


def hand_over(state: ControlState, alive: Sequence[Status], partitions: int) -> dict[int, str]:
    """What each partition waits for that has not settled the newest epoch, as its migrator says."""
    told = {p: waits for status in alive for p, waits in status.handing_over.items()}
    found: dict[int, str] = {}
    for partition in range(partitions):
        if max(state.settled.get(partition, {}), default=0) >= state.epoch:
            continue
        waits = told.get(partition)
        if waits is None:
            found[partition] = "no migrator speaks for it"
        else:
            found[partition] = f"waits for {waits.waits_for} since {waits.for_ms / 1000:.1f} s (epoch {waits.epoch})"
    return found


def _epochs(alive: Sequence[Status], partition: int) -> list[int]:
    return [s.epochs[partition] for s in alive if s.service == "router" and partition in s.epochs]


def _standing(state: ControlState) -> tuple[str, str]:
    if state.rolled_back is not None:
        return "rolled back", next(e.why for e in state.history if e.epoch == state.rolled_back)
    if state.frozen is not None:
        return "frozen", state.frozen
    if state.plan is None:
        return "not started", ""
    entries = state.journal[state.started_entry :]
    if entries and entries[-1].state in ("finished", "failed"):
        return entries[-1].state, ""
    return "running", ""


def _step(state: ControlState) -> str:
    entries = state.journal[state.started_entry :]
    if not entries:
        return ""
    last = entries[-1]
    return f"{last.phase} step {last.step} ({last.percentage:g} %): {last.state}"


def preview(state: ControlState, record: AnyControl) -> tuple[Outcome, ControlState]:
    """What the reducer would make of `record` now; `state` is left as it is."""
    after = replace(
        state,
        history=list(state.history),
        settled={partition: dict(epochs) for partition, epochs in state.settled.items()},
        journal=list(state.journal),
        refusals=list(state.refusals),
        unknown=list(state.unknown),
        ids=set(state.ids),
    )
    return fold(after, state.position, encode(record)), after
