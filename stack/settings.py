"""Where the local stack keeps its files: the section `STACK`, with its empty values filled in."""

import os
from pathlib import Path

from hal9.settings import Stack, load


def from_environment() -> Stack:
    """The section as files and environment set it.

    Raises:
        ConfigError: some setting is wrong.
    """
    return load(None, os.environ).stack


def stack_dir(settings: Stack) -> Path:
    """Data, logs and state of the stack that `hal9 stack up` starts."""
    return Path(settings.dir or "~/.local/share/hal9/stack").expanduser()


def cache_dir(settings: Stack) -> Path:
    """Downloads, shared by all stacks of this user."""
    return Path(settings.cache_dir or "~/.cache/hal9").expanduser()
