"""Writes what is checked in beside the types: JSON Schemas, golden bytes, key vectors. `--check` only compares.

`json/<log>.json` describes one record of a topic as `{key, headers, value}`; values are msgpack on the wire, and in
JSON form here (bytes as base64, integer map keys as text). `http/<body>.json` describes the bodies of a handler behind
HTTP, `asyncapi.yaml` the topics and who writes and reads them. Run `python -m schemas.generate`.
"""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import yaml
from msgspec import Struct

from hal9.keys import BUCKETS, bucket_of, murmur2, partition_of
from schemas import control, handler, reports, state, telemetry
from schemas.asyncapi import document
from schemas.examples import EXAMPLES
from schemas.headers import ANSWER, DISPATCHED, REQUEST, RESPONSE, STATE, Header

HERE = Path(__file__).parent
DIALECT = "https://json-schema.org/draft/2020-12/schema"
NEURON_KEY = {
    "description": "neuron id; a key that begins with NUL is a control mark",
    "type": "string",
    "minLength": 1,
    "maxLength": 256,
}
OPAQUE = {"description": "opaque; null is empty", "type": ["string", "null"], "contentEncoding": "base64"}


class NeuronEnvelope(Struct, kw_only=True):
    """Flat state and the answer to the request that caused it."""

    state: state.Neuron | None
    answer: bytes | None = None


class UnitEnvelope(Struct, kw_only=True):
    """Hierarchical state and the answer to the request that caused it."""

    state: state.Unit | None
    answer: bytes | None = None


_KEYED: dict[str, tuple[tuple[Header, ...], Any]] = {
    "requests": (REQUEST, None),
    "dispatched": (DISPATCHED, state.Marker | state.Claim | state.Requests),
    "responses.flat": (RESPONSE, None),
    "responses.hierarchical": (RESPONSE, None),
    "responses": (ANSWER, None),
    "divergences": ((), reports.Divergence),
    "neurons.changes": (STATE, NeuronEnvelope | None),
    "neurons.replica": (STATE, NeuronEnvelope | None),
    "units.changes": (STATE, UnitEnvelope | None),
    "units.replica": (STATE, UnitEnvelope | None),
}
_SINGLE: dict[str, tuple[str, Any]] = {
    "outcomes": ("migration id", telemetry.Outcome),
    "validations": ("migration id", telemetry.Validation),
    "quarantine": ("migration id", reports.Quarantined),
    "control": ("migration id", control.AnyControl),
    "status": ("instance", telemetry.Status),
}
_MARKS: dict[str, tuple[type[Struct], ...]] = {
    "dispatched": (state.Claim, state.Marker, state.Requests),
    "neurons.changes": (state.Claim, state.Seal),
    "neurons.replica": (state.Claim, state.Seal),
    "units.changes": (state.Claim, state.Seal),
    "units.replica": (state.Claim, state.Seal),
}


def schema_of(log: str) -> dict[str, Any]:
    """The JSON Schema of one record of a topic."""
    schema: dict[str, Any] = _without_discriminator(_schema_of(log))
    return schema


def _without_discriminator(tree: Any) -> Any:
    """Without what msgspec adds to a union for OpenAPI: JSON Schema has no such keyword, AsyncAPI's is a text."""
    if isinstance(tree, dict):
        kept = {name: value for name, value in tree.items() if not (name == "discriminator" and "anyOf" in tree)}
        return {name: _without_discriminator(value) for name, value in kept.items()}
    return [_without_discriminator(value) for value in tree] if isinstance(tree, list) else tree


def _schema_of(log: str) -> dict[str, Any]:
    if log in _SINGLE:
        key, kind = _SINGLE[log]
        shape: dict[str, Any] = {"description": key, "type": "string", "minLength": 1}
        return _record(log, shape, (), kind, ())
    headers, kind = _KEYED[log]
    return _record(log, NEURON_KEY, headers, kind if log != "dispatched" else None, _MARKS.get(log, ()))


def _record(
    log: str, key: dict[str, Any], headers: tuple[Header, ...], kind: Any, marks: tuple[type[Struct], ...]
) -> dict[str, Any]:
    kinds = [*([kind] if kind is not None else []), *marks]
    shapes, components = msgspec.json.schema_components(kinds, ref_template="#/$defs/{name}")
    value = shapes[0] if kind is not None else OPAQUE
    data: dict[str, Any] = {
        "properties": {"key": key, "headers": _headers(headers), "value": value},
        "required": ["key", "headers", "value"],
    }
    mark_shapes = shapes[len(kinds) - len(marks) :]
    marked = [
        {
            "properties": {
                "key": {"type": "string", "pattern": f"^\\u0000{mark.__name__.lower()}/"},
                "headers": {"type": "object"},
                "value": shape,
            },
            "required": ["key", "headers", "value"],
        }
        for mark, shape in zip(marks, mark_shapes, strict=True)
    ]
    schema: dict[str, Any] = {"$schema": DIALECT, "title": f"hal9.{log}", "type": "object"}
    if marked:
        plain = {**data, "properties": {**data["properties"], "key": {**key, "pattern": "^[^\\u0000]"}}}
        schema["oneOf"] = [plain, *marked]
    else:
        schema |= data
    return schema | {"$defs": components} if components else schema


