"""From what was seen and audited to the report. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from msgspec.structs import asdict, replace

from hal9.control.reducer import ControlState
from hal9.demo import report as reports
from hal9.demo.board import Board, Reading, Traffic
from hal9.demo.scenario import ending
from hal9.demo.trail import Trail
from schemas import control
from schemas.telemetry import Comparisons


@dataclass(frozen=True, slots=True)
class Audited:
    """What the audit found; the defaults stand for an audit that did not take place."""

    expected: int = 0
    found: int = 0
    weights_equal: bool = False
    stores_equal: bool = False
    findings: list[str] = field(default_factory=list)
    divergences: int = 0
    comparisons: Comparisons = field(default_factory=Comparisons)
    trail: Trail | None = None


@dataclass(frozen=True, slots=True)
class Course:
    """What the run itself saw."""

    fault: reports.Fault
    fault_at_ms: int | None
    traffic: Traffic
    repeated: int
    before: float | None
    during: Reading
    after: float | None
    neurons: int
    seconds: float
    broken: Sequence[str]
    """Why it broke off; empty if it ran to its end."""
    late: bool = False
    """Whether it ended because time was up."""


def report_of(course: Course, board: Board, audited: Audited, versions: reports.Versions) -> reports.Report:
    """The whole report, problems included."""
    traffic, state = course.traffic, board.state
    report = reports.Report(
        outcome=ending(state, board.partitions, broken=bool(course.broken)),
        fault=course.fault,
        requests=reports.Requests(
            sent=traffic.sent,
            answered=traffic.answered,
            ok=traffic.ok,
            error=traffic.error,
            rejected=traffic.rejected,
            timeout=traffic.timeout,
            repeated=course.repeated,
        ),
        effects=reports.Effects(expected=audited.expected, found=audited.found),
        accuracy=reports.Accuracy(before=course.before, during=course.during.share, after=course.after),
        weights_equal=audited.weights_equal,
        stores_equal=audited.stores_equal,
        rollback=_rollback(state, board.partitions, course.fault_at_ms, audited.trail),
        epochs=[reports.EpochLine(epoch=e.epoch, percentage=e.route.percentage, why=e.why) for e in state.history],
        divergences=audited.divergences,
        comparisons=asdict(audited.comparisons),
        neurons=course.neurons,
        seconds=round(course.seconds, 1),
        versions=versions,
        audit=audited.findings,
    )
    if course.broken:
        return replace(report, problems=[*course.broken, "the run broke off: there was no audit"])
    late = ["what was to happen did not happen in time"] if course.late else []
    return replace(report, problems=[*late, *reports.problems(report)])


def _rollback(state: ControlState, partitions: int, fault_at_ms: int | None, trail: Trail | None) -> reports.Rollback:
    epoch = state.rolled_back
    record = next((entry.record for entry in state.history if entry.epoch == epoch), None)
    if epoch is None or not isinstance(record, control.Rollback):
        return reports.Rollback(
            trigger=None, fault_at_ms=fault_at_ms, decided_at_ms=None, acknowledged_at_ms=None, safe_at_ms=None
        )
    return reports.Rollback(
        trigger=record.trigger,
        fault_at_ms=fault_at_ms,
        decided_at_ms=record.at_ms,
        acknowledged_at_ms=trail.acknowledged_at_ms(epoch) if trail is not None else None,
        safe_at_ms=_safe_at_ms(state, epoch, partitions),
        reason=record.reason,
    )


def _safe_at_ms(state: ControlState, epoch: int, partitions: int) -> int | None:
    """When the last partition had settled `epoch` or a later one."""
    times = []
    for partition in range(partitions):
        later = [record.at_ms for e, record in state.settled.get(partition, {}).items() if e >= epoch]
        if not later:
            return None
        times.append(min(later))
    return max(times, default=None)
