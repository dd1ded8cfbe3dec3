"""What is switched, as one object: what makes a whole of flags wrong, what they say of the route, what they are named.

Where scopes overlap, one order decides: a key's pin, then `enabled`, then its longest prefix, then its layer if that is
held, then the percentage. The pin comes first because the migrator pins keys that cannot be moved: a switch must not
route them to where their state is not. Pure.
"""

from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches
from itertools import pairwise
from types import MappingProxyType
from typing import Any, get_args

import msgspec
from msgspec.structs import fields, replace

from hal9.control.route import NO_PINS, Route
from hal9.errors import ConfigError
from hal9.keys import key_error
from schemas.base import HIERARCHICAL, SYSTEMS, System
from schemas.control import Flags
from schemas.state import ArchitectureLayer, Layer

MAX_PREFIXES = 64
"""Every marker and seal carries them, and each has a step function of its own."""
ARCHITECTURE: tuple[ArchitectureLayer, ...] = get_args(ArchitectureLayer)
_TABLES = ("pins", "prefixes", "reads")
_SWITCH = {"on": True, "true": True, "yes": True, "off": False, "false": False, "no": False}


def problems(flags: Flags) -> list[str]:
    """Why the flags make no whole; empty if they do."""
    found: list[str] = []
    for before, layer in pairwise(ARCHITECTURE):
        if getattr(flags.layers, layer) and not getattr(flags.layers, before):
            found.append(f"layers.{layer} needs layers.{before}")
    found += [f"pins.{key}: {error}" for key in flags.pins if (error := key_error(key.encode())) is not None]
    found += [f"prefixes.{key}: {error}" for key in flags.prefixes if (error := key_error(key.encode())) is not None]
    if len(flags.prefixes) > MAX_PREFIXES:
        found.append(f"{len(flags.prefixes)} prefixes, more than {MAX_PREFIXES}")
    return found


def route_of(flags: Flags) -> Route:
    """The route that the flags describe."""
    pins: Mapping[str, System] = MappingProxyType(dict(flags.pins)) if flags.pins else NO_PINS
    if not flags.enabled:
        return Route(pins=pins)
    return Route(
        bound=round(flags.percentage * 100),
        shadow_bound=round(flags.shadow * 100),
        pins=pins,
        prefixes=MappingProxyType(dict(flags.prefixes)) if flags.prefixes else NO_PINS,
        twin_bound=round(flags.twin * 100),
        reads=MappingProxyType(dict(flags.reads)) if flags.reads else NO_PINS,
        off=frozenset(layer for layer in ARCHITECTURE if not getattr(flags.layers, layer)),
        held=frozenset(flags.held),
    )


def promotes(before: Flags, after: Flags) -> bool:
    """Whether hierarchical gets more than it had."""
    one, two = route_of(before), route_of(after)
    pairs = ((one.pins, two.pins), (one.prefixes, two.prefixes), (one.reads, two.reads))
    more = any(s == HIERARCHICAL and had.get(key) != s for had, has in pairs for key, s in has.items())
    # A key that was held at flat and is not any more goes where the rest says.
    freed = any(key not in has and s != HIERARCHICAL for had, has in pairs for key, s in had.items())
    freed |= bool(one.held - two.held)
    return two.bound > one.bound or more or (freed and two.involved)


def rolled_back(flags: Flags, percentage: float) -> Flags:
    """The flags after a rollback to `percentage`: no prefix and no read leads to hierarchical any more."""
    return replace(
        flags,
        percentage=percentage,
        prefixes={key: s for key, s in flags.prefixes.items() if s != HIERARCHICAL},
        reads={key: s for key, s in flags.reads.items() if s != HIERARCHICAL},
    )


# ---------------------------------------------------------------------- as people name them
def listing(flags: Flags) -> dict[str, tuple[object, str]]:
    """Name -> (value, meaning), in the order of the struct; a table has a row per entry (one without, if empty)."""
    found: dict[str, tuple[object, str]] = {}
    types = msgspec.inspect.type_info(Flags)
    meanings = {f.name: _meaning(f.type) for f in types.fields} if isinstance(types, msgspec.inspect.StructType) else {}
    for field in fields(Flags):
        value, meaning = getattr(flags, field.name), meanings.get(field.name, "")
        if field.name == "layers":
            found |= {f"layers.{layer}": (getattr(value, layer), meaning) for layer in ARCHITECTURE}
        elif field.name in _TABLES and value:
            found |= {f"{field.name}.{key}": (system, meaning) for key, system in sorted(value.items())}
        else:
            found[field.name] = (value, meaning)
    return found


