"""The settings as a TOML file that `load` reads back, secrets masked."""

import json

from msgspec.structs import FieldInfo, fields

from hal9.settings.loading import is_address, is_secret, masked_url
from hal9.settings.sections import OWN, SHARED, Settings


def render(settings: Settings, service: str | None = None) -> str:
    """TOML of every section, or of those that `service` reads."""
    wanted = (*SHARED, *OWN.get(service, ())) if service else settings.__struct_fields__
    blocks = []
    for section in wanted:
        values = getattr(settings, section)
        lines = [f"{info.name} = {_shown(info, getattr(values, info.name))}" for info in fields(values)]
        blocks.append("\n".join([f"[{section}]", *lines]))
    return "\n\n".join(blocks) + "\n"


def _shown(info: FieldInfo, value: object) -> str:
    if isinstance(value, str):
        if is_secret(info) and value:
            value = "***"
        elif is_address(info):
            value = masked_url(value)
    # JSON's scalars (printable strings, finite numbers, true and false) are TOML's.
    return json.dumps(value, ensure_ascii=False)
