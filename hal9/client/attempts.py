"""When a request is sent again, under its id and with its first deadline. Pure.

An id is one request for 60 s and no deadline is further ahead, so no attempt can have an effect of its own.
"""

FIRST_PAUSE_S = 0.1
LONGEST_PAUSE_S = 2.0


class Attempts:
    """Of one request. Times are seconds of one monotonic clock; nothing is sent after `deadline_s`."""

    __slots__ = ("_deadline_s", "_failures", "left", "made")

    def __init__(self, retries: int, deadline_s: float) -> None:
        self.left, self.made = retries, 0
        self._deadline_s, self._failures = deadline_s, 0

    def __repr__(self) -> str:
        return f"<Attempts: {self.made} made, {self.left} left>"

    def begin(self) -> int:
        """One is made; its number, from 1."""
        if self.made:
            self.left -= 1
        self.made += 1
        return self.made

    def after_silence(self, now_s: float) -> float | None:
        """When to send again if nothing is heard: the attempts left share what is left of the time evenly."""
        remaining_s = self._deadline_s - now_s
        return now_s + remaining_s / (self.left + 1) if self.left > 0 and remaining_s > 0 else None

    def after_failure(self, now_s: float) -> float | None:
        """When to send again, now that sending has failed; the pauses double."""
        at_s = now_s + min(FIRST_PAUSE_S * 2**self._failures, LONGEST_PAUSE_S)
        self._failures += 1
        return at_s if self.left > 0 and at_s < self._deadline_s else None
