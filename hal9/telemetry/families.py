"""The metrics that dashboards and alerts rely on. No label holds a neuron or a user."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Family:
    """A metric's name, what it says, and its labels."""

    name: str
    help: str
    labels: tuple[str, ...] = ()


REQUEST_DURATION = Family("hal9_request_duration_seconds", "From dispatch to the system's answer.", ("system", "role"))
REQUESTS = Family(
    "hal9_requests_total",
    "Requests by the system that served them and how they ended.",
    ("system", "role", "status"),
)
DIVERGENCES = Family("hal9_divergences_total", "Comparisons in which the systems differed.", ("kind",))
DIVERGENCES_LEFT_OUT = Family(
    "hal9_divergences_left_out_total",
    "Divergences that were counted and not written: more than the rate of their classes.",
)
COMPARISONS = Family("hal9_comparisons_total", "Comparisons by result.", ("result",))
NEURONS_MIGRATED = Family("hal9_neurons_migrated", "Neurons whose state both systems hold.")
NEURONS_REMAINING = Family("hal9_neurons_remaining", "Neurons that only one system holds.")
MIGRATION_PERCENTAGE = Family("hal9_migration_percentage", "Share of the neurons that the backfill has copied.")
TRAFFIC_PERCENTAGE = Family(
    "hal9_traffic_percentage",
    "Share of the buckets that hierarchical owns: by the newest decision, and by what each partition has settled.",
    ("kind",),
)
EPOCH = Family("hal9_epoch", "Version of the route: of a service that holds partitions, the oldest it serves.")
PHASE = Family("hal9_phase", "Phase of the plan, 1 to 6; 0 before it began.")
ROLLBACK_READY = Family("hal9_rollback_ready", "1 if a rollback would be safe within seconds.")
REPLICATION_LAG = Family(
    "hal9_replication_lag_records", "Changes that the other system's store does not hold yet.", ("direction",)
)
HEALTH_SCORE = Family("hal9_health_score", "Health of a component, 0 to 1.", ("component",))
VERDICTS = Family("hal9_verdicts_total", "What the guardian found, each time it looked.", ("trigger", "verdict"))
BREAKER_STATE = Family("hal9_breaker_state", "Circuit breaker: 0 closed, 1 half open, 2 open.", ("system",))
VALIDATIONS = Family("hal9_validations_total", "Units checked when they were copied.", ("result",))
SNAPSHOT_AGE = Family("hal9_snapshot_age_seconds", "Age of the newest verified snapshot.")
INTERVENTIONS = Family("hal9_manual_interventions_total", "Commands given by people.")
CONNECTIONS = Family("hal9_active_connections", "Open client connections to Kafka and Redis.")
CONSUMER_LAG = Family("hal9_consumer_lag", "Records not read yet.", ("topic",))
QUARANTINED = Family("hal9_quarantined_total", "Records that could not be applied.", ("reason",))
FALLBACKS = Family("hal9_fallbacks_total", "Reads answered in place of their owner, by whom.", ("system",))
READS_IGNORED = Family("hal9_reads_ignored_total", "Reads by operation that were not read-only at both systems.")
OVERLOAD = Family("hal9_overload_total", "Requests rejected for overload, by cause.", ("cause",))
SHADOWS_DROPPED = Family("hal9_shadows_dropped_total", "Shadows that did not go, by reason.", ("reason",))
TWINS_DROPPED = Family("hal9_twins_dropped_total", "Second runs by flat left out because too many were under way.")
HANDLER_CALLS = Family(
    "hal9_handler_calls_total", "Batches an HTTP handler was asked, by how that ended.", ("outcome",)
)
HANDLER_DURATION = Family(
    "hal9_handler_call_duration_seconds", "How long an HTTP handler took for a batch.", ("outcome",)
)
HANDLER_IN_FLIGHT = Family("hal9_handler_calls_in_flight", "Batches that an HTTP handler is being asked.")
HANDOVER = Family(
    "hal9_handover_seconds",
    "From the decision to each stage of a partition's hand-over; everywhere: until all partitions have settled.",
    ("stage",),
)

CONTRACT = (
    REQUEST_DURATION,
    REQUESTS,
    DIVERGENCES,
    COMPARISONS,
    NEURONS_MIGRATED,
    NEURONS_REMAINING,
    MIGRATION_PERCENTAGE,
    TRAFFIC_PERCENTAGE,
    EPOCH,
    PHASE,
    ROLLBACK_READY,
    REPLICATION_LAG,
    HEALTH_SCORE,
    VERDICTS,
    BREAKER_STATE,
    VALIDATIONS,
    SNAPSHOT_AGE,
    INTERVENTIONS,
    CONNECTIONS,
    CONSUMER_LAG,
    QUARANTINED,
)
