"""`python -m services.orchestrator`: the same as `hal9 run orchestrator`, from the environment alone."""

import os
import sys

from hal9.errors import ConfigError, Hal9Error, Unreachable
from hal9.settings import load
from services.orchestrator.app import main

if __name__ == "__main__":
    try:
        main(load(None, os.environ))
    except Hal9Error as error:
        sys.stderr.write(f"error: {error}\n")
        sys.exit(2 if isinstance(error, ConfigError) else 3 if isinstance(error, Unreachable) else 1)
