"""The report in words, for a person. Pure."""

from hal9.demo.report import Accuracy, Fault, Report, Requests, Rollback

_SECOND_MS = 1_000
_STRUCK: dict[Fault, str] = {
    "none": "",
    "errors": "the handler of hierarchical began to fail",
    "crash": "hierarchical was killed and stayed dead",
}
_ENDINGS = {
    "promoted": "every step of the plan passed its gates",
    "rolled_back": "the migration was rolled back",
    "frozen": "the migration was frozen",
    "failed": "the run failed",
}


def summary(report: Report) -> list[str]:
    """Some lines; the last ones are the verdict."""
    top = max((entry.percentage for entry in report.epochs), default=0.0)
    ending = _ENDINGS[report.outcome]
    compared = ", ".join(f"{count} {name}" for name, count in report.comparisons.items() if count)
    return [
        f"{ending[0].upper()}{ending[1:]}.",
        f"  {report.neurons} neurons, up to {top:g} % of them at hierarchical, {report.seconds:.0f} s of traffic.",
        *_rollback(report.fault, report.rollback),
        _requests(report.requests),
        f"  Comparisons: {compared or 'none'}.",
        *([_learning(report)] if report.outcome != "failed" else []),
        _accuracy(report.accuracy),
        *_verdict(report),
    ]


def _requests(requests: Requests) -> str:
    ends = f"{requests.ok} ok, {requests.error} error, {requests.rejected} rejected, {requests.timeout} timeout"
    again = f"; {requests.repeated} answers came twice" if requests.repeated else ""
    return f"  Requests: {requests.sent} sent, {requests.answered} answered: {ends}{again}."


def _learning(report: Report) -> str:
    effects = f"{report.effects.expected} effects expected, {report.effects.found} found"
    weights = "equal the offline replay bit for bit" if report.weights_equal else "DIFFER from the offline replay"
    return f"  Learning: {effects}; weights {weights}; stores {'are equal' if report.stores_equal else 'DIFFER'}."


def _accuracy(accuracy: Accuracy) -> str:
    shares = (_share(share) for share in (accuracy.before, accuracy.during, accuracy.after))
    return "  Accuracy: {} before, {} during, {} after.".format(*shares)


def _rollback(fault: Fault, rollback: Rollback) -> list[str]:
    lines = []
    if rollback.fault_at_ms is not None:
        lines.append(f"  The fault: {_STRUCK[fault]}.")
    if rollback.decided_at_ms is not None:
        after = "" if rollback.fault_at_ms is None else f" {_span(rollback.fault_at_ms, rollback.decided_at_ms)} later"
        lines.append(f"  The rollback was decided{after}, by trigger {rollback.trigger}: {rollback.reason}.")
        acknowledged = _span(rollback.decided_at_ms, rollback.acknowledged_at_ms)
        safe = _span(rollback.decided_at_ms, rollback.safe_at_ms)
        lines.append(
            f"  Every partition followed the new route {acknowledged} later; all was handed back after {safe}."
        )
    return lines


def _span(since_ms: int | None, at_ms: int | None) -> str:
    if since_ms is None or at_ms is None:
        return "(never)"
    return f"{at_ms - since_ms} ms" if at_ms - since_ms < _SECOND_MS else f"{(at_ms - since_ms) / _SECOND_MS:.1f} s"


def _share(value: float | None) -> str:
    return "not measured" if value is None else f"{value:.1%}"


def _verdict(report: Report) -> list[str]:
    if not report.problems:
        return ["  Nothing was lost, nothing was done twice: the run is a success."]
    return ["  The run is NO success:", *(f"    - {problem}" for problem in report.problems)]
