"""How settings become connections: options of Kafka clients, a Redis client, a bounded wait for both.

Whoever cannot be reached within the stated wait is named with its address (`Unreachable`).
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

from aiokafka.client import AIOKafkaClient
from aiokafka.errors import KafkaError
from aiokafka.helpers import create_ssl_context
from redis.asyncio import Redis as RedisClient
from redis.asyncio import RedisCluster
from redis.exceptions import RedisError

from hal9.errors import ConfigError, Unreachable
from hal9.settings.loading import masked_url
from hal9.settings.sections import Kafka, Redis

_PAUSE_S = 0.25
"""Between two attempts: a broker that comes up is found soon, one that is down is not hammered."""
_HINT = "; `eval $(hal9 stack env)` names the local one if it runs, `hal9 up` starts it"
"""For whoever set no address: the local stack takes free ports."""


def kafka_options(kafka: Kafka) -> dict[str, Any]:
    """Keyword arguments of every aiokafka client: address, security and the deadline of a request."""
    options: dict[str, Any] = {
        "bootstrap_servers": kafka.bootstrap,
        "security_protocol": kafka.security_protocol,
        "request_timeout_ms": kafka.request_timeout_ms,
    }
    if kafka.security_protocol.startswith("SASL"):
        options["sasl_mechanism"] = kafka.sasl_mechanism
        options["sasl_plain_username"] = kafka.sasl_username
        options["sasl_plain_password"] = kafka.sasl_password
    if kafka.security_protocol.endswith("SSL"):
        options["ssl_context"] = _ssl_context(kafka)
    return options


def _ssl_context(kafka: Kafka) -> Any:
    try:
        context = create_ssl_context(
            cafile=kafka.ssl_cafile or None,
            certfile=kafka.ssl_certfile or None,
            keyfile=kafka.ssl_keyfile or None,
            password=kafka.ssl_password or None,
        )
    except (OSError, ValueError) as error:
        raise ConfigError(f"KAFKA.SSL_*: the certificates cannot be used: {error}") from error
    context.check_hostname = kafka.ssl_check_hostname
    return context


async def reach_kafka(kafka: Kafka) -> None:
    """Return when a broker answers; raises Unreachable after `wait_s`."""

    async def attempt() -> None:
        client = AIOKafkaClient(**kafka_options(kafka))
        try:
            await client.bootstrap()
        finally:
            await client.close()

    hint = _HINT if kafka.bootstrap == Kafka().bootstrap else ""
    await _until(attempt, kafka.wait_s, f"Kafka at {kafka.bootstrap}", hint)


def redis_client(redis: Redis) -> RedisClient | RedisCluster:
    """A client without retries of its own beyond the connection: what it sends is fenced, or read-only."""
    options: dict[str, Any] = {"socket_timeout": redis.timeout_s, "socket_connect_timeout": redis.timeout_s}
    if redis.cluster:
        return RedisCluster.from_url(redis.url, **options)
    return RedisClient.from_url(redis.url, **options)


async def reach_redis(redis: Redis, wait_s: float) -> None:
    """Return when Redis answers; raises Unreachable after `wait_s`."""

    async def attempt() -> None:
        client = redis_client(redis)
        try:
            await client.ping()
        finally:
            await client.aclose()

    await _until(attempt, wait_s, f"Redis at {masked_url(redis.url)}", _HINT if redis.url == Redis().url else "")


async def _until(attempt: Callable[[], Awaitable[None]], wait_s: float, what: str, hint: str) -> None:
    """Attempt again and again until it succeeds; the last failure is the reason given."""
    end = time.monotonic() + wait_s
    reason: BaseException
    while True:
        try:
            async with asyncio.timeout(max(end - time.monotonic(), _PAUSE_S)):
                await attempt()
                return
        except (KafkaError, RedisError, OSError) as error:
            reason = error
        if time.monotonic() + _PAUSE_S >= end:
            raise Unreachable(f"{what} did not answer within {wait_s:g} s: {reason}{hint}") from reason
        await asyncio.sleep(_PAUSE_S)
