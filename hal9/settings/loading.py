"""From defaults, file and environment to one checked `Settings`."""

import math
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

import msgspec
from msgspec.structs import FieldInfo, fields

from hal9.errors import ConfigError
from hal9.settings.sections import Settings

PREFIX = "HAL9_"
CONFIG = "HAL9_CONFIG"
_BOOTSTRAP = re.compile(r"[^\s,:]+:[0-9]{1,5}|\[[0-9a-fA-F:]+\]:[0-9]{1,5}")
_TRUTH = {
    "1": True,
    "true": True,
    "yes": True,
    "on": True,
    "0": False,
    "false": False,
    "no": False,
    "off": False,
}


@dataclass(frozen=True, slots=True)
class _Given:
    """One value as somebody gave it; `text` (from the environment) is parsed, the rest has its type."""

    section: str
    name: str
    value: object
    origin: str
    text: bool


def load(config: Path | None, environ: Mapping[str, str]) -> Settings:
    """The settings: defaults, then `config` (or the file that HAL9_CONFIG names), then `environ`.

    Raises ConfigError.
    """
    path = config or (Path(environ[CONFIG]) if environ.get(CONFIG) else None)
    sections = {info.name: {f.name: f for f in fields(info.type)} for info in fields(Settings)}
    chosen: dict[str, dict[str, object]] = {name: {} for name in sections}
    given = [*(_from_file(path) if path is not None else ()), *_from_environment(environ)]
    for one in given:
        info = _field(sections, one)
        chosen[info[0]][info[1].name] = _converted(info[0], info[1], one)
    parts = {info.name: info.type(**chosen[info.name]) for info in fields(Settings)}
    settings = Settings(**parts)
    _check(settings)
    return settings


def is_secret(info: FieldInfo) -> bool:
    """Whether the value of a setting must not be shown."""
    return "secret" in _marks(info.type)


def is_address(info: FieldInfo) -> bool:
    """Whether the value of a setting is a URL, which may hold a password."""
    return "url" in _marks(info.type)


def _marks(kind: Any) -> set[str]:
    found: set[str] = set()
    while get_origin(kind) is Annotated:
        kind, *metas = get_args(kind)
        for meta in metas:
            found |= set(meta.extra or ())
    return found


def _from_file(path: Path) -> Iterator[_Given]:
    try:
        tree = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"the configuration file {path} cannot be read: {error}") from error
    for section, values in tree.items():
        if not isinstance(values, dict):
            raise ConfigError(f"{section} in {path} stands outside a section; write it under [section]")
        if not values and section.lower() not in Settings.__struct_fields__:
            hint = _nearest(section, list(Settings.__struct_fields__))
            raise ConfigError(f"unknown section [{section}] in {path}{hint}")
        for name, value in values.items():
            yield _Given(section, name, value, str(path), text=False)


def _from_environment(environ: Mapping[str, str]) -> Iterator[_Given]:
    for variable in sorted(environ):
        if not variable.startswith(PREFIX) or variable == CONFIG:
            continue
        section, separator, name = variable.removeprefix(PREFIX).partition("__")
        if not separator:
            raise ConfigError(f"unknown setting {variable} = {environ[variable]!r}{_nearest_variable(variable)}")
        yield _Given(section, name, environ[variable], variable, text=True)


def _nearest_variable(variable: str) -> str:
    names = [
        f"{PREFIX}{section.name}__{field.name}".upper()
        for section in fields(Settings)
        for field in fields(section.type)
    ]
    return _nearest(variable, [*names, CONFIG])


def _field(sections: Mapping[str, Mapping[str, FieldInfo]], given: _Given) -> tuple[str, FieldInfo]:
    section, name = given.section.lower(), given.name.lower().replace(".", "_")
    if section in sections and name in sections[section]:
        return section, sections[section][name]
    wanted = f"{given.section}.{given.name}".upper()
    within = sections.get(section)
    names = [f"{s}.{n}".upper() for s, known in sections.items() for n in (known if within in (None, known) else ())]
    hint = _nearest(wanted, names)
    # A misspelt password is a password still.
    secret = any(part in name + hint.lower() for part in ("pass", "secret", "token"))
    value = "'***'" if secret else repr(given.value)
    raise ConfigError(f"unknown setting {wanted} = {value} (from {given.origin}){hint}")


