"""Manners towards a Kafka and a Redis that were there before: nothing of theirs is used, and nothing is left behind."""

from typing import Any

from hal9.connection import redis_client
from hal9.errors import ConfigError
from hal9.log.administration import administering
from hal9.settings import Settings
from hal9.settings.loading import masked_url
from hal9.topics import LOGS, Topics
from services.migrator.projection import applied_key, unit_key, validity_key

_DEADLINE_S = 30.0
_SCAN = 1_000


async def refuse_used(settings: Settings) -> None:
    """Raise ConfigError if there are topics or units already where this run would put its own."""
    wanted = set(_topics(settings))
    async with administering(settings.kafka, _DEADLINE_S) as admin:
        there = sorted(wanted & set(await admin.list_topics()))
    if there:
        raise ConfigError(
            f"TOPICS.PREFIX = {settings.topics.prefix!r}: topic {there[0]} exists at {settings.kafka.bootstrap};"
            " the demo needs topics of its own"
        )
    redis: Any = redis_client(settings.redis)
    try:
        used = [p for p in range(settings.topics.partitions) if await redis.exists(applied_key(p))]
    finally:
        await redis.aclose()
    if used:
        url = masked_url(settings.redis.url)
        raise ConfigError(f"REDIS.URL = {url!r}: holds units already; the demo needs an empty database, another number")


async def leave(settings: Settings) -> None:
    """Remove the topics and the units of this run; before it, `refuse_used` has found none."""
    async with administering(settings.kafka, _DEADLINE_S) as admin:
        there = set(await admin.list_topics())
        # The guardian's host keeps tables of its own, which it names after its group.
        guardians = f"{settings.topics.prefix}guardian-"
        made = [name for name in sorted(there) if name in _topics(settings) or name.startswith(guardians)]
        await admin.delete_topics(made)
    redis: Any = redis_client(settings.redis)
    try:
        for partition in range(settings.topics.partitions):
            units = redis.scan_iter(match=unit_key(partition, "") + "*", count=_SCAN)
            names = [name async for name in units]
            for start in range(0, len(names), _SCAN):
                await redis.delete(*names[start : start + _SCAN])
            await redis.delete(applied_key(partition), validity_key(partition))
    finally:
        await redis.aclose()


def _topics(settings: Settings) -> list[str]:
    topics = Topics.of(settings.topics)
    return [topics.name(log) for log in LOGS]
