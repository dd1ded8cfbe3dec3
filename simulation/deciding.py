"""Which modules of the product decide, as far as the simulation imports them, and which version of them a search is of.

`python -m simulation.deciding` prints the digest: whoever measures within a process that imported more asks it so.
"""

import hashlib
import subprocess
import sys
from pathlib import Path

import simulation.world  # noqa: F401  so that everything that a schedule plays is imported

ROOT = Path(__file__).resolve().parent.parent
DECIDING = ("services.", "hal9.backend.", "hal9.log.", "hal9.control.reducer", "hal9.control.route")
"""Where whatever the simulation imports decides. Their shells it does not import; the rest of `hal9.control` it does,
which is what people type and see."""


def imported() -> dict[str, str]:
    """By its file, each deciding module that this process has imported."""
    return {
        module.__file__: name
        for name, module in sorted(sys.modules.items())
        if name.startswith(DECIDING) and module.__file__ is not None
    }


def alone() -> list[str]:
    """The deciding modules by name, and last their digest, as a process finds them that imports nothing else."""
    found = subprocess.run(
        [sys.executable, "-m", "simulation.deciding"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return found.stdout.split()


def digest() -> str:
    """The version of the deciding code: the beginning of a SHA-256 over the sources, names included."""
    return alone()[-1]


def _digest() -> str:
    made = hashlib.sha256()
    for file, name in imported().items():
        made.update(f"{name}\n{Path(file).read_text(encoding='utf-8')}".encode())
    return made.hexdigest()[:16]


if __name__ == "__main__":
    print(*imported().values(), _digest(), sep="\n")
