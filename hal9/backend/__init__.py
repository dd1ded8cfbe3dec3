"""The runtime of a system: a user writes the handler, this executes it once per position and keeps its state."""

from typing import TYPE_CHECKING

from hal9.backend.handler import Refused

if TYPE_CHECKING:
    from hal9.backend.app import Backend

__all__ = ["Backend", "Refused"]


def __getattr__(name: str) -> object:
    """`Backend` brings Kafka along: loaded when it is asked for, so that pure modules stay light."""
    if name == "Backend":
        from hal9.backend.app import Backend  # noqa: PLC0415  see above

        return Backend
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
