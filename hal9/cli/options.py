"""Options that many verbs share, and the settings they lead to."""

import getpass
import logging
import os
import socket
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from msgspec.structs import replace

from hal9.settings import Settings, load
from hal9.telemetry.logs import configure_logs


class Output(StrEnum):
    """How results are printed."""

    TABLE = "table"
    JSON = "json"


Config = Annotated[
    Path | None, typer.Option("--config", help="TOML file with settings; default: the one HAL9_CONFIG names.")
]
Format = Annotated[Output, typer.Option("--output", "-o", help="table, or json on stdout alone.")]
Timeout = Annotated[float, typer.Option("--timeout", min=0.1, help="Seconds after which to give up.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and do nothing.")]


def settings_for(config: Path | None, timeout_s: float | None = None) -> Settings:
    """The settings of a verb: warnings alone are logged, and Kafka is waited for no longer than the verb."""
    settings = load(config, os.environ)
    level = "warning" if settings.telemetry.log_level == "info" else settings.telemetry.log_level
    configure_logs(replace(settings.telemetry, log_level=level))
    if level != "debug":
        # Its every failed attempt is an ERROR; a verb says once what could not be reached.
        logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    if timeout_s is None or timeout_s >= settings.kafka.wait_s:
        return settings
    return replace(settings, kafka=replace(settings.kafka, wait_s=timeout_s))


def actor() -> str:
    """Who gives a command: the user and the machine."""
    return f"{getpass.getuser()}@{socket.gethostname()}"
