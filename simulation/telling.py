"""How a world tells what happens in it: actions and records as lines of a trace, and errors as broken promises."""

import msgspec

from hal9.errors import Hal9Error
from hal9.testing.memory import Stored
from simulation.director import Action
from simulation.history import Violation


class Judged:
    """A block in which whatever the product raises breaks a promise."""

    def __enter__(self) -> None:
        return

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        if isinstance(error, Exception) and not isinstance(error, Hal9Error):
            raise Violation("an error was raised", f"{type(error).__name__}: {error}") from error


def decree(record: Stored) -> str:
    """A record of `control` as a line of the trace."""
    held = msgspec.msgpack.decode(record.value or b"\x80")
    written = (f"{name}={value}" for name, value in held.items() if name not in {"id", "migration", "actor", "at_ms"})
    return f"[{record.offset}] {' '.join(written)}"


def told(action: Action) -> str:
    """An action as a line of the trace."""
    verb, *arguments = action
    return " ".join([f"{verb!s}:", *(a.decode() if isinstance(a, bytes) else str(a) for a in arguments)])
