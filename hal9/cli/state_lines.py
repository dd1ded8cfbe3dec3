"""States as lines of JSON: `{"key": ..., "state": {...}}`; all of them are read before anything is done. Pure."""

from collections.abc import Iterable
from typing import Any

from msgspec import MsgspecError, Struct, json

from hal9.errors import ConfigError
from hal9.keys import key_error


class _Fields(Struct, forbid_unknown_fields=True):
    key: str
    state: dict[str, Any]


_decoder = json.Decoder(_Fields)


def read_states(lines: Iterable[bytes]) -> dict[bytes, dict[str, Any]]:
    """The state of each key; ConfigError names the first line that is none, or that has the key of another."""
    states: dict[bytes, dict[str, Any]] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            fields = _decoder.decode(line)
            key = fields.key.encode()
        except (MsgspecError, ValueError, RecursionError) as error:
            raise ConfigError(f"line {number}: {error}") from error
        problem = key_error(key) or ("its key stands in a line before" if key in states else None)
        if problem is not None:
            raise ConfigError(f"line {number}: {problem}")
        states[key] = fields.state
    return states
