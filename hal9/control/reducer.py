"""The one fold of `control`: which records count, and what state they make. Pure; every service shares it.

Total order of one partition, compare-and-set on the epoch (or the journal), idempotent by record id. The epoch is the
count of accepted records that change the route. A stale or illegal record changes nothing but is listed as refused.
"""

from dataclasses import dataclass, field
from typing import Literal, get_args

from msgspec.structs import replace

from hal9.control.flags import problems, promotes, rolled_back, route_of
from hal9.control.route import Route
from hal9.errors import Poison
from hal9.keys import bucket_of
from schemas.base import System, Tree, decode
from schemas.control import (
    PHASES,
    AnyControl,
    Backfill,
    Flags,
    Freeze,
    Journal,
    Phase,
    Pin,
    Rollback,
    SetFlags,
    Settled,
    Start,
    decoder,
    envelope_decoder,
)
from schemas.control import Route as RouteRecord
from schemas.state import Layer

Verdict = Literal["accepted", "duplicate", "refused", "foreign", "unknown"]
ROUTE_SALT = "route"
SHADOW_SALT = "shadow"


def salt(migration: str, purpose: str) -> str:
    """The salt of one purpose, frozen for the life of a migration."""
    return f"{migration}/{purpose}"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one control record."""

    verdict: Verdict
    epoch: int
    reason: str = ""
    record: AnyControl | None = None


@dataclass(frozen=True, slots=True)
class Epoch:
    """One version of the route, and why."""

    epoch: int
    route: Route
    record: AnyControl | None
    phase: Phase | None
    why: str
    flags: Flags = field(default_factory=Flags)


@dataclass(slots=True)
class ControlState:
    """What the accepted records say. Written by `fold` alone; read by everybody."""

    migration: str
    epoch: int = 0
    flags: Flags = field(default_factory=Flags)
    route: Route = field(default_factory=Route)
    """What `flags` say of it."""
    history: list[Epoch] = field(default_factory=lambda: [Epoch(0, Route(), None, None, "the beginning")])
    phase: Phase | None = None
    plan: Tree | None = None
    partitions: int | None = None
    frozen: str | None = None
    rolled_back: int | None = None
    """Epoch of the rollback that latches the route, until a `start`."""
    backfill: float = 0.0
    settled: dict[int, dict[int, Settled]] = field(default_factory=dict)
    journal: list[Journal] = field(default_factory=list)
    started_entry: int = 0
    """Journal entries before this one belong to an earlier start."""
    refusals: list[tuple[int, str]] = field(default_factory=list)
    unknown: list[int] = field(default_factory=list)
    position: int = 0
    """Offset after the newest record folded."""
    ids: set[str] = field(default_factory=set)

    def settled_everywhere(self, epoch: int, partitions: int) -> bool:
        """Whether every partition has settled `epoch` or a later one."""
        newest = (max(self.settled.get(p, {-1: None})) for p in range(partitions))
        return all(n >= epoch for n in newest)

    def __repr__(self) -> str:
        pins = f", {len(self.route.pins)} pinned" if self.route.pins else ""
        flags = f", frozen: {self.frozen}" if self.frozen else ""
        flags += f", rolled back in {self.rolled_back}" if self.rolled_back is not None else ""
        return f"<ControlState epoch {self.epoch}, {self.route.percentage} %{pins}, phase {self.phase}{flags}>"


def fold(state: ControlState, offset: int, value: bytes | None) -> Outcome:
    """Fold one record of `control` into `state`."""
    state.position = offset + 1
    try:
        envelope = decode(envelope_decoder, value)
    except Poison as error:
        return _unknown(state, offset, f"unreadable record: {error.detail}")
    if envelope.migration != state.migration:
        return Outcome("foreign", state.epoch)
    if envelope.id in state.ids:
        return Outcome("duplicate", state.epoch, "a record with this id was folded before")
    try:
        record = decode(decoder, value)
    except Poison as error:
        return _unknown(state, offset, f"record of type {envelope.type}: {error.detail}")
    state.ids.add(record.id)
    refusal = _refusal(state, record)
    if refusal is not None:
        state.refusals.append((offset, refusal))
        return Outcome("refused", state.epoch, refusal, record)
    _apply(state, record)
    return Outcome("accepted", state.epoch, "", record)


def _unknown(state: ControlState, offset: int, reason: str) -> Outcome:
    # A newer version may have written it: what it means is not known here, so nothing is promoted on top of it.
    state.unknown.append(offset)
    state.frozen = state.frozen or f"control record {offset} is not understood: {reason}"
    return Outcome("unknown", state.epoch, reason)


def _refusal(state: ControlState, record: AnyControl) -> str | None:
    """Why the record does not count; None if it does."""
    match record:
        case Start():
            return _start_refusal(state, record)
        case RouteRecord() | SetFlags():
            return _change_refusal(state, record)
        case Rollback():
            return _rollback_refusal(state, record)
        case Journal():
            return _journal_refusal(state, record)
        case Freeze(expected_epoch=epoch) | Settled(epoch=epoch):
            return None if epoch <= state.epoch else f"epoch {epoch} is not known yet"
        case Pin() | Backfill():
            return None


def _start_refusal(state: ControlState, record: Start) -> str | None:
    if record.expected_epoch != state.epoch:
        return _moved_on(state, record.expected_epoch)
    stopped = state.rolled_back is not None or state.frozen is not None or _finished(state)
    return None if state.plan is None or stopped else "a migration is under way"


def _change_refusal(state: ControlState, record: RouteRecord | SetFlags) -> str | None:
    if record.expected_epoch != state.epoch:
        return _moved_on(state, record.expected_epoch)
    if isinstance(record, RouteRecord):
        return _stopped(state) if state.rolled_back is not None or record.percentage > state.route.percentage else None
    if wrong := problems(record.flags):
        return "; ".join(wrong)
    return _stopped(state) if promotes(state.flags, record.flags) else None


def _stopped(state: ControlState) -> str | None:
    """Why nothing may be promoted."""
    if state.rolled_back is not None:
        return f"rolled back in epoch {state.rolled_back}: start again first"
    return f"frozen: {state.frozen}" if state.frozen is not None else None


def _journal_refusal(state: ControlState, record: Journal) -> str | None:
    if record.expected_entry != len(state.journal):
        return f"the journal moved on: entry {len(state.journal)} is next, not {record.expected_entry}"
    return None if state.rolled_back is None else f"rolled back in epoch {state.rolled_back}"


def _moved_on(state: ControlState, expected: int) -> str:
    return f"the epoch moved on: it is {state.epoch}, not {expected}"


def _rollback_refusal(state: ControlState, record: Rollback) -> str | None:
    if record.scope and (record.phase is not None or _layer_of(record) is None):
        return f"scope {record.scope} is none: {{}} is everything, {{layer: NAME}} one of {', '.join(get_args(Layer))}"
    if record.expected_epoch > state.epoch:
        return f"epoch {record.expected_epoch} is not known yet"
    later = [e for e in state.history if e.epoch > record.expected_epoch and _covers(e.record, record)]
    if later:
        return f"already rolled back later, in epoch {later[-1].epoch}"
    return None


def _layer_of(record: Rollback) -> Layer | None:
    """The one layer that goes back."""
    named = record.scope.get("layer") if len(record.scope) == 1 else None
    return next((layer for layer in get_args(Layer) if layer == named), None)


def _covers(before: AnyControl | None, record: Rollback) -> bool:
    """Whether an accepted record rolled back all of what `record` asks for."""
    return isinstance(before, Rollback) and before.scope in ({}, record.scope)


def _finished(state: ControlState) -> bool:
    entries = state.journal[state.started_entry :]
    return bool(entries) and entries[-1].state in ("finished", "failed")


def _apply(state: ControlState, record: AnyControl) -> None:
    match record:
        case Start():
            state.plan, state.partitions = record.plan, record.partitions
            state.frozen = state.rolled_back = state.phase = None
            state.backfill = state.route.percentage
            state.started_entry = len(state.journal)
        case RouteRecord():
            shadow = state.flags.shadow if record.shadow is None else record.shadow
            flags = replace(state.flags, percentage=record.percentage, shadow=shadow)
            state.phase = record.phase or state.phase
            _advance(state, flags, record, record.reason or f"{record.percentage:g} %")
        case Rollback():
            _roll_back(state, record)
        case Pin():
            _advance(state, _pinned(state, record), record, record.reason or f"{len(record.keys)} keys pinned")
        case SetFlags():
            _advance(state, record.flags, record, record.reason or "flags set")
        case Settled():
            state.settled.setdefault(record.partition, {}).setdefault(record.epoch, record)
        case Freeze():
            state.frozen = record.reason or record.trigger
        case Backfill():
            state.backfill = max(state.backfill, record.percentage)
        case Journal():
            state.journal.append(record)
            state.phase = record.phase


def _roll_back(state: ControlState, record: Rollback) -> None:
    layer = _layer_of(record)
    if layer is not None:
        flags = replace(state.flags, held=sorted({*state.flags.held, layer}))
        _advance(state, flags, record, record.reason or f"rollback of {layer}: {record.trigger}")
        return
    flags = rolled_back(state.flags, _percentage_before(state, record.phase))
    _advance(state, flags, record, record.reason or f"rollback: {record.trigger}")
    state.rolled_back = state.epoch


def _advance(state: ControlState, flags: Flags, record: AnyControl, why: str) -> None:
    state.epoch += 1
    state.flags, state.route = flags, route_of(flags)
    state.history.append(Epoch(state.epoch, state.route, record, state.phase, why, flags))


def _pinned(state: ControlState, record: Pin) -> Flags:
    pins: dict[str, System] = dict(state.flags.pins)
    for key in record.keys:
        bucket = bucket_of(salt(state.migration, ROUTE_SALT), key.encode())
        if record.system is not None:
            pins[key] = record.system
        else:
            pins.setdefault(key, state.route.owner(bucket, key))
    return replace(state.flags, pins=pins)


def _percentage_before(state: ControlState, phase: Phase | None) -> float:
    """The percentage from before `phase` began, never a higher one than now; without a phase 0."""
    if phase is None:
        return 0.0
    rank = PHASES.index(phase)
    before = 0.0
    for entry in state.history:
        if entry.phase is not None and PHASES.index(entry.phase) >= rank:
            break
        before = entry.route.percentage
    return 0.0 if before > state.route.percentage else before
