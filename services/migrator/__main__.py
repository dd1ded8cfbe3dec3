"""`python -m services.migrator`: the service with settings from the environment."""

import os

from hal9.settings import load
from services.migrator.app import main

main(load(None, os.environ))
