"""Stack, topics and services together, in the order in which they need each other.

A Kafka or a Redis that the settings name is used; one that they do not name is started here.
"""

import asyncio
import os
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from msgspec.structs import replace

from hal9.connection import reach_kafka, reach_redis
from hal9.local.services import READY_S, SERVICES, ServiceEnded, Services
from hal9.settings import Settings
from hal9.settings.loading import CONFIG
from hal9.topics import Topics, create
from stack.local import Endpoints, LocalStack
from stack.process import tail

Progress = Callable[[str], None]


def named(section: str, name: str, config: Path | None, environ: Mapping[str, str]) -> bool:
    """Whether file or environment give this setting; both have been loaded without error before."""
    if f"HAL9_{section}__{name}".upper() in environ:
        return True
    path = config or (Path(environ[CONFIG]) if environ.get(CONFIG) else None)
    if path is None:
        return False
    tree = {key.lower(): value for key, value in tomllib.loads(path.read_text("utf-8")).items()}
    return name.lower() in {key.lower() for key in tree.get(section.lower(), {})}


class Topology:
    """Everything on this machine, below one directory.

    As a context manager it stops, at the end, what this object started, and nothing that it found.

    Args:
        directory: data, logs and state of all.
        settings: as loaded from `config` and the environment.
        config: the file of the settings, for the services.
        environment: variables for each service, on top of this process's own.
        own: further variables, by service.
        detached: everything outlives this process, until `down`.
        ready_s: how long a part may take until it is ready.
        stop_grace_s: how long a service may take to stop before it is killed.
    """

    def __init__(
        self,
        directory: Path,
        settings: Settings,
        *,
        config: Path | None = None,
        environment: Mapping[str, str] | None = None,
        own: Mapping[str, Mapping[str, str]] | None = None,
        detached: bool = False,
        ready_s: float = READY_S,
        stop_grace_s: float = 10.0,
    ) -> None:
        self.directory = directory.absolute()
        self.settings = settings
        kafka, redis = (
            not named(*setting, config, os.environ) for setting in (("kafka", "bootstrap"), ("redis", "url"))
        )
        self.local = (kafka, redis)
        self._ready_s = ready_s
        self.stack = LocalStack(
            self.directory, kafka=kafka, redis=redis, detached=detached, settings=settings.stack, timeout_s=ready_s
        )
        self._environment = dict(environment or {})
        if config is not None:
            self._environment[CONFIG] = str(config.absolute())
        self.services = Services(
            self.directory, self._environment, own=own, detached=detached, stop_grace_s=stop_grace_s
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stops what this object started, the services before what they need."""
        try:
            self.services.stop()
        finally:
            self.stack.__exit__(kind, error, trace)

    def up(self, progress: Progress) -> Settings:
        """Start what does not run, and return when all of it is ready; the settings with the addresses.

        Raises:
            Unreachable: an external Kafka or Redis does not answer, or Kafka cannot be downloaded.
            StackError, ServiceEnded: a part ended or was not ready in time.
        """
        self.reach(progress)
        return self.start(progress)

    def start(self, progress: Progress) -> Settings:
        """What `up` does when Kafka and Redis are there."""
        progress("creating the topics")
        asyncio.run(create(self.settings.kafka, Topics.of(self.settings.topics)))
        started = self.services.start()
        if started:
            progress(f"starting {', '.join(started)}")
        self.services.await_ready(progress, deadline_s=self._ready_s)
        return self.settings

    def reach(self, progress: Progress) -> Settings:
        """Only Kafka and Redis: started, or reached; the settings with their addresses."""
        endpoints = self.stack.up(progress) if any(self.local) else Endpoints("", "")
        self.settings = settings = addressed(self.settings, endpoints)
        asyncio.run(_reach(settings))
        self._environment["HAL9_KAFKA__BOOTSTRAP"] = settings.kafka.bootstrap
        self._environment["HAL9_REDIS__URL"] = settings.redis.url
        return settings

    def refuse_ended(self) -> None:
        """Raise ServiceEnded if anything that this object started has ended without being told to."""
        self.services.refuse_ended()
        if any(self.local) and self.stack.endpoints() is None:
            gone = [server for server in self.stack.status() if server.pid is None]
            tails = "\n".join(
                f"{server.name} ended; the end of {server.log}:\n{tail(server.log, 15)}" for server in gone
            )
            raise ServiceEnded(tails or "the stack was stopped")

    def missing(self) -> list[str]:
        """What `up` would start, by name."""
        servers = [server.name for server in self.stack.status()] if any(self.local) else []
        running = running_in(self.directory)
        return [name for name in (*servers, *SERVICES) if name not in running]


def running_in(directory: Path) -> list[str]:
    """What runs of a directory, by name, whoever started it and whatever the settings name."""
    services, servers = Services(directory, {}), LocalStack(directory).status()
    return [
        *(name for name in SERVICES if services.pid(name) is not None),
        *(server.name for server in servers if server.pid is not None),
    ]


def down(directory: Path, *, purge: bool = False, grace_s: float = 10.0) -> list[str]:
    """Stop everything of a directory, whoever started it; returns what ran.

    Args:
        directory: of a topology.
        purge: also removes data and logs.
        grace_s: how long a part may take to stop before it is killed.
    """
    directory = directory.absolute()
    ran = running_in(directory)
    Services(directory, {}, stop_grace_s=grace_s).stop_all()
    LocalStack(directory, timeout_s=grace_s).down(purge=purge)
    return ran


def addressed(settings: Settings, endpoints: Endpoints) -> Settings:
    """The settings with the addresses of what was started."""
    kafka = replace(settings.kafka, bootstrap=endpoints.bootstrap) if endpoints.bootstrap else settings.kafka
    redis = replace(settings.redis, url=endpoints.redis_url) if endpoints.redis_url else settings.redis
    return replace(settings, kafka=kafka, redis=redis)


async def _reach(settings: Settings) -> None:
    await reach_kafka(settings.kafka)
    await reach_redis(settings.redis, settings.kafka.wait_s)
