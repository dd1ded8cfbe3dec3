"""What a fetch brought, made by hand."""

from collections.abc import Sequence

from hal9.log.effects import Record


class Landed:
    """As `hal9.log.batches.Batch`, of records that are there already."""

    sound = True

    def __init__(self, records: Sequence[Record], next_offset: int) -> None:
        self._records, self.next_offset = list(records), next_offset

    @property
    def left(self) -> int:
        """How many were not taken."""
        return len(self._records)

    def take(self, limit: int) -> list[Record]:
        """Up to `limit` of them."""
        taken, self._records = self._records[:limit], self._records[limit:]
        return taken
