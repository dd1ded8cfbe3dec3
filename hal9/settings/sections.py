"""What can be set, section by section: name, type, bounds, default, meaning. An empty string means "not set".

Bounds are checked by `hal9.settings.load`, not by the constructors.
"""

from typing import Annotated, Literal

from msgspec import Meta, Struct

Positive = Annotated[int, Meta(ge=1)]
Milliseconds = Annotated[int, Meta(ge=1, le=86_400_000)]
Seconds = Annotated[float, Meta(ge=0.0, le=86_400.0)]
Rate = Annotated[float, Meta(ge=0.0, le=1.0)]
Share = Annotated[float, Meta(gt=0.0, le=1.0)]
Bytes = Annotated[int, Meta(ge=1, le=16 * 1024 * 1024)]
Secret = Annotated[str, Meta(extra={"secret": True})]
Address = Annotated[str, Meta(extra={"url": True})]


class Kafka(Struct, frozen=True, kw_only=True):
    """How to reach Kafka."""

    bootstrap: Annotated[str, Meta(min_length=1, description="host:port, several with commas")] = "127.0.0.1:9092"
    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = "PLAINTEXT"
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = "PLAIN"
    sasl_username: str = ""
    sasl_password: Secret = ""
    ssl_cafile: Annotated[str, Meta(description="PEM file; empty: the system's authorities")] = ""
    ssl_certfile: Annotated[str, Meta(description="PEM file of the client's certificate")] = ""
    ssl_keyfile: str = ""
    ssl_password: Secret = ""
    ssl_check_hostname: bool = True
    wait_s: Annotated[Seconds, Meta(description="how long a start waits for Kafka before exit 3")] = 30.0
    request_timeout_ms: Annotated[Milliseconds, Meta(description="deadline of one request to a broker")] = 10_000
    session_ms: Annotated[
        int,
        Meta(
            ge=1_500,
            le=1_800_000,
            description="a silent member is out of its group after so long; shorter ones brokers refuse by default",
        ),
    ] = 6_000
    watchdog_s: Annotated[
        Seconds, Meta(description="a service ends when records wait and nothing moves for so long; 0: never")
    ] = 60.0


class Redis(Struct, frozen=True, kw_only=True):
    """How to reach Redis or Valkey."""

    url: Annotated[Address, Meta(description="redis://, rediss:// or unix://")] = "redis://127.0.0.1:6379/0"
    cluster: bool = False
    timeout_s: Annotated[Seconds, Meta(description="deadline of one call")] = 5.0


Name = Annotated[
    str, Meta(max_length=249, pattern=r"^[A-Za-z0-9._-]*$", description="full topic name; empty: by prefix")
]


class Topics(Struct, frozen=True, kw_only=True):
    """Names and shape of the topics; each name can be set on its own."""

    prefix: Annotated[str, Meta(max_length=128, pattern=r"^[A-Za-z0-9._-]*$")] = "hal9."
    partitions: Annotated[int, Meta(ge=1, le=1024, description="of every topic keyed by neuron")] = 12
    replication_factor: Annotated[int, Meta(ge=1, le=16)] = 1
    requests: Name = ""
    dispatched: Name = ""
    responses_flat: Name = ""
    responses_hierarchical: Name = ""
    responses: Name = ""
    divergences: Name = ""
    outcomes: Name = ""
    neurons_changes: Name = ""
    neurons_replica: Name = ""
    units_changes: Name = ""
    units_replica: Name = ""
    validations: Name = ""
    quarantine: Name = ""
    control: Name = ""
    status: Name = ""

    def overrides(self) -> dict[str, str]:
        """Log name (`responses.flat`) -> full topic name, for the names that are set."""
        logs = self.__struct_fields__[3:]
        return {log.replace("_", "."): getattr(self, log) for log in logs if getattr(self, log)}

    def names(self) -> dict[str, str]:
        """Log name -> full topic name, of every topic."""
        logs = [log.replace("_", ".") for log in self.__struct_fields__[3:]]
        return {log: self.prefix + log for log in logs} | self.overrides()


class Migration(Struct, frozen=True, kw_only=True):
    """Which migration: its id salts the buckets, so it never changes while one lives."""

    id: Annotated[str, Meta(min_length=1, max_length=128)] = "hal9"


class Http(Struct, frozen=True, kw_only=True):
    """Where a service serves /healthz, /readyz and /metrics."""

    host: Annotated[str, Meta(min_length=1)] = "127.0.0.1"
    port: Annotated[int, Meta(ge=-1, le=65535, description="0: a free one, logged at start; -1: off")] = 0


