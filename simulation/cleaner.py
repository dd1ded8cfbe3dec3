"""Kafka's log cleaner, for one partition log in memory: segments, what may be cleaned, what a pass removes.

The rules are those of Kafka 4.x, each named by the class and method that it comes from (package
org.apache.kafka.storage.internals.log). A test holds this model against a real broker.

Not modelled: a deduplication buffer too small for the dirty section; compression and the size in bytes (each record
counts as one byte); batches of several records (each record is a batch); records without a timestamp; a high watermark
below the end; truncation; a log start offset above zero; `cleanup.policy=compact,delete`; empty batches, which the
broker keeps for the last sequence number of a producer and which may keep the marker after them; how often the
cleaner's thread wakes up (`log.cleaner.backoff.ms`) and which of many logs the thread takes first.
"""

from dataclasses import dataclass
from enum import Enum
from itertools import pairwise

from hal9.testing.memory import MemoryLog, Stored


@dataclass(frozen=True, slots=True)
class CleanerSettings:
    """Settings of a compacted topic, by their names in Kafka; times in milliseconds, counts in records."""

    segment_ms: int
    segment_records: int
    """Stands for `segment.bytes`: more records than this do not fit into a segment."""
    min_compaction_lag_ms: int
    max_compaction_lag_ms: int
    min_cleanable_dirty_ratio: float
    delete_retention_ms: int


class Marker(Enum):
    """How a transaction ended."""

    COMMIT = "commit"
    ABORT = "abort"


@dataclass(frozen=True, slots=True)
class Transactional:
    """The tag of a record in a transaction of a producer; with `ends`, the record is the marker of its end."""

    producer: int
    ends: Marker | None = None


@dataclass(slots=True)
class _Segment:
    """What rolling and cleaning ask of a segment: its first offset, its first and its largest timestamp."""

    base: int
    first_timestamp: int
    largest_timestamp: int


