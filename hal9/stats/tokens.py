"""A token bucket: how often something may happen, with a burst. Pure: the clock is the caller's."""


class TokenBucket:
    """`rate` tokens per second, at most `burst` saved; may go below zero, which delays what comes next."""

    __slots__ = ("_at_ms", "_tokens", "burst", "rate")

    def __init__(self, rate: float, burst: float) -> None:
        self.rate, self.burst = rate, burst
        self._tokens, self._at_ms = burst, -1.0

    def take(self, count: int) -> None:
        """Spend tokens, saved or not."""
        self._tokens -= count

    def spend(self) -> bool:
        """Spend one saved token; False if there is none (as of the last `ready`)."""
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True

    def ready(self, now_ms: float) -> bool:
        """Save what has accrued; whether there is anything to spend."""
        if self._at_ms >= 0:
            self._tokens = min(self.burst, self._tokens + self.rate * (now_ms - self._at_ms) / 1000)
        self._at_ms = now_ms
        return self._tokens > 0
