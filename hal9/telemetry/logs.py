"""Structured logs: one event per decision, on stderr, JSON for machines and columns for people.

Loggers write through the standard library, so what a library logs goes the same way, and a program that only uses the
client keeps its own logging set-up. `configure_logs` is for entry points.
"""

import logging
import os
import sys
from collections.abc import Sequence
from typing import cast

import structlog
from structlog.typing import EventDict, Processor

from hal9.settings.sections import Telemetry

QUIET = ("aiokafka", "asyncio", "faust", "mode", "opentelemetry")
"""Libraries whose INFO is noise to an operator; shown at level debug only."""

_SHARED: tuple[Processor, ...] = (
    structlog.stdlib.add_log_level,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
)


def logger(name: str) -> structlog.stdlib.BoundLogger:
    """A logger; its events are snake_case names with fields."""
    processors = [structlog.stdlib.filter_by_level, *_SHARED, structlog.stdlib.ProcessorFormatter.wrap_for_formatter]
    wrapped = structlog.wrap_logger(
        logging.getLogger(f"hal9.{name}"),
        processors=processors,
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    return cast("structlog.stdlib.BoundLogger", wrapped)


def configure_logs(telemetry: Telemetry, **fixed: str) -> None:
    """Send everything to stderr; `fixed` (service, instance) is in every line."""
    level = logging.getLevelNamesMapping()[telemetry.log_level.upper()]
    as_json = telemetry.log_format == "json" or (telemetry.log_format == "auto" and not sys.stderr.isatty())
    handler = logging.StreamHandler(sys.stderr)
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=[*_SHARED, structlog.stdlib.ExtraAdder()],
        processors=[_Fixed(fixed), *_ending(as_json)],
    )
    handler.setFormatter(formatter)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    for name in QUIET:
        logging.getLogger(name).setLevel(level if level <= logging.DEBUG else max(level, logging.WARNING))


def _ending(as_json: bool) -> Sequence[Processor]:
    meta = structlog.stdlib.ProcessorFormatter.remove_processors_meta
    if as_json:
        return (meta, structlog.processors.format_exc_info, structlog.processors.JSONRenderer())
    colours = sys.stderr.isatty() and not os.environ.get("NO_COLOR")
    return (meta, structlog.dev.ConsoleRenderer(colors=colours))


class _Fixed:
    """Adds the same fields to every line, whichever thread or loop logs it (context variables would not)."""

    def __init__(self, fields: dict[str, str]) -> None:
        self._fields = fields

    def __call__(self, _logger: object, _method: str, event: EventDict) -> EventDict:
        return {**self._fields, **event}