def entry_of(name: str) -> bool:
    """Whether a name is one of an entry of a table, which may be there or not (`pins.KEY`)."""
    table, dot, entry = name.partition(".")
    return table in _TABLES and bool(dot and entry)


def _meaning(kind: msgspec.inspect.Type) -> str:
    if isinstance(kind, msgspec.inspect.UnionType):
        return next((m for inner in kind.types if (m := _meaning(inner))), "")
    extra = kind.extra_json_schema if isinstance(kind, msgspec.inspect.Metadata) else None
    return str((extra or {}).get("description", ""))


def changed(flags: Flags, assignments: Sequence[str]) -> Flags:
    """The flags after `NAME=VALUE`, all at once; an empty value takes an entry out. Raises ConfigError."""
    given: set[str] = set()
    for assignment in assignments:
        name, equals, text = assignment.partition("=")
        if not equals:
            raise ConfigError(f"{assignment!r} is not NAME=VALUE")
        if name.strip() in given:
            raise ConfigError(f"{name.strip()} is given twice")
        given.add(name.strip())
        flags = _assigned(flags, name.strip(), text.strip())
    try:
        return msgspec.convert(msgspec.to_builtins(flags), Flags)
    except msgspec.ValidationError as error:
        raise ConfigError(f"{' '.join(assignments)}: {error}") from error


def _assigned(flags: Flags, name: str, text: str) -> Flags:
    head, dot, rest = name.partition(".")
    if head == "layers" and rest in ARCHITECTURE:
        return replace(flags, layers=replace(flags.layers, **{rest: _read(name, text, _switch)}))
    if head in _TABLES and dot and rest:
        table: dict[str, System] = dict(getattr(flags, head))
        if text:
            table[rest] = _read(name, text, _system)
        else:
            table.pop(rest, None)
        return replace(flags, **{head: table})
    readers: dict[str, Callable[[str], Any]] = {
        "enabled": _switch,
        "auto_rollback": _switch,
        "percentage": _percent,
        "shadow": _percent,
        "twin": _percent,
        "error_threshold": lambda given: _between(given, 1) if given else None,
        "held": _layers,
    }
    if name not in readers:
        raise ConfigError(unknown(name))
    return replace(flags, **{name: _read(name, text, readers[name])})


def unknown(name: str) -> str:
    """That there is no such flag, and the nearest right name."""
    layers = [f"layers.{layer}" for layer in ARCHITECTURE]
    known = [f for f in Flags.__struct_fields__ if f not in ("layers", *_TABLES)] + layers
    close = get_close_matches(name, known, n=1)
    hint = f"; did you mean {close[0]}?" if close else ""
    return f"there is no flag {name!r}: there are {', '.join(known)}, {', '.join(f'{t}.NAME' for t in _TABLES)}{hint}"


def _read(name: str, text: str, reader: Callable[[str], Any]) -> Any:
    try:
        return reader(text)
    except (ValueError, KeyError) as error:
        raise ConfigError(f"{name}={text}: {error}") from error


def _percent(text: str) -> float:
    return _between(text, 100)


def _between(text: str, most: float) -> float:
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    if not 0 <= number <= most:
        raise ValueError(f"a number from 0 to {most:g}")
    return number


def _switch(text: str) -> bool:
    if text.lower() not in _SWITCH:
        raise ValueError("on or off")
    return _SWITCH[text.lower()]


def _layers(text: str) -> list[str]:
    found, known = {layer.strip() for layer in text.split(",") if layer.strip()}, get_args(Layer)
    if wrong := sorted(found.difference(known)):
        raise ValueError(f"{wrong[0]} is none of {', '.join(known)}")
    return sorted(found)


def _system(text: str) -> System:
    for system in SYSTEMS:
        if text == system:
            return system
    raise ValueError(" or ".join(SYSTEMS))