def _headers(headers: tuple[Header, ...]) -> dict[str, Any]:
    """The headers as an object; unknown ones are allowed."""
    properties: dict[str, dict[str, str]] = {}
    for header in headers:
        properties[header.name] = {"description": header.meaning, "type": "string"}
        if header.pattern is not None:
            properties[header.name]["pattern"] = f"^({header.pattern})$"
    required = [header.name for header in headers if header.required]
    shape: dict[str, Any] = {"type": "object", "additionalProperties": {"type": "string"}}
    return shape | ({"properties": properties} if properties else {}) | ({"required": required} if required else {})


def golden_index() -> list[dict[str, Any]]:
    """What the golden files hold, for readers in any language."""
    return [
        {
            "file": f"{example.name}.bin",
            "topic": f"hal9.{example.log}",
            "key": example.key.decode(),
            "headers": example.headers,
            "null": example.value is None,
            "value": json_form(example.value),
        }
        for example in EXAMPLES
    ]


def json_form(value: object) -> Any:
    """A Struct or a decoded msgpack tree in JSON form: bytes as base64, integer map keys as text."""
    return msgspec.to_builtins(value, str_keys=True)


_VECTOR_KEYS = (
    "a",
    "ab",
    "abc",
    "abcd",
    "abcde",
    "digits/0/hidden/0",
    "digits/12/output/9",
    "Ω",
    "neuron-größe",
    "日本語のキー",
    "🧠",
    " leading space",
    "trailing\n",
    "a" * 255,
    "z" * 256,
)


def key_vectors() -> dict[str, Any]:
    """Partitions and buckets of some keys, by the algorithms of the contract."""
    migration = "hal9"
    vectors = []
    for text in _VECTOR_KEYS:
        key = text.encode()
        vectors.append(
            {
                "key": text,
                "utf8": key.hex(),
                "murmur2": murmur2(key),
                "partition": {str(count): partition_of(key, count) for count in (1, 3, 12, 1024)},
                "bucket": {
                    purpose: bucket_of(f"{migration}/{purpose}", key) for purpose in ("route", "shadow", "control")
                },
            }
        )
    return {
        "murmur2": "seed 0x9747b28c, as an unsigned 32-bit integer; partition = (murmur2 & 0x7fffffff) mod partitions",
        "bucket": f"SHA-256(salt || 0x00 || key)[:8], big-endian, mod {BUCKETS}; salt is <migration>/<purpose>",
        "migration": migration,
        "vectors": vectors,
    }


def handler_schemas() -> dict[str, Any]:
    """The JSON Schemas of the bodies of a handler behind HTTP, by name."""
    found = {}
    for name, kind in handler.BODIES.items():
        (shape,), components = msgspec.json.schema_components([kind], ref_template="#/$defs/{name}")
        found[name] = {"$schema": DIALECT, "title": f"hal9 handler: {name}", **shape, "$defs": components}
    return found


def files() -> Iterator[tuple[Path, bytes]]:
    """Every generated file and its content."""
    for log in (*_KEYED, *_SINGLE):
        yield HERE / "json" / f"{log}.json", _text(schema_of(log))
    logs = {log: schema_of(log) for log in (*_KEYED, *_SINGLE)}
    yield (
        HERE / "asyncapi.yaml",
        yaml.safe_dump(document(logs), sort_keys=False, allow_unicode=True, width=120).encode(),
    )
    for name, schema in handler_schemas().items():
        yield HERE / "http" / f"{name}.json", _text(schema)
    yield HERE / "golden" / "index.json", _text(golden_index())
    yield HERE / "golden" / "keys.json", _text(key_vectors())
    for example in EXAMPLES:
        yield HERE / "golden" / f"{example.name}.bin", example.encoded()


def _text(tree: object) -> bytes:
    return (json.dumps(tree, indent=1, ensure_ascii=False) + "\n").encode()


def main(arguments: list[str]) -> int:
    """Write the files, or with `--check` name those that differ and return 1."""
    wanted = dict(files())
    present = {path for folder in ("json", "golden", "http") for path in (HERE / folder).glob("*.*")}
    stale = [path for path, content in wanted.items() if not path.is_file() or path.read_bytes() != content]
    surplus = sorted(present - set(wanted))
    if arguments == ["--check"]:
        for path in (*stale, *surplus):
            name = path.relative_to(HERE.parent)
            sys.stderr.write(f"{name} is not what the types say; run python -m schemas.generate\n")
        return 1 if stale or surplus else 0
    for path in stale:
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(wanted[path])
    for path in surplus:
        path.unlink()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
