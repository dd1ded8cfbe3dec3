"""The one source of chance of a seeded world."""

from random import Random


class Chance(Random):
    """`random.Random` with the one question that schedules keep asking."""

    def hit(self, probability: float) -> bool:
        """True with this probability."""
        return self.random() < probability
