"""Which modules of the product decide, as far as the simulation imports them, and which version of them a search is of.

`python -m simulation.deciding` prints the modules: whoever has imported more asks a process of its own.
"""

import hashlib
import subprocess
import sys
from functools import cache
from pathlib import Path

import simulation.world  # noqa: F401  so that everything that a schedule plays is imported

ROOT = Path(__file__).resolve().parent.parent
DECIDING = ("services.", "hal9.backend.", "hal9.log.", "hal9.control.reducer", "hal9.control.route")
"""Where whatever the simulation imports decides. Their shells it does not import; the rest of `hal9.control` it does,
which is what people type and see."""


@cache
def names() -> tuple[str, ...]:
    """The deciding modules, as a process finds them that imports the simulation alone."""
    found = subprocess.run(
        [sys.executable, "-m", "simulation.deciding"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return tuple(found.stdout.split())


def sources() -> dict[str, str]:
    """By its file, each deciding module."""
    files = {name: sys.modules[name].__file__ for name in names()}
    return {file: name for name, file in files.items() if file is not None}


def digest() -> str:
    """The version of the deciding code: the beginning of a SHA-256 over its sources, names included."""
    made = hashlib.sha256()
    for file, name in sources().items():
        made.update(f"{name}\n{Path(file).read_text(encoding='utf-8')}".encode())
    return made.hexdigest()[:16]


if __name__ == "__main__":
    print(*sorted(name for name in sys.modules if name.startswith(DECIDING)), sep="\n")
