"""The hierarchical system as a service."""

from pathlib import Path

from hal9.backend import Backend
from hal9.backend.handler import BatchHandler
from hal9.settings import Settings
from systems.hierarchical.faults import FailingHandler
from systems.hierarchical.handler import HierarchicalHandler


def main(settings: Settings) -> None:
    """Run the service until SIGTERM or SIGINT; it fails while the file SYSTEM.FAULT_FILE exists, if one is named."""
    handler: BatchHandler = HierarchicalHandler()
    if settings.system.fault_file:
        handler = FailingHandler(handler, Path(settings.system.fault_file).exists)
    Backend("hierarchical", handler).run(settings)
