"""What a run of the demo is asked for, and the settings that follow from it."""

import os
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from hal9.demo.report import Fault
from hal9.local.topology import named
from hal9.settings import Settings, load

FAULT_FILE = "fault"
DEADLINE_S = 4.0
"""Of a request: short, so that a system that is dead shows as timeouts soon."""

# Seconds where the defaults have minutes; what the user sets himself stays as it is.
_BRISK: dict[tuple[str, str], str] = {
    ("guardian", "error_window_s"): "5",
    ("guardian", "min_requests"): "20",
    ("guardian", "decide_every_s"): "0.2",
    ("guardian", "silence_s"): "15",
    ("orchestrator", "decide_every_s"): "0.2",
    ("telemetry", "log_format"): "console",
}


@dataclass(frozen=True, slots=True)
class Options:
    """One run.

    Attributes:
        fault: what strikes.
        seconds: about how long traffic flows.
        rate: requests per second.
        config: file of settings.
        ready_s: how long each part may take until it is ready.
    """

    fault: Fault
    seconds: float
    rate: float
    config: Path | None = None
    ready_s: float = 90.0


def environment(config: Path | None) -> Mapping[str, str]:
    """Variables for every service of a run, beyond what the user has set."""
    chosen = {
        f"HAL9_{section}__{name}".upper(): value
        for (section, name), value in _BRISK.items()
        if not named(section, name, config, os.environ)
    }
    chosen["HAL9_ORCHESTRATOR__PLAN"] = ""  # the run starts its own
    if named("kafka", "bootstrap", config, os.environ) and not named("topics", "prefix", config, os.environ):
        # A Kafka that is there before and after: topics (and groups) of this run alone.
        chosen["HAL9_TOPICS__PREFIX"] = f"hal9-demo-{uuid.uuid4().hex[:8]}."
    return chosen


def settings_of(config: Path | None, variables: Mapping[str, str]) -> Settings:
    """The settings of the run. Raises ConfigError."""
    return load(config, {**os.environ, **variables})
