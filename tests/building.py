"""Programs in Go that tests run: built into the user's cache, or the test is skipped and says why."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest


def go_program(source: Path, program: Path) -> str:
    """Build the module in `source` as `program`; skips without Go, or where Go cannot fetch what it needs."""
    if shutil.which("go") is None:
        pytest.skip("no go on PATH")
    program.parent.mkdir(parents=True, exist_ok=True)
    built = subprocess.run(
        ["go", "build", "-o", str(program), "."],
        cwd=source,
        env={**os.environ, "GOTOOLCHAIN": "local"},
        capture_output=True,
        text=True,
        check=False,
    )
    if built.returncode and any(why in built.stderr for why in ("dial tcp", "requires go >=", "proxy", "no such host")):
        pytest.skip(f"go cannot build it here: {built.stderr.strip().splitlines()[-1]}")
    assert built.returncode == 0, built.stderr
    return str(program)
