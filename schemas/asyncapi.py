"""The AsyncAPI document: channels, who sends and who receives, messages by reference to the JSON Schemas in `json/`."""

from collections.abc import Iterator, Mapping
from importlib.metadata import version
from typing import Any

from msgspec import to_builtins

from schemas.examples import EXAMPLES, Example
from schemas.logs import KEYED, SINGLE, Log

PREFIX = "hal9."
PARTITIONS = 12
BINDING = "0.5.0"
_NOT_IN_NAMES = str.maketrans(".-", "__")
_ABOUT = """\
Moves a live, stateful service from one architecture to another over Kafka. Users send to `hal9.requests` and receive \
from `hal9.responses` and `hal9.divergences`; the other channels are what the services say to each other. Values are \
msgpack, but where they are opaque; the schemas show them in JSON form (bytes as base64, integer keys as text). \
Headers are UTF-8 text. Names and numbers are defaults of settings."""


def document(schemas: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """The document; `schemas` are the JSON Schemas of one record, by log."""
    logs = {**KEYED, **SINGLE}
    messages = {log: dict(_messages(log, schemas[log])) for log in logs}
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "HAL9 Migration",
            "version": version("hal9-migration"),
            "description": _ABOUT,
            "license": {"name": "Apache-2.0", "url": "https://www.apache.org/licenses/LICENSE-2.0"},
        },
        "defaultContentType": "application/msgpack",
        "servers": {"local": {"host": "127.0.0.1:9092", "protocol": "kafka", "description": "`hal9 up`"}},
        "channels": {_name(log): _channel(log, declared, messages[log]) for log, declared in logs.items()},
        "operations": dict(_operations(logs)),
    }


def _name(log: str) -> str:
    return log.translate(_NOT_IN_NAMES)


def _channel(log: str, declared: Log, messages: dict[str, Any]) -> dict[str, Any]:
    settings = {name: _plain(name, value) for name, value in declared.config.items()}
    kafka = {
        "topic": PREFIX + log,
        "partitions": PARTITIONS if log in KEYED else 1,
        "replicas": 1,
        "topicConfiguration": settings,
        "bindingVersion": BINDING,
    }
    return {
        "address": PREFIX + log,
        "description": declared.holds,
        "messages": messages,
        "bindings": {"kafka": kafka},
    }


def _plain(name: str, value: str) -> object:
    if name == "cleanup.policy":
        return value.split(",")
    return int(value) if value.lstrip("-").isdecimal() else value


def _messages(log: str, schema: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """The record of a log; of a claimed one also its marks, by the alternatives of the schema."""
    kinds = schema.get("oneOf", [schema])
    for number, kind in enumerate(kinds):
        where = f"./json/{log}.json#/oneOf/{number}" if "oneOf" in schema else f"./json/{log}.json#"
        pattern = kind["properties"]["key"].get("pattern", "")
        mark = pattern.removeprefix("^\\u0000").rstrip("/") if number else ""
        opaque = "contentEncoding" in kind["properties"]["value"]
        yield (
            mark or "record",
            {
                "name": f"{PREFIX}{log}{' ' + mark if mark else ''}",
                **({"contentType": "application/octet-stream"} if opaque else {}),
                "headers": {"$ref": f"{where}/properties/headers"},
                "payload": {"$ref": f"{where}/properties/value"},
                "bindings": {"kafka": {"key": kind["properties"]["key"], "bindingVersion": BINDING}},
                "examples": [_example(one) for one in _examples(log, mark)],
            },
        )


def _examples(log: str, mark: str) -> list[Example]:
    """Its own ones; a claim or a seal looks the same on every log, a copy as what it is a copy of."""
    found = [one for one in EXAMPLES if _mark(one) == mark]
    own = [one for one in found if one.log == log]
    return own or [one for one in found if mark or one.log.partition(".")[0] == log.partition(".")[0]]


def _mark(example: Example) -> str:
    return example.key[1:].partition(b"/")[0].decode() if example.key.startswith(b"\0") else ""


def _example(example: Example) -> dict[str, Any]:
    return {
        "name": example.name,
        "headers": dict(example.headers),
        "payload": to_builtins(example.value, str_keys=True),
    }


def _operations(logs: Mapping[str, Log]) -> Iterator[tuple[str, dict[str, Any]]]:
    for log, declared in logs.items():
        for action, services in (("send", declared.writers), ("receive", declared.readers)):
            for service in services:
                yield (
                    f"{service}_{action}_{_name(log)}",
                    {
                        "action": action,
                        "channel": {"$ref": f"#/channels/{_name(log)}"},
                        "title": f"{service} {action}s {PREFIX}{log}",
                        "tags": [{"name": service}],
                    },
                )
