"""`python -m services.router`: the service with settings from the environment."""

import os

from hal9.settings import load
from services.router.app import main

main(load(None, os.environ))
