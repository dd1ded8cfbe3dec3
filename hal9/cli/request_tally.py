"""How many requests ended how, and how long they took: in all and by the system that served them. Pure."""

from collections import Counter
from collections.abc import Mapping
from typing import Any

from hal9.client.answer import Answer
from hal9.stats.sketch import add, quantile
from schemas.telemetry import Sketch

_QUANTILES = {"p50_ms": 0.5, "p90_ms": 0.9, "p99_ms": 0.99, "max_ms": 1.0}
ALL = "all"


class Tally:
    """Latencies are those of answers that were read, within 1 %; what nobody answered is counted as `timeout`."""

    def __init__(self) -> None:
        self.sent = 0
        self.statuses: Counter[str] = Counter()
        self._errors: Counter[str] = Counter()
        self._latencies: dict[str, Sketch] = {}

    @property
    def ended(self) -> int:
        """Requests of which the end is known."""
        return self.statuses.total()

    @property
    def not_ok(self) -> int:
        """Of these, how many were not done."""
        return self.ended - self.statuses["ok"]

    def add(self, answer: Answer) -> None:
        """Count one end."""
        self.statuses[answer.status] += 1
        if answer.status != "ok":
            self._errors[f"{answer.status} {answer.error or 'without a reason'}"] += 1
        if answer.local:
            return
        for system in (ALL, answer.served_by):
            if system is not None:
                add(self._latencies.setdefault(system, {}), answer.elapsed_ms * 1000)

    def totals(self, *, repeated: int, skipped: int, seconds: float) -> dict[str, Any]:
        """What became of all of them."""
        return {
            "sent": self.sent,
            **{status: self.statuses[status] for status in ("ok", "error", "rejected", "timeout")},
            "repeated": repeated,
            "skipped": skipped,
            "seconds": round(seconds, 3),
            "per_second": round(self.ended / seconds, 1) if seconds > 0 else 0.0,
            "not_ok": dict(self._errors.most_common()),
        }

    def latencies(self) -> list[dict[str, Any]]:
        """A row for all answers and one per system."""
        return [
            {"served_by": system, "answered": sum(sketch.values()), **_quantiles(sketch)}
            for system, sketch in sorted(self._latencies.items())
        ]


def _quantiles(sketch: Mapping[int, int]) -> dict[str, float]:
    return {name: round(quantile(sketch, q) / 1000, 3) for name, q in _QUANTILES.items()}
