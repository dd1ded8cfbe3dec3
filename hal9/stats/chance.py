"""Whether a count can be chance."""

from math import log

FALSE_ALARM = 0.001
"""How probable a count may be at the bound before it says something: whoever looks again and again needs it small."""


def improbable(bad: int, total: int, bound: float) -> bool:
    """Whether `bad` or more of `total` are improbable at a true rate of `bound` (Chernoff: a limit of the tail)."""
    rate = bad / total if total else 0.0
    if rate <= bound:
        return False
    if bound <= 0.0:
        return True
    distance = rate * log(rate / bound)
    if rate < 1.0:
        distance += (1.0 - rate) * log((1.0 - rate) / (1.0 - bound))
    return total * distance > -log(FALSE_ALARM)
