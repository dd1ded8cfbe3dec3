"""Feeds the evidence from `outcomes`, `status` and `quarantine`, read beside any group; no unreadable one is silent."""

import asyncio

from aiokafka import TopicPartition

from hal9.control.plan import MAX_WINDOW_S
from hal9.errors import Poison, Transient
from hal9.log.clock import Clock
from hal9.log.effects import Record
from hal9.log.reading import Reader
from hal9.telemetry.logs import logger
from hal9.topics import Topics
from schemas.base import decode
from schemas.reports import quarantined_decoder
from schemas.telemetry import outcome_decoder, status_decoder
from services.orchestrator.evidence import Evidence

CATCH_UP_S = 60.0
SKEW_MS = 60_000
"""How far the clocks of those who write may be behind."""

_log = logger("orchestrator.sight")


class Sight:
    """What one orchestrator sees. `follow` it, wait for `caught_up`, then use `evidence`."""

    def __init__(self, topics: Topics, migration: str, reader: Reader, clock: Clock) -> None:
        self._reader, self._clock = reader, clock
        self._key = migration.encode()
        self._outcomes, self._status, self._quarantine = (
            TopicPartition(topics.name(log), 0) for log in ("outcomes", "status", "quarantine")
        )
        self._positions: dict[TopicPartition, int] = {}
        self._ends: dict[TopicPartition, int] = {}
        self._moved = asyncio.Event()
        self.evidence = Evidence(clock.now_ms())
        self.unreadable = 0

    async def begin(self, walk_ms: int | None) -> None:
        """Find where to read from: an hour of outcomes, the quarantine since `walk_ms`, heartbeats from now on."""
        now_ms = self._clock.now_ms()
        ends = await self._reader.ends([self._outcomes, self._status, self._quarantine])
        since = {
            self._outcomes: now_ms - MAX_WINDOW_S * 1000,
            self._quarantine: (now_ms if walk_ms is None else walk_ms) - SKEW_MS,
        }
        for at, since_ms in since.items():
            self._positions |= await self._reader.since([at], since_ms)
        self._positions[self._status] = ends[self._status]
        self._ends = ends
        self.evidence = Evidence(now_ms)

    async def follow(self) -> None:
        """Read on; never returns."""
        async for at, records, position in self._reader.follow(dict(self._positions)):
            for record in records:
                self._see(at, record)
            self._positions[at] = position
            self._moved.set()

    def behind(self) -> list[str]:
        """The topics that are not read yet to where they ended at `begin`."""
        return [
            f"{at.topic} is read to {self._positions.get(at, 0)} of {end}"
            for at, end in self._ends.items()
            if self._positions.get(at, 0) < end
        ]

    async def caught_up(self) -> None:
        """Return when everything is read that was there at `begin`; raises Transient if that takes too long."""
        try:
            async with asyncio.timeout(CATCH_UP_S):
                while self.behind():
                    self._moved.clear()
                    await self._moved.wait()
        except TimeoutError as error:
            raise Transient(f"the evidence was not read within {CATCH_UP_S:g} s: {self!r}") from error

    def _see(self, at: TopicPartition, record: Record) -> None:
        now_ms = self._clock.now_ms()
        try:
            if at == self._quarantine:
                self._see_quarantined(record)
            elif at == self._status:
                if record.value is not None:
                    self.evidence.status(decode(status_decoder, record.value), now_ms)
            elif record.key in (None, self._key):
                self.evidence.outcome(decode(outcome_decoder, record.value), now_ms)
        except Poison as error:
            self.unreadable += 1
            _log.warning("evidence_unreadable", topic=at.topic, offset=record.offset, reason=error.detail)

    def _see_quarantined(self, record: Record) -> None:
        try:
            self.evidence.quarantined(decode(quarantined_decoder, record.value))
        except Poison:
            # What it was cannot be told, so it counts.
            self.evidence.set_aside(record.timestamp)
            raise

    def __repr__(self) -> str:
        return f"<Sight at {dict(self._positions)} of {self._ends}, {self.unreadable} unreadable>"
