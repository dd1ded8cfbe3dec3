"""One error base, a shallow tree by what the caller can do about it."""


class Hal9Error(Exception):
    """Base of every error that this package raises on purpose."""


class Poison(Hal9Error):
    """A record that can never be applied: reject or quarantine it, and go on.

    Attributes:
        code: short reason, `[a-z-]+`, fit for a metric label.
        detail: what was wrong, for a person.
    """

    def __init__(self, code: str, detail: str = "") -> None:
        super().__init__(f"{code}: {detail}" if detail else code)
        self.code = code
        self.detail = detail


class Transient(Hal9Error):
    """A dependency did not do what was asked in time: try again."""


class Fenced(Hal9Error):
    """Another writer has claimed the log: stop, or claim again."""


class Refused(Hal9Error):
    """A command is illegal from the present state, or the epoch moved on (exit code 4)."""


class Unreachable(Hal9Error):
    """Kafka or Redis did not answer within the stated wait (exit code 3)."""


class Stalled(Hal9Error):
    """Something that has work does nothing, and cannot be mended from within: start anew (exit code 1)."""


class ConfigError(Hal9Error):
    """A wrong setting or wrong usage (exit code 2)."""
