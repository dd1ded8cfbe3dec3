"""Settings: defaults, then a TOML file, then the environment (`HAL9_<SECTION>__<NAME>`).

Unknown keys are refused. A wrong one raises `ConfigError`: setting, value, origin and the nearest right one.
"""

from hal9.settings.loading import load
from hal9.settings.rendering import render
from hal9.settings.sections import (
    Client,
    Guardian,
    Http,
    Kafka,
    Migration,
    Migrator,
    Orchestrator,
    Redis,
    Router,
    Settings,
    Stack,
    System,
    Telemetry,
    Topics,
)

__all__ = [
    "Client",
    "Guardian",
    "Http",
    "Kafka",
    "Migration",
    "Migrator",
    "Orchestrator",
    "Redis",
    "Router",
    "Settings",
    "Stack",
    "System",
    "Telemetry",
    "Topics",
    "load",
    "render",
]
