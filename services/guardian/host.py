"""Faust as the host of one agent over `outcomes`: raw bytes out, a small checkpoint in a plain table.

What Faust does here: group membership, delivery, the table and its changelog. Off are its web views, windowed tables,
transactions and the leader topic. An agent that raises would lose its event without a word, so nothing raises out of
this one: what `receive` cannot handle ends the host. Where to read from is not the group's commit but what `taken`
returns, so a record that was read beside Faust is not delivered again.
"""

import asyncio
import time
from typing import Any, Protocol

import faust
from aiokafka.errors import KafkaError
from faust.types import TP

from hal9.connection import kafka_options
from hal9.errors import Hal9Error, Transient
from hal9.settings.sections import Kafka
from services.guardian.leniency import be_lenient

SESSION_S = 6.0
"""The least that brokers allow by default: so soon does a standby take over from a guardian that was killed."""
HEARTBEAT_S = 1.0
CHECKPOINT_EVERY_S = 1.0
START_S = 60.0
STOP_S = 10.0
RECOVER_S = 15.0
"""A recovery of one small table takes a second, or for ever (seen after the broker had been stopped for 20 s)."""
_KEY = b"outcomes"


class HostFailed(Hal9Error):
    """A host has ended by itself; the cause is what ended it."""


class Receiver(Protocol):
    """What the host calls, always on its own loop."""

    async def taken(self, checkpoint: bytes | None) -> int:
        """The partition was assigned; returns the offset from which records are to be delivered."""
        ...

    async def receive(self, offset: int, key: bytes | None, value: bytes | None) -> None:
        """One record, in offset order."""
        ...

    def checkpoint(self) -> bytes | None:
        """What to save now, if anything."""
        ...

    def lost(self) -> None:
        """The partition is not ours any more."""
        ...


class _App(faust.App):
    """Keeps nothing on disk."""

    def _create_directories(self) -> None:
        pass


class FaustHost:
    """One Faust app, started once; a new one is made after a crash."""

    def __init__(self, kafka: Kafka, group: str, topic: str, replication_factor: int, receiver: Receiver) -> None:
        self._receiver = receiver
        self._at = TP(topic, 0)
        self._failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._saved_at = 0.0
        self._held = False
        self._waiting_since = time.monotonic()
        self._app = _App(
            group,
            loop=asyncio.get_running_loop(),
            autodiscover=False,
            store="memory://",
            web_enabled=False,
            topic_disable_leader=True,
            topic_partitions=1,
            topic_replication_factor=replication_factor,
            stream_wait_empty=False,
            key_serializer="raw",
            value_serializer="raw",
            broker_session_timeout=SESSION_S,
            broker_heartbeat_interval=HEARTBEAT_S,
            broker_commit_interval=1.0,
            broker_max_poll_records=500,
            **_broker(kafka),
        )
        self._table: Any = self._app.Table("checkpoint", key_type=bytes, value_type=bytes, partitions=1)
        source = self._app.topic(topic, key_type=bytes, value_type=bytes, partitions=1)
        self._app.agent(source, name="outcomes")(self._agent)
        self._app.on_rebalance_complete.connect(self._assigned, weak=False)
        self._app.on_partitions_revoked.connect(self._revoked, weak=False)

    async def start(self) -> None:
        """Returns when the group was joined and the table is recovered; raises Transient after `START_S`."""
        be_lenient()
        try:
            async with asyncio.timeout(START_S):
                await self._app.start()
        except (TimeoutError, KafkaError) as error:
            raise Transient(f"Faust did not start: {error!r}") from error

    async def stop(self) -> None:
        """Leaves the group; returns within `STOP_S` even if Kafka does not answer."""
        try:
            async with asyncio.timeout(STOP_S):
                await self._app.stop()
        except TimeoutError as error:
            raise Transient(f"Faust did not stop within {STOP_S:g} s") from error

    def check(self) -> None:
        """Raises HostFailed if this host delivers nothing any more."""
        reason = self._failed.exception() if self._failed.done() else self._app.crash_reason
        if reason is not None or self._app.crashed or self._app.should_stop:
            raise HostFailed(f"Faust delivers nothing any more: {reason!r}") from reason
        if self._held or self._at not in self._app.consumer.assignment():
            self._waiting_since = time.monotonic()
        elif time.monotonic() - self._waiting_since > RECOVER_S:
            raise HostFailed(f"Faust has not recovered its table within {RECOVER_S:g} s")

    async def _agent(self, stream: Any) -> None:
        async for event in stream.events():
            message = event.message
            try:
                await self._receiver.receive(message.offset, message.key, message.value)
                self._save()
            except Exception as error:  # noqa: BLE001  Faust would count the event as done
                self._fail(error)
                # Not acknowledged, and nothing after it either: whoever comes next reads it again.
                await asyncio.Event().wait()

    def _save(self) -> None:
        """Each second at most: a table write costs a record in the changelog."""
        if time.monotonic() - self._saved_at >= CHECKPOINT_EVERY_S:
            checkpoint = self._receiver.checkpoint()
            if checkpoint is not None:
                self._table[_KEY] = checkpoint
                self._saved_at = time.monotonic()

    async def _assigned(self, *_: Any, **__: Any) -> None:
        """The table is recovered, and nothing is delivered before this returns."""
        self._receiver.lost()
        self._held = True
        if self._at not in self._app.consumer.assignment():
            return
        try:
            start = await self._receiver.taken(self._table.get(_KEY))
            # Delivery begins at the group's commit, so that is what is set.
            consumer: Any = self._app.consumer
            await consumer._commit({self._at: start})  # noqa: SLF001  Faust has no public way
        except Hal9Error as error:
            self._fail(error)

    async def _revoked(self, *_: Any, **__: Any) -> None:
        self._held = False
        self._receiver.lost()

    def _fail(self, error: BaseException) -> None:
        if not self._failed.done():
            self._failed.set_exception(error)


def _broker(kafka: Kafka) -> dict[str, Any]:
    """Address and security of `kafka`, as Faust wants them."""
    options = kafka_options(kafka)
    found: dict[str, Any] = {
        "broker": [f"kafka://{address.strip()}" for address in kafka.bootstrap.split(",")],
        "broker_request_timeout": max(kafka.request_timeout_ms / 1000, SESSION_S),
    }
    context = options.get("ssl_context")
    if "sasl_mechanism" in options:
        found["broker_credentials"] = faust.SASLCredentials(
            username=kafka.sasl_username,
            password=kafka.sasl_password,
            mechanism=kafka.sasl_mechanism,
            ssl_context=context,
        )
    elif context is not None:
        found["broker_credentials"] = faust.SSLCredentials(context)
    return found
