"""An admin client for one short task, with a deadline over all of it; what Kafka refuses becomes `Transient`."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager

from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from hal9.connection import kafka_options
from hal9.errors import Transient
from hal9.log.effects import Commit
from hal9.log.supervision import unbroken
from hal9.settings.sections import Kafka


@asynccontextmanager
async def administering(kafka: Kafka, deadline_s: float) -> AsyncIterator[AIOKafkaAdminClient]:
    """An admin client; everything done with it must be done within `deadline_s`, else Transient."""
    admin = AIOKafkaAdminClient(**kafka_options(kafka))
    try:
        async with asyncio.timeout(deadline_s):
            await unbroken(admin.start())
            yield admin
    except TimeoutError as error:
        raise Transient(f"Kafka at {kafka.bootstrap} did not answer within {deadline_s:g} s") from error
    except (KafkaError, OSError) as error:
        raise Transient(f"Kafka at {kafka.bootstrap}: {error!r}") from error
    finally:
        await admin.close()


async def committed(
    kafka: Kafka, group: str, partitions: Iterable[TopicPartition], deadline_s: float
) -> dict[TopicPartition, Commit]:
    """What a group has committed, with the metadata that a consumer does not give back; without those never committed.

    Raises:
        Transient: the answer did not come in time, or was not complete.
    """
    wanted = list(partitions)
    async with administering(kafka, deadline_s) as admin:
        found = await admin.list_consumer_group_offsets(group, partitions=wanted)
    # A coordinator that is moving answers with no partitions at all, which must not pass for "nothing committed".
    missing = [partition for partition in wanted if partition not in found]
    if missing:
        raise Transient(f"the committed positions of group {group} lack {missing[0]}")
    return {at: Commit(c.offset, c.metadata or "") for at, c in found.items() if c.offset >= 0}
