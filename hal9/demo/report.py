"""What a run of the demo reports, and whether it counts as a success. Pure.

The fields are fixed by the contract; `problems` says in words what did not happen or does not add up.
"""

from typing import Literal

from msgspec import Struct

Fault = Literal["none", "errors", "crash"]
FAULTS: tuple[Fault, ...] = ("none", "errors", "crash")
Ending = Literal["promoted", "rolled_back", "frozen", "failed"]


class Requests(Struct, frozen=True, kw_only=True):
    """What became of the client's requests; the last five partition `sent`, `repeated` apart."""

    sent: int
    answered: int
    ok: int
    error: int
    rejected: int
    timeout: int
    repeated: int


class Effects(Struct, frozen=True, kw_only=True):
    """`expected`: learn requests answered ok, and those answered timeout that the logs hold; `found`: in the stores."""

    expected: int
    found: int


class Accuracy(Struct, frozen=True, kw_only=True):
    """Share of the images that the network read rightly, 0 to 1; None where it was not measured."""

    before: float | None
    during: float | None
    after: float | None


class Rollback(Struct, frozen=True, kw_only=True):
    """When the run went back, and why; milliseconds since the epoch, None for what did not happen."""

    trigger: str | None
    fault_at_ms: int | None
    decided_at_ms: int | None
    acknowledged_at_ms: int | None
    safe_at_ms: int | None
    reason: str = ""


class EpochLine(Struct, frozen=True, kw_only=True):
    """One version of the route."""

    epoch: int
    percentage: float
    why: str


class Versions(Struct, frozen=True, kw_only=True):
    """Of what ran."""

    kafka: str
    redis: str
    python: str
    hal9: str


class Report(Struct, frozen=True, kw_only=True):
    """The whole run.

    Attributes:
        fault: which one was asked for.
        audit: what the audit found wrong, in words; empty if everything adds up.
        problems: why the run is no success, `audit` included; empty if it is one.
    """

    outcome: Ending
    fault: Fault
    requests: Requests
    effects: Effects
    accuracy: Accuracy
    weights_equal: bool
    stores_equal: bool
    rollback: Rollback
    epochs: list[EpochLine]
    divergences: int
    comparisons: dict[str, int]
    neurons: int
    seconds: float
    versions: Versions
    audit: list[str] = []
    problems: list[str] = []


def expected_ending(fault: Fault) -> Ending:
    """How a run with this fault should end."""
    return "promoted" if fault == "none" else "rolled_back"


def problems(report: Report) -> list[str]:
    """Why the run is no success; empty if it is one."""
    found = []
    wanted = expected_ending(report.fault)
    if report.outcome != wanted:
        found.append(f"the outcome is {report.outcome}, and should be {wanted}")
    if wanted == "rolled_back":
        found += _rollback_problems(report.rollback)
    requests, effects = report.requests, report.effects
    if requests.answered != requests.sent:
        found.append(f"{requests.sent - requests.answered} of {requests.sent} requests were never answered")
    if effects.expected != effects.found:
        found.append(f"{effects.expected} effects were expected and {effects.found} found")
    if not report.weights_equal:
        found.append("the learnt weights differ from those of the offline replay")
    if not report.stores_equal:
        found.append("the stores differ")
    return found + report.audit


def _rollback_problems(rollback: Rollback) -> list[str]:
    times = {
        "fault": rollback.fault_at_ms,
        "decided": rollback.decided_at_ms,
        "acknowledged": rollback.acknowledged_at_ms,
        "safe": rollback.safe_at_ms,
    }
    missing = [name for name, at_ms in times.items() if at_ms is None]
    if missing:
        return [f"the rollback has no time for: {', '.join(missing)}"]
    if rollback.trigger == "manual":
        return ["the rollback was not automatic"]
    return []
