"""The packaged plans, and reading one by name or from a file."""

from importlib.resources import files
from pathlib import Path

from hal9.control.plan import MAX_BYTES, Plan, parse
from hal9.errors import ConfigError

_SUFFIX = ".yaml"


def names() -> list[str]:
    """Names of the packaged plans."""
    return sorted(
        entry.name.removesuffix(_SUFFIX) for entry in files(__name__).iterdir() if entry.name.endswith(_SUFFIX)
    )


def load(source: str) -> Plan:
    """The plan that `source` names: a packaged one (`canary`), or a YAML file. Raises ConfigError."""
    if source in names():
        return parse((files(__name__) / f"{source}{_SUFFIX}").read_text(encoding="utf-8"), source)
    try:
        with Path(source).open("rb") as file:
            text = file.read(MAX_BYTES + 1).decode()
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"plan {source}: neither a packaged plan ({', '.join(names())}) nor a file: {error}"
        ) from error
    return parse(text, source)
