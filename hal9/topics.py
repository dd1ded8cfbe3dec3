"""The topics, declared once: names, partitions, settings; made and checked here.

`Topics` knows the names; `create` makes what is missing and changes nothing that exists; `check` says what differs.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import KafkaError, TopicAlreadyExistsError, UnknownTopicOrPartitionError, for_code

from hal9.errors import ConfigError, Transient
from hal9.log.administration import administering
from hal9.log.effects import LATEST
from hal9.log.log_ends import list_offsets
from hal9.log.topic_ids import topic_ids
from hal9.settings.sections import Kafka
from hal9.settings.sections import Topics as TopicSettings
from schemas.logs import KEYED, SINGLE

DEADLINE_S = 30.0
_PAUSE_S = 0.05

LOGS: tuple[str, ...] = (*KEYED, *SINGLE)


@dataclass(frozen=True)
class Topics:
    """Names and shape of the topics of one installation. A *log* is a topic's name without the prefix."""

    prefix: str = "hal9."
    partitions: int = 12
    replication_factor: int = 1
    overrides: Mapping[str, str] = field(default_factory=dict)
    _names: dict[str, str] = field(init=False, repr=False, compare=False, default_factory=dict)
    _logs: dict[str, str] = field(init=False, repr=False, compare=False, default_factory=dict)

    def __post_init__(self) -> None:
        self._names.update((log, self.overrides.get(log, self.prefix + log)) for log in LOGS)
        self._logs.update((name, log) for log, name in self._names.items())

    @staticmethod
    def of(settings: TopicSettings) -> "Topics":
        """As the settings have them."""
        return Topics(settings.prefix, settings.partitions, settings.replication_factor, settings.overrides())

    def name(self, log: str) -> str:
        """The topic of a log; KeyError for a log that is not declared."""
        return self._names[log]

    def log(self, topic: str) -> str:
        """The log of a topic; KeyError for a topic that is none of ours."""
        return self._logs[topic]

    def partitions_of(self, log: str) -> int:
        """How many partitions a log has."""
        return self.partitions if log in KEYED else 1

    def config(self, log: str) -> dict[str, str]:
        """Settings of a log's topic, as `create` gives them and `check` wants them."""
        replicas = str(max(1, self.replication_factor - 1))
        return {**(KEYED.get(log) or SINGLE[log]).config, "min.insync.replicas": replicas}


async def create(kafka: Kafka, topics: Topics, *, deadline_s: float = DEADLINE_S) -> list[str]:
    """Make the topics that are missing; returns their names once the leader of each partition serves it.

    Raises:
        Transient: Kafka did not do it in time, or refused.
    """
    wanted = [
        NewTopic(
            topics.name(log),
            topics.partitions_of(log),
            topics.replication_factor,
            topic_configs=topics.config(log),
        )
        for log in LOGS
    ]
    async with administering(kafka, deadline_s) as admin:
        existing = set(await admin.list_topics())
        missing = [topic for topic in wanted if topic.name not in existing]
        if missing:
            response = await admin.create_topics(missing)
            for name, code, message, *_ in response.topic_errors:
                if code not in (0, TopicAlreadyExistsError.errno):
                    raise Transient(f"topic {name} was not created: {message or for_code(code).__name__}")
        while not await _served(admin, [topic.name for topic in wanted]):  # noqa: ASYNC110  it is Kafka that is asked
            await asyncio.sleep(_PAUSE_S)
        return [topic.name for topic in missing]


async def _served(admin: AIOKafkaAdminClient, names: list[str]) -> bool:
    """Whether the leader of each partition answers for it; it is named as the leader before that, by seconds even."""
    described = await admin.describe_topics(names)
    if any(topic["error_code"] or not topic["partitions"] for topic in described):
        return False
    places = [TopicPartition(topic["topic"], p["partition"]) for topic in described for p in topic["partitions"]]
    client = admin._client  # noqa: SLF001  it has no such question of its own
    try:
        await list_offsets(client, places, LATEST)
    except KafkaError as error:
        if not error.retriable:
            raise
        await client.force_metadata_update()
        return False
    return True


async def check(kafka: Kafka, topics: Topics, *, deadline_s: float = DEADLINE_S) -> list[str]:
    """What is not as declared, one sentence for each topic or setting; empty if all is well.

    Raises:
        Transient: Kafka did not answer in time.
    """
    names = [topics.name(log) for log in LOGS]
    async with administering(kafka, deadline_s) as admin:
        described = {topic["topic"]: topic for topic in await admin.describe_topics(None)}
        present = [name for name in names if name in described]
        configs = await _configs(admin, present)
    problems = []
    for name in names:
        log = topics.log(name)
        if name not in configs:
            problems.append(f"topic {name} does not exist")
            continue
        if (said := _miscounted(topics, log, described)) is not None:
            problems.append(said)
        problems += [
            f"topic {name}: {key} is {configs[name].get(key)}, not {value}"
            for key, value in topics.config(log).items()
            if configs[name].get(key) != value
        ]
    return problems


async def agree(kafka: Kafka, topics: Topics, *, deadline_s: float = DEADLINE_S) -> None:
    """Return if every topic that is there has as many partitions as declared.

    Raises:
        ConfigError: one has not: keys would be looked for where they do not lie.
        Transient: Kafka did not answer in time.
    """
    async with administering(kafka, deadline_s) as admin:
        described = {topic["topic"]: topic for topic in await admin.describe_topics(None)}
    wrong = [said for log in LOGS if (said := _miscounted(topics, log, described)) is not None]
    if wrong:
        raise ConfigError(f"{wrong[0]}: keys lie elsewhere than TOPICS.PARTITIONS says")


def _miscounted(topics: Topics, log: str, described: Mapping[str, Mapping[str, Any]]) -> str | None:
    name, wanted = topics.name(log), topics.partitions_of(log)
    count = len(described[name]["partitions"]) if name in described else wanted
    return None if count == wanted else f"topic {name} has {count} partitions, not {wanted}"


async def _configs(admin: AIOKafkaAdminClient, names: list[str]) -> dict[str, dict[str, str]]:
    if not names:
        return {}
    resources = [ConfigResource(ConfigResourceType.TOPIC, name) for name in names]
    found: dict[str, dict[str, str]] = {}
    for response in await admin.describe_configs(resources):
        for code, message, _, name, entries in response.resources:
            if code == UnknownTopicOrPartitionError.errno:
                continue  # deleted a moment ago
            if code:
                raise Transient(f"settings of topic {name}: {message or for_code(code).__name__}")
            found[name] = {entry[0]: entry[1] for entry in entries}
    return found


async def topic_id(kafka: Kafka, topic: str, *, deadline_s: float = DEADLINE_S) -> str:
    """The id that Kafka gave a topic when it was made: another one after the topic was deleted and made anew.

    Raises:
        Transient: the topic does not exist, or Kafka did not answer in time.
    """
    async with administering(kafka, deadline_s) as admin:
        found = await topic_ids(admin._client, [topic])  # noqa: SLF001  it has no such question of its own
    if topic not in found:
        raise Transient(f"topic {topic} does not exist")
    return found[topic]