class Telemetry(Struct, frozen=True, kw_only=True):
    """Logs and traces."""

    otlp_endpoint: Annotated[Address, Meta(description="OTLP/HTTP base address; empty: no traces leave")] = ""
    trace_ratio: Annotated[Rate, Meta(description="share of the requests without a trace that get one")] = 0.01
    log_format: Literal["auto", "console", "json"] = "auto"
    log_level: Literal["debug", "info", "warning", "error"] = "info"


class Router(Struct, frozen=True, kw_only=True):
    """The router's limits and the tolerances of the comparison."""

    deadline_ms: Annotated[int, Meta(ge=1, le=60_000, description="of a request that names none")] = 10_000
    value_bytes: Annotated[Bytes, Meta(description="greatest value of a request")] = 256 * 1024
    id_window_ms: Annotated[Milliseconds, Meta(description="how long a repeated id is the same request")] = 60_000
    in_flight_max: Annotated[Positive, Meta(description="requests under way above which a partition pauses")] = 2_000
    in_flight_bytes: Annotated[Positive, Meta(description="the same in bytes")] = 64 * 1024 * 1024
    process_in_flight_max: Annotated[Positive, Meta(description="the same over all partitions of a process")] = 20_000
    process_in_flight_bytes: Annotated[Positive, Meta(description="the same in bytes")] = 256 * 1024 * 1024
    key_share: Annotated[Share, Meta(description="of IN_FLIGHT_MAX that one key may hold while others wait")] = 0.25
    float_rel: Annotated[float, Meta(ge=0.0, le=1.0, description="relative tolerance of floats")] = 1e-9
    float_abs: Annotated[float, Meta(ge=0.0, le=1e9, description="absolute tolerance of floats")] = 1e-12
    breaker: Annotated[bool, Meta(description="whether the circuit breakers of the systems act")] = True
    breaker_window_s: Annotated[int, Meta(ge=1, le=300, description="seconds that a breaker judges")] = 10
    breaker_min_requests: Annotated[Positive, Meta(description="fewer in the window say nothing")] = 20
    breaker_error_share: Annotated[Share, Meta(description="of errors and timeouts, at which it opens")] = 0.5
    breaker_slow_share: Annotated[Share, Meta(description="of slow requests, at which it opens")] = 0.8
    breaker_slow_ms: Annotated[Milliseconds, Meta(description="a request that takes longer is slow")] = 2_000
    breaker_open_ms: Annotated[Milliseconds, Meta(description="how long it stays open before it is probed")] = 10_000
    breaker_probes: Annotated[Positive, Meta(description="shadow executions that decide whether it closes")] = 5
    fallback_after: Annotated[
        float, Meta(ge=0.0, lt=1.0, description="part of its time after which a read is asked for elsewhere; 0: never")
    ] = 0.5
    shadow_rate: Annotated[float, Meta(ge=0.0, le=1e7, description="shadows per second; 0: no bound")] = 0.0
    shadow_burst: Annotated[Positive, Meta(description="shadows that may go at once")] = 1_000
    divergence_rate: Annotated[
        float, Meta(ge=0.0, le=1e7, description="divergences written per second of each class; 0: all")
    ] = 100.0
    divergence_burst: Annotated[Positive, Meta(description="of a class that may be written at once")] = 2_000


class Comparison(Struct, frozen=True, kw_only=True):
    """How the answers and states of both systems are compared; the same for the router and both systems."""

    rules: Annotated[str, Meta(description="YAML file with rules; empty: exact, floats within ROUTER.FLOAT_*")] = ""
    redaction_key: Annotated[Secret, Meta(description="key of the hashes shown for redacted values")] = ""


class System(Struct, frozen=True, kw_only=True):
    """A system: its limits, and the handler of one that is not built in."""

    name: Literal["", "flat", "hierarchical"] = ""
    handler: Annotated[
        str, Meta(description="module:attribute, or http:// or https:// of a handler", extra={"url": True})
    ] = ""
    handler_format: Annotated[
        Literal["auto", "msgpack", "json"], Meta(description="of the bodies; auto: as the handler describes itself")
    ] = "auto"
    handler_timeout_s: Annotated[
        float, Meta(ge=0.01, le=600.0, description="how long an HTTP handler may take for a batch")
    ] = 5.0
    handler_wait_s: Annotated[Seconds, Meta(description="how long a start waits for an HTTP handler")] = 30.0
    handler_connections: Annotated[Positive, Meta(description="to an HTTP handler, at most")] = 16
    value_bytes: Annotated[Bytes, Meta(description="greatest answer")] = 256 * 1024
    state_bytes: Annotated[Bytes, Meta(description="greatest state of a neuron")] = 384 * 1024
    batch_max: Annotated[Positive, Meta(description="most requests handed to the handler at once")] = 500
    fault_file: Annotated[str, Meta(description="while this file exists the built-in hierarchical system fails")] = ""


