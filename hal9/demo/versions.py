"""Which versions a run was made with; of what no longer answers, `unknown`."""

import platform
from importlib.metadata import version

from redis.exceptions import RedisError

from hal9.connection import redis_client
from hal9.demo.report import Versions
from hal9.settings.sections import Redis
from stack.artefacts import Lock


async def versions(redis: Redis, *, local_kafka: bool) -> Versions:
    """Kafka's is that of the lock file; a Kafka that was there before does not say its own."""
    return Versions(
        kafka=Lock.packaged().kafka if local_kafka else "external",
        redis=await _redis(redis),
        python=platform.python_version(),
        hal9=version("hal9-migration"),
    )


async def _redis(redis: Redis) -> str:
    client = redis_client(redis)
    try:
        about = await client.info("server")
    except RedisError:  # the run may have broken off because it is gone
        return "unknown"
    finally:
        await client.aclose()
    valkey = about.get("valkey_version")
    return f"valkey {valkey}" if valkey else str(about["redis_version"])