def _nearest(wrong: str, right: list[str]) -> str:
    close = get_close_matches(wrong, right, n=1, cutoff=0.4)
    return f"; did you mean {close[0]}?" if close else f"; known: {', '.join(right)}"


def _converted(section: str, info: FieldInfo, given: _Given) -> object:
    value = given.value
    plain = _plain(info.type)
    if given.text and plain is bool:
        value = _TRUTH.get(str(value).strip().lower(), value)
    if not given.text and plain is float and type(value) is int:
        value = float(value)
    try:
        converted = msgspec.convert(value, type=info.type, strict=not given.text)
    except msgspec.ValidationError as error:
        raise wrong(section, info, given.value, _why(plain, given.value, str(error)), given.origin) from error
    if isinstance(converted, float) and not math.isfinite(converted):
        raise wrong(section, info, given.value, "must be finite", given.origin)
    if isinstance(converted, str) and not converted.isprintable():
        raise wrong(section, info, given.value, "holds characters that cannot be printed", given.origin)
    return converted


def _plain(kind: Any) -> Any:
    while get_origin(kind) is Annotated:
        kind = get_args(kind)[0]
    return kind


def _why(plain: Any, value: object, message: str) -> str:
    if get_origin(plain) is not Literal:
        kind = {int: "a whole number", float: "a number", bool: "true or false"}.get(plain, "text")
        return f"expected {kind}" if "got `" in message else message[:1].lower() + message[1:].replace("`", "")
    names = [str(name) for name in get_args(plain)]
    alike = {name.lower(): name for name in names}
    close = get_close_matches(str(value).lower(), list(alike), n=1, cutoff=0.4)
    hint = f"; did you mean {alike[close[0]]}?" if close else ""
    return f"expected one of {', '.join(name or repr(name) for name in names)}{hint}"


def wrong(section: str, info: FieldInfo, value: object, why: str, origin: str = "") -> ConfigError:
    """The error for one wrong value; secrets are not repeated."""
    shown = "'***'" if is_secret(info) or (is_address(info) and "@" in str(value)) else repr(value)
    source = f" (from {origin})" if origin else ""
    return ConfigError(f"{section.upper()}.{info.name.upper()} = {shown}{source}: {why}")


def _check(settings: Settings) -> None:
    """What concerns more than one setting, or a form that a type cannot say."""
    kafka = settings.kafka
    for address in kafka.bootstrap.split(","):
        if not _BOOTSTRAP.fullmatch(address.strip()) or int(address.rpartition(":")[2]) > 65535:  # noqa: PLR2004  ports
            raise ConfigError(f"KAFKA.BOOTSTRAP = {kafka.bootstrap!r}: expected host:port, several with commas")
    if kafka.security_protocol.startswith("SASL") and not (kafka.sasl_username and kafka.sasl_password):
        missing = "KAFKA.SASL_USERNAME and KAFKA.SASL_PASSWORD are needed"
        raise ConfigError(f"KAFKA.SECURITY_PROTOCOL = {kafka.security_protocol!r}: {missing}")
    for name in ("ssl_cafile", "ssl_certfile", "ssl_keyfile"):
        path = getattr(kafka, name)
        if path and not Path(path).is_file():
            raise ConfigError(f"KAFKA.{name.upper()} = {path!r}: there is no such file")
    _scheme("REDIS.URL", settings.redis.url, ("redis", "rediss", "unix"))
    _scheme("STACK.MAVEN_BASE", settings.stack.maven_base, ("https", "http", "file"))
    if settings.telemetry.otlp_endpoint:
        _scheme("TELEMETRY.OTLP_ENDPOINT", settings.telemetry.otlp_endpoint, ("http", "https"))
    names = list(settings.topics.names().values())
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ConfigError(f"TOPICS: two topics have the name {', '.join(twice)}")


def _scheme(setting: str, url: str, schemes: tuple[str, ...]) -> None:
    scheme, separator, rest = url.partition("://")
    if separator and rest and scheme in schemes:
        return
    expected = " or ".join(f"{scheme}://..." for scheme in schemes)
    raise ConfigError(f"{setting} = {masked_url(url)!r}: expected {expected}")


def masked_url(url: str) -> str:
    """The address with user and password masked."""
    return re.sub(r"(?<=://).*@", "***@", url)
