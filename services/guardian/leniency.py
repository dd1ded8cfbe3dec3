"""Makes aiokafka's consumer, under Faust, pass over batches that it cannot read instead of stopping for ever.

aiokafka raises out of its fetcher when one header name is not UTF-8, again and again at the same place, and Faust
crashes. What is passed over here shows as a gap in the offsets; the guardian reads a gap beside Faust, where such a
batch is read record by record (`hal9.log.batches`). So is a compressed one, which nobody here writes: aiokafka would
unpack it whatever its size.
"""

from collections.abc import Iterator
from typing import Any

from aiokafka.consumer import fetcher

from hal9.telemetry.logs import logger

_log = logger("guardian.leniency")


class _Batches:
    """The batches of a fetch; remembers where the newest one ends."""

    def __init__(self, batches: Any) -> None:
        self._batches = batches
        self.next_offset = -1

    def has_next(self) -> bool:
        return bool(self._batches.has_next())

    def next_batch(self) -> Any:
        batch = self._batches.next_batch()
        self.next_offset = batch.next_offset
        if batch.compression_type:
            raise ValueError("a compressed batch is read where there is a limit to it")
        return batch


class LenientRecords(fetcher.PartitionRecords):  # type: ignore[misc]  # it ships no types
    """Records of one fetch of one partition, without those of a batch from the first one that cannot be read."""

    _records: Any
    next_fetch_offset: int

    def _unpack_records(self) -> Iterator[Any]:
        batches = self._records = _Batches(self._records)
        while True:
            try:
                yield from super()._unpack_records()
            except Exception as error:  # noqa: BLE001  what a parser or a codec raises for bytes it cannot read
                _log.warning("batch_unreadable", at=self.next_fetch_offset, to=batches.next_offset, reason=repr(error))
                self.next_fetch_offset = max(self.next_fetch_offset, batches.next_offset)
            else:
                return


def be_lenient() -> None:
    """From now on, in every consumer of this process: there is no other way in."""
    fetcher.PartitionRecords = LenientRecords
