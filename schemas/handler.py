"""What is said between a system's runtime and a handler behind HTTP: the same maps in msgpack and in JSON.

GET answers a `Description`; POST takes a `Batch` and answers `Results`, one per item, in order. Bytes are bin in
msgpack and base64 (RFC 4648, with padding) in JSON.
"""

from typing import Annotated

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from schemas.base import Tree
from schemas.state import ArchitectureLayer

Operation = Annotated[str, Meta(pattern=r"^[a-z0-9_.-]{1,64}$")]
Code = Annotated[str, Meta(pattern=r"^[a-z0-9_.-]{1,64}$", description="a short code: the request is answered `error`")]


class Description(Struct, frozen=True, kw_only=True):
    """What a handler says of itself. A change of `read_only` needs a new start of the system."""

    name: Annotated[str, Meta(max_length=128)] = ""
    version: Annotated[str, Meta(max_length=128)] = ""
    read_only: Annotated[list[Operation], Meta(max_length=1000, description="operations that leave the state alone")]


class Item(Struct, frozen=True, kw_only=True):
    """One request: keys of a batch differ, so items may be worked on in any order."""

    state: Annotated[Tree | None, Meta(description="state of the key; nil if it has none")]
    operation: Operation
    value: bytes


class Batch(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Body of a POST."""

    items: list[Item]
    off: Annotated[list[ArchitectureLayer], Meta(description="layers of the architecture that are switched off")] = []


class Result(Struct, frozen=True, kw_only=True):
    """What came of one item: `state` and `answer`, or `error`."""

    state: Annotated[
        Tree | UnsetType | None, Meta(description="the new state, nil deletes; may be absent if read-only")
    ] = UNSET
    answer: Annotated[bytes | UnsetType, Meta(description="absent is empty")] = UNSET
    error: Code | UnsetType = UNSET
    detail: Annotated[str | UnsetType, Meta(description="for people, with `error`")] = UNSET


class Results(Struct, frozen=True, kw_only=True):
    """Body of the answer to a POST: as many results as items, in their order."""

    results: list[Result]


BODIES: dict[str, type[Struct]] = {"description": Description, "batch": Batch, "results": Results}
"""By the name of the generated schema in `http/`."""


class RawBatch(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A `Batch` whose items are encoded already."""

    items: list[msgspec.Raw]
    off: list[ArchitectureLayer] = []


class RawResults(Struct, frozen=True, kw_only=True):
    """`Results` to be decoded one by one, so that one that is wrong fails alone."""

    results: list[msgspec.Raw]
