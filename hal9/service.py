"""What every service that holds partitions does around its cores: connections, heartbeats, probes, a clean stop.

A service is a `Role`: what its cores are, what it says of itself. `run` is its process, until SIGTERM or SIGINT.
"""

import asyncio
import ctypes
import gc
import signal
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from typing import Any, Protocol

import uvloop

from hal9.connection import reach_kafka
from hal9.control.log import ControlFollower, following
from hal9.control.reducer import Outcome
from hal9.heartbeat import Heartbeat, instance_name
from hal9.http import HttpServer, service_routes
from hal9.log.clock import Clock
from hal9.log.effects import PartitionCore, Tracer
from hal9.log.runtime import Hooks, Runtime
from hal9.log.supervision import until_first
from hal9.settings import Settings
from hal9.telemetry.families import CONNECTIONS, CONSUMER_LAG, EPOCH
from hal9.telemetry.logs import configure_logs, logger
from hal9.telemetry.metrics import Metrics
from hal9.telemetry.tracing import configure_tracing
from hal9.topics import Topics, agree
from schemas.control import Settled
from schemas.telemetry import Status

Cores = Mapping[int, PartitionCore]
TRACE_FLUSH_S = 3.0
GARBAGE = (50_000, 100, 20)
"""Thresholds of the garbage collector (Python's own begin at 700)."""
ALLOCATOR = {-1: 64 * 1024 * 1024, -3: 32 * 1024 * 1024}
"""`mallopt` of glibc: M_TRIM_THRESHOLD, how much free memory is kept; M_MMAP_THRESHOLD, what is never kept."""

_log = logger("service")


@dataclass(frozen=True)
class Context:
    """What a role is given to make its cores with."""

    settings: Settings
    topics: Topics
    instance: str
    clock: Clock
    metrics: Metrics
    tracer: Tracer
    unique: Callable[[], str]


class Role(Protocol):
    """A service's own part."""

    @property
    def core_type(self) -> type[PartitionCore]:
        """What `make_core` makes."""
        ...

    def make_core(self, partition: int) -> PartitionCore:
        """A new incarnation for a partition."""
        ...

    def status(self, cores: Cores, status: Status) -> Status:
        """What the heartbeat says beside what every service says."""
        ...

    def hooks(self) -> Hooks:
        """What is done before each tick and each second; effects go to the runtime by `attach`."""
        ...

    def attach(self, runtime: Runtime) -> None:
        """The runtime, before it runs."""
        ...

    def beside(self) -> Sequence[Coroutine[Any, Any, None]]:
        """What runs beside the runtime and as long; the service ends when one of them does."""
        ...

    def trouble(self) -> list[str]:
        """Why it is not ready, beside the runtime's reasons."""
        ...


@dataclass
class Service:
    """One process of a service that holds partitions."""

    name: str
    make_role: Callable[[Context], Role]
    head: bool = False
    """Whether requests without a trace may get one here."""

    async def serve(self, settings: Settings, stop: asyncio.Event) -> None:
        """Run until `stop` is set. Raises Unreachable, or what ended it."""
        import uuid  # noqa: PLC0415  only a shell draws

        instance, clock, metrics = instance_name(self.name), Clock(), Metrics()
        configure_logs(settings.telemetry, service=self.name, instance=instance)
        tracing = configure_tracing(settings.telemetry, self.name, instance, head=self.head)
        topics = Topics.of(settings.topics)
        context = Context(settings, topics, instance, clock, metrics, tracing.tracer, lambda: uuid.uuid4().hex)
        await reach_kafka(settings.kafka)
        await agree(settings.kafka, topics)
        async with AsyncExitStack() as closing:
            closing.push_async_callback(asyncio.to_thread, tracing.close)
            control = await closing.enter_async_context(following(settings.kafka, topics, settings.migration.id))
            role = self.make_role(context)
            runtime = self._runtime(context, role, control)
            role.attach(runtime)
            status = topics.name("status")
            beat = Heartbeat(settings.kafka, status, lambda: self._status(context, role, runtime))
            http = HttpServer(settings.http, service_routes(metrics, lambda: [*runtime.healthy(), *role.trouble()]))
            await closing.enter_async_context(http)
            await closing.enter_async_context(beat)
            await until_first(runtime.run(), self._stopping(stop, runtime), *role.beside())
            _log.info("stopped")

    def _runtime(self, context: Context, role: Role, control: ControlFollower) -> Runtime:
        hooks = role.hooks()
        control.listen(_decided)

        def each_second(cores: Cores) -> None:
            hooks.each_second(cores)
            for topic, lag in runtime.lag().items():
                context.metrics.gauge(CONSUMER_LAG, topic=topic).set(lag)
            context.metrics.gauge(CONNECTIONS).set(runtime.connections())
            epochs = self._status(context, role, runtime).epochs
            context.metrics.gauge(EPOCH).set(min(epochs.values(), default=control.state.epoch))

        runtime = Runtime(
            context.settings.kafka,
            context.topics,
            f"{context.settings.topics.prefix}{self.name}",
            role.core_type,
            role.make_core,
            control,
            service=self.name,
            hooks=replace(hooks, each_second=each_second),
        )
        return runtime

    def _status(self, context: Context, role: Role, runtime: Runtime) -> Status:
        base = Status(
            instance=context.instance, service=self.name, at_ms=int(context.clock.now_ms()), lag=runtime.lag()
        )
        return role.status(runtime.cores, base)

    async def _stopping(self, stop: asyncio.Event, runtime: Runtime) -> None:
        await stop.wait()
        _log.info("stopping")
        await runtime.stop()


def _decided(offset: int, outcome: Outcome) -> None:
    """One line per decision; what the migrator decides, `settled`, it says itself."""
    record = outcome.record
    if record is None or isinstance(record, Settled):
        return
    _log.info(
        "decision",
        offset=offset,
        type=record.__struct_config__.tag,
        event_id=record.id,
        actor=record.actor,
        verdict=outcome.verdict,
        epoch=outcome.epoch,
        reason=outcome.reason,
    )


def _keep_buffers() -> None:
    """Fetches and batches are large and short-lived: given back and taken anew, each has its pages cleared again."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # glibc alone has it
    if mallopt is not None:
        for parameter, value in ALLOCATOR.items():
            mallopt(parameter, value)


def run(serve: Callable[[Settings, asyncio.Event], Awaitable[None]], settings: Settings) -> None:
    """Run a service in this process until SIGTERM or SIGINT; raises KeyboardInterrupt after the latter."""
    told: list[signal.Signals] = []

    async def until_told() -> None:
        stop = asyncio.Event()

        def tell(number: signal.Signals) -> None:
            told.append(number)
            stop.set()

        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, tell, number)
        await serve(settings, stop)

    # What a service keeps lives in tables, not in cycles: looking for cycles this seldom saves a fifth of the CPU.
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GARBAGE)
    _keep_buffers()
    uvloop.run(until_told())
    if signal.SIGINT in told:
        raise KeyboardInterrupt
