"""The flat system as a service."""

from hal9.backend import Backend
from hal9.settings import Settings
from systems.flat.handler import FlatHandler


def main(settings: Settings) -> None:
    """Run the service until SIGTERM or SIGINT."""
    Backend("flat", FlatHandler()).run(settings)
