"""Where the local stack keeps its files and from where it fetches them."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

MAVEN_CENTRAL = "https://repo1.maven.org/maven2"


@dataclass(frozen=True)
class StackSettings:
    """Settings of the section `STACK`: `HAL9_STACK__DIR` and so on.

    Attributes:
        dir: data, logs and state of the stack that `hal9 stack up` starts.
        cache_dir: downloads, shared by all stacks of this user.
        maven_base: base address of a Maven repository.
    """

    dir: Path = Path("~/.local/share/hal9/stack")
    cache_dir: Path = Path("~/.cache/hal9")
    maven_base: str = MAVEN_CENTRAL

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> "StackSettings":
        """Reads the three variables; what is unset or empty keeps its default."""
        default = cls()
        return cls(
            dir=Path(environment.get("HAL9_STACK__DIR") or default.dir).expanduser(),
            cache_dir=Path(environment.get("HAL9_STACK__CACHE_DIR") or default.cache_dir).expanduser(),
            maven_base=environment.get("HAL9_STACK__MAVEN_BASE") or default.maven_base,
        )