class LogCleaner:
    """The segments of one log, and the cleaner that goes over them.

    A cleaner is made with its empty log, is told of each record, and is the only one that removes records.
    """

    __slots__ = (
        "_aborted",
        "_clean",
        "_end",
        "_first_dirty",
        "_horizons",
        "_log",
        "_ongoing",
        "_segment_ms",
        "_segments",
        "_settings",
        "_tags",
    )

    def __init__(self, log: MemoryLog, settings: CleanerSettings) -> None:
        self._log, self._settings = log, settings
        # LogConfig.maxSegmentMs
        lag = settings.max_compaction_lag_ms
        self._segment_ms = min(lag, settings.segment_ms) if lag > 0 else settings.segment_ms
        self._segments: list[_Segment] = []
        self._first_dirty = self._clean = self._end = 0
        self._horizons: dict[int, int] = {}
        self._tags: dict[int, Transactional] = {}
        self._ongoing: dict[int, list[int]] = {}
        self._aborted: set[int] = set()

    def __repr__(self) -> str:
        segments = " ".join(str(segment.base) for segment in self._segments)
        return f"<LogCleaner of {self._log!r}, first dirty {self._first_dirty}, not cleaned: {segments}>"

    @property
    def first_dirty(self) -> int:
        """The cleaner's checkpoint: a pass has seen every offset below it."""
        return self._first_dirty

    # ------------------------------------------------------------------ segments
    def appended(self, record: Stored, transaction: Transactional | None = None) -> None:
        """Note a record that was stored; the record rolls a new segment if the active one takes no more.

        Nothing but an append rolls the segment of a log with `cleanup.policy=compact` (UnifiedLog.maybeRoll; the
        other callers of UnifiedLog.roll delete segments by retention): the active segment of a quiet log stays active.

        Raises:
            ValueError: the record is not the next one of the log.
        """
        if record.offset != self._end:
            raise ValueError(f"record {record.offset} of {self._log!r}, not {self._end}")
        self._end += 1
        if not self._segments or self._rolls(self._segments[-1], record):
            self._segments.append(_Segment(record.offset, record.timestamp, record.timestamp))
        elif record.timestamp > self._segments[-1].largest_timestamp:
            self._segments[-1].largest_timestamp = record.timestamp
        if transaction is not None:
            self._tag(record.offset, transaction)

    def _rolls(self, active: _Segment, record: Stored) -> bool:
        """LogSegment.shouldRoll with RollParams: full, or the record is later than the segment's first by segment.ms.

        Both times are the records' (LogSegment.timeWaitedForRoll); a record that is earlier than the first never rolls.
        """
        waited = record.timestamp - active.first_timestamp
        return record.offset - active.base >= self._settings.segment_records or waited > self._segment_ms

    def _tag(self, offset: int, transaction: Transactional) -> None:
        """ProducerStateManager: a transaction is ongoing from its first record to its marker."""
        self._tags[offset] = transaction
        if transaction.ends is None:
            self._ongoing.setdefault(transaction.producer, []).append(offset)
            return
        ended = self._ongoing.pop(transaction.producer, [])
        if transaction.ends is Marker.ABORT:
            self._aborted.update(ended)

    # ------------------------------------------------------------------ whether to clean
    def clean(self, now_ms: int) -> list[int]:
        """One pass if the log is cleanable now; the offsets that went, ascending."""
        until = self._first_uncleanable(now_ms)
        if until == self._first_dirty or not self._is_due(until, now_ms):
            return []
        gone = self._sweep(until, now_ms)
        self._log.remove(gone)
        for offset in gone:
            self._horizons.pop(offset, None)
            self._tags.pop(offset, None)
        self._aborted.difference_update(gone)
        self._clean += until - self._first_dirty - len(gone)
        self._first_dirty = until
        self._segments = [segment for segment in self._segments if segment.base >= until]
        return gone

    def _first_uncleanable(self, now_ms: int) -> int:
        """LogCleanerManager.cleanableOffsets: the first offset that is not to be cleaned yet, always a segment's first.

        It is the first of: the active segment; the first dirty segment with a record younger than the lag (by the
        record's timestamp); the segment with the last stable offset, the first of an ongoing transaction
        (LogCleanerManager.calculateCleanableBytes rounds that down).
        """
        lag = self._settings.min_compaction_lag_ms
        newest = now_ms - lag
        stable = min((offsets[0] for offsets in self._ongoing.values()), default=self._end)
        for segment, following in pairwise(self._segments):
            if (lag > 0 and segment.largest_timestamp > newest) or stable < following.base:
                return segment.base
        return self._segments[-1].base if self._segments else self._first_dirty

    def _is_due(self, until: int, now_ms: int) -> bool:
        """LogCleanerManager.grabFilthiestCompactedLog: dirty enough, or dirty for too long.

        A log without a dirty inactive segment is never cleaned, whatever tombstones have expired in it: no rule looks
        at the delete horizons. The too long dirty section (LogCleanerManager.maxCompactionDelay) counts from the first
        timestamp of each inactive dirty segment, those held back by min.compaction.lag.ms included.
        """
        dirty = until - self._first_dirty
        if dirty / (self._clean + dirty) > self._settings.min_cleanable_dirty_ratio:
            return True
        latest = now_ms - max(0, self._settings.max_compaction_lag_ms)
        return any(0 < segment.first_timestamp < latest for segment in self._segments[:-1])

    # ------------------------------------------------------------------ what goes
    def _sweep(self, until: int, now_ms: int) -> list[int]:
        """Cleaner.doClean: every record below `until`, in order, against the newest offset of each dirty key."""
        newest = self._offset_map(until)
        traversed: set[int] = set()  # producers of a transaction with a record since its predecessor's marker
        gone = []
        for record in self._log.read(0, until):
            tag = self._tags.get(record.offset)
            if tag is not None and tag.ends is not None:
                goes = self._marker_goes(record.offset, tag, traversed, now_ms)
            else:
                if tag is not None:
                    traversed.add(tag.producer)
                goes = record.offset in self._aborted or self._record_goes(record, newest, now_ms)
            if goes:
                gone.append(record.offset)
        return gone

    def _offset_map(self, until: int) -> dict[bytes, int]:
        """Cleaner.buildOffsetMap: of the dirty section alone; no keyless record, marker or aborted record is in it."""
        return {
            record.key: record.offset
            for record in self._log.read(self._first_dirty, until)
            if record.key is not None and record.offset not in self._aborted and not self._is_marker(record.offset)
        }

    def _is_marker(self, offset: int) -> bool:
        tag = self._tags.get(offset)
        return tag is not None and tag.ends is not None

    def _record_goes(self, record: Stored, newest: dict[bytes, int], now_ms: int) -> bool:
        """Cleaner.shouldRetainRecord: keyless, superseded, or a tombstone whose horizon has passed.

        A record without a key is refused by a compacted topic; such records are from before its policy was changed.
        """
        if record.key is None or record.offset < newest.get(record.key, -1):
            return True
        return record.value is None and self._has_expired(record.offset, now_ms)

    def _marker_goes(self, offset: int, tag: Transactional, traversed: set[int], now_ms: int) -> bool:
        """CleanedTransactionMetadata.onControlBatchRead: a marker stays while this pass meets records of its own.

        Then the marker goes as a tombstone does: a horizon in the first pass that meets none of them, removal later.
        """
        if tag.producer in traversed:
            traversed.remove(tag.producer)
            return False
        return self._has_expired(offset, now_ms)

    def _has_expired(self, offset: int, now_ms: int) -> bool:
        """MemoryRecords.filterTo: the first pass that keeps a tombstone sets its horizon, whatever the retention.

        The horizon is kept with the batch. Each pass goes over all batches below its end, so that the records of one
        batch get the same horizon: one for each record is the same.
        """
        horizon = self._horizons.get(offset)
        if horizon is None:
            self._horizons[offset] = now_ms + self._settings.delete_retention_ms
            return False
        return horizon <= now_ms
