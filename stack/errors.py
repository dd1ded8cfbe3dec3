"""What can go wrong with the local stack, by what the caller can do about it."""

from hal9.errors import ConfigError, Hal9Error, Unreachable


class StackError(Hal9Error):
    """Base of the failures of the local stack that are neither network nor configuration (exit code 1)."""


class Corrupt(StackError):
    """A fetched file is not the one that the lock names; it has been removed."""


class StartFailed(StackError):
    """A server process ended, or did not answer in time; the message ends with the last lines of its log."""


class FetchFailed(Unreachable):
    """The address that serves the artefacts did not answer (exit code 3)."""


class NoRuntime(ConfigError):
    """Neither a bundled nor an installed Java or Valkey fits this machine (exit code 2)."""
