"""Positions committed with the restore data that rides with them, once a second and before partitions go."""

import asyncio
from collections.abc import Iterable

from aiokafka import TopicPartition

from hal9.errors import Transient
from hal9.log.effects import Commit
from hal9.log.holding import Holding
from hal9.log.membership import METADATA_BYTES, Membership
from hal9.telemetry.logs import logger

DEADLINE_S = 5.0

_log = logger("log.committing")


class Committing:
    """Commits what has changed since the last time; a failure is logged and tried again with the next."""

    def __init__(self, membership: Membership) -> None:
        self._membership, self._lock = membership, asyncio.Lock()
        self.done = self.failed = 0

    async def commit(self, holdings: Iterable[Holding], deadline_s: float = DEADLINE_S) -> None:
        """Commit what these may commit; nothing while the group changes."""
        async with self._lock:
            if not self._membership.joined:
                return
            due: dict[TopicPartition, Commit] = {}
            owners: list[tuple[Holding, str, Commit]] = []
            for holding in holdings:
                for at, (log, commit) in holding.commits().items():
                    if len(commit.metadata.encode()) >= METADATA_BYTES:
                        # The broker would refuse this one and store the others.
                        _log.error("commit_too_large", log=log, partition=holding.partition)
                        continue
                    due[at] = commit
                    owners.append((holding, log, commit))
            if not due:
                return
            try:
                await self._membership.commit(due, deadline_s)
            except Transient as error:
                self.failed += 1
                _log.warning("commit_failed", error=str(error))
                return
            self.done += 1
            for holding, log, commit in owners:
                holding.committed[log] = commit