class Migrator(Struct, frozen=True, kw_only=True):
    """Replication, seals and backfill."""

    force_seal_ms: Annotated[Milliseconds, Meta(description="how long a seal may be missing after its marker")] = 3_000
    dead_after_ms: Annotated[Milliseconds, Meta(description="no heartbeat for so long: the system is dead")] = 2_000
    backfill_rate: Annotated[float, Meta(ge=0.1, le=1e7, description="neurons per second")] = 2_000.0
    backfill_burst: Positive = 500


class Guardian(Struct, frozen=True, kw_only=True):
    """When to go back."""

    error_rate: Annotated[Rate, Meta(description="of hierarchical as primary; more is a regression")] = 0.05
    error_window_s: Annotated[Seconds, Meta(description="window of the error rate")] = 60.0
    min_requests: Annotated[Positive, Meta(description="requests in the window below which it is insufficient")] = 50
    silence_s: Annotated[Seconds, Meta(description="no outcomes for so long: freeze; twice: roll back")] = 30.0
    idle_timeout_s: Annotated[Seconds, Meta(description="a router silent for so long holds no window open")] = 5.0
    grace_s: Annotated[Seconds, Meta(description="how late an outcome may come")] = 2.0
    decide_every_s: Annotated[float, Meta(ge=0.05, le=60.0)] = 0.5


class Orchestrator(Struct, frozen=True, kw_only=True):
    """How the plan is walked; the plan itself is on `control`."""

    decide_every_s: Annotated[float, Meta(ge=0.05, le=60.0)] = 0.5
    plan: Annotated[str, Meta(description="YAML file or the name of a packaged plan; started if none is")] = ""


class Stack(Struct, frozen=True, kw_only=True):
    """The local Kafka and Redis."""

    dir: Annotated[str, Meta(description="data and logs; empty: ~/.local/share/hal9/stack")] = ""
    maven_base: Annotated[Address, Meta(description="where Kafka's jars come from")] = "https://repo1.maven.org/maven2"
    cache_dir: Annotated[str, Meta(description="downloads; empty: ~/.cache/hal9")] = ""


class Client(Struct, frozen=True, kw_only=True):
    """The Python client, as the command line uses it."""

    deadline_ms: Annotated[int, Meta(ge=1, le=60_000, description="of a request that names none")] = 10_000
    grace_ms: Annotated[Milliseconds, Meta(description="how long after the deadline its answer is awaited")] = 2_000
    in_flight_max: Annotated[Positive, Meta(description="requests in flight; more wait")] = 1_000
    in_flight_bytes: Annotated[Positive, Meta(description="keys and values in flight; more wait")] = 64 * 1024 * 1024
    retries: Annotated[int, Meta(ge=0, le=100, description="times a request is sent again, under its id")] = 0
    producers: Annotated[int, Meta(ge=1, le=64, description="connections that send; a partition keeps to one")] = 1


class Settings(Struct, frozen=True, kw_only=True):
    """Everything that can be set; each service reads the shared sections and its own."""

    kafka: Kafka = Kafka()
    redis: Redis = Redis()
    topics: Topics = Topics()
    migration: Migration = Migration()
    http: Http = Http()
    telemetry: Telemetry = Telemetry()
    router: Router = Router()
    comparison: Comparison = Comparison()
    system: System = System()
    migrator: Migrator = Migrator()
    guardian: Guardian = Guardian()
    orchestrator: Orchestrator = Orchestrator()
    stack: Stack = Stack()
    client: Client = Client()


SHARED = ("kafka", "redis", "topics", "migration", "http", "telemetry")
OWN = {
    "router": ("router", "comparison"),
    "migrator": ("migrator",),
    "guardian": ("guardian",),
    "orchestrator": ("orchestrator",),
    "flat": ("system", "comparison"),
    "hierarchical": ("system", "comparison"),
    "system": ("system", "comparison"),
    "stack": ("stack",),
    "client": ("client",),
}
