"""What people read: `divergences` and `quarantine`."""

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from schemas.base import Count, System, TimestampMs

DivergenceKind = Literal["value", "state", "status", "missing"]


class FieldDifference(Struct, frozen=True, kw_only=True):
    """One field that differs between the systems."""

    path: Annotated[str, Meta(max_length=1024, description="dotted path from the root, list indexes as numbers")]
    flat: Any = None
    hierarchical: Any = None
    rule: Annotated[str, Meta(max_length=128)] = ""


class Divergence(Struct, frozen=True, kw_only=True):
    """What differed when both systems executed one request on equal state."""

    id: str
    position: Annotated[str, Meta(description="partition:offset on requests")]
    operation: str
    epoch: Count
    primary: System
    kind: DivergenceKind
    fields: Annotated[list[FieldDifference], Meta(max_length=64)] = []
    state_version: Count = 0
    at_ms: TimestampMs


class Quarantined(Struct, frozen=True, kw_only=True):
    """A record that could not be applied, and why."""

    service: str
    topic: str
    partition: int
    offset: int
    reason: Annotated[str, Meta(max_length=64, description="a code")]
    detail: Annotated[str, Meta(max_length=4096)] = ""
    key: bytes | None = None
    value: Annotated[bytes | None, Meta(description="cut at 64 KiB")] = None
    headers: list[tuple[str, bytes]] = []
    at_ms: TimestampMs


divergence_decoder = msgspec.msgpack.Decoder(Divergence)
quarantined_decoder = msgspec.msgpack.Decoder(Quarantined)
