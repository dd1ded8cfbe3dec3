"""The bodies of a handler behind HTTP, written and read: msgpack or JSON, each result judged by itself. Pure.

JSON does not know bytes, NaN, infinities, or the difference between 1 and 1.0: a state that JSON would change silently
is not sent (`state-not-json`). Whoever needs each bit speaks msgpack.
"""

import math
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

import msgspec
from msgspec import UNSET, Struct

from hal9.backend.handler import Item, Outcome, Refused
from hal9.backend.handler import Result as HandlerResult
from schemas import handler as bodies
from schemas.state import ArchitectureLayer

Form = Literal["msgpack", "json"]
TYPES: dict[Form, str] = {"msgpack": "application/msgpack", "json": "application/json"}
BODY_BYTES = 8 * 1024 * 1024
"""A batch that is larger goes in several bodies (one item is at most a state and a value: far less)."""
FAILED = "handler-failed"
_DEPTH = 64

T = TypeVar("T", bound=Struct)
_WRONG = (msgspec.MsgspecError, RecursionError, UnicodeError, ValueError, OverflowError, TypeError)


class Unreadable(Exception):
    """A body is not what it must be; the message says how."""


@dataclass(frozen=True, slots=True)
class Body:
    """One POST: which items of a batch are in it."""

    indices: list[int]
    content: bytes


def form_of(content_type: str) -> Form | None:
    """The form that a Content-Type names; None if it is neither."""
    media = content_type.partition(";")[0].strip().lower()
    if media in ("application/msgpack", "application/x-msgpack", "application/vnd.msgpack"):
        return "msgpack"
    return "json" if media == "application/json" else None


def bodies_of(
    items: Sequence[Item], off: Collection[ArchitectureLayer], form: Form, indices: Sequence[int]
) -> Iterator[Body | tuple[int, Refused]]:
    """The items at `indices` as bodies of at most `BODY_BYTES`; an item that cannot be said is refused."""
    pieces: list[msgspec.Raw] = []
    held: list[int] = []
    size = 0
    for index in indices:
        state, operation, value = items[index]
        try:
            piece = _encoded(bodies.Item(state=state, operation=operation, value=value), form)
        except _WRONG as error:
            yield index, Refused("state-not-json" if form == "json" else "bad-state", str(error))
            continue
        if held and size + len(piece) > BODY_BYTES:
            yield _body(held, pieces, off, form)
            held, pieces, size = [], [], 0
        held.append(index)
        pieces.append(msgspec.Raw(piece))
        size += len(piece)
    if held:
        yield _body(held, pieces, off, form)


def _encoded(item: bodies.Item, form: Form) -> bytes:
    if form == "msgpack":
        return msgspec.msgpack.encode(item)
    _same_in_json(item.state, _DEPTH)
    return msgspec.json.encode(item)


def _body(held: list[int], pieces: list[msgspec.Raw], off: Collection[ArchitectureLayer], form: Form) -> Body:
    batch = bodies.RawBatch(items=pieces, off=sorted(off))
    content = msgspec.msgpack.encode(batch) if form == "msgpack" else msgspec.json.encode(batch)
    return Body(held, content)


def _same_in_json(tree: object, depth: int) -> None:
    """Raise ValueError if JSON says something else than this tree."""
    if depth == 0:
        raise ValueError("nested too deeply")
    if isinstance(tree, dict):
        for key, value in tree.items():
            if not isinstance(key, str):
                raise ValueError(f"{key!r} is no text, and a key")  # noqa: TRY004  the caller's one kind of error
            _same_in_json(value, depth - 1)
    elif isinstance(tree, list | tuple):
        for value in tree:
            _same_in_json(value, depth - 1)
    elif isinstance(tree, float):
        if not math.isfinite(tree):
            raise ValueError(f"{tree} is not in JSON")
    elif tree is not None and not isinstance(tree, str | int | bool):
        raise ValueError(f"{type(tree).__name__} is not in JSON")


def read(content: bytes, form: Form, kind: type[T]) -> T:
    """A body as `kind`. Raises `Unreadable`."""
    try:
        if form == "msgpack":
            return msgspec.msgpack.decode(content, type=kind)
        return msgspec.json.decode(content, type=kind)
    except _WRONG as error:
        raise Unreadable(str(error)) from error


def results_of(content: bytes, form: Form, asked: Sequence[Item], read_only: Collection[str]) -> list[Outcome]:
    """The results in an answer, one per item asked. Raises `Unreadable` if they cannot be told apart."""
    found = read(content, form, bodies.RawResults).results
    if len(found) != len(asked):
        raise Unreadable(f"{len(found)} results for {len(asked)} items")
    return [_judged(bytes(raw), form, item, read_only) for raw, item in zip(found, asked, strict=True)]


def _judged(raw: bytes, form: Form, item: Item, read_only: Collection[str]) -> HandlerResult:
    try:
        result = read(raw, form, bodies.Result)
    except Unreadable as error:
        return Refused(FAILED, str(error))
    if result.error is not UNSET:
        if result.state is not UNSET or result.answer is not UNSET:
            return Refused(FAILED, "both an error and a result")
        return Refused(result.error, result.detail if result.detail is not UNSET else "")
    state = result.state
    if state is UNSET:
        if item[1] not in read_only:
            # Not "as before": a handler that forgets the state of an operation that changes it must not pass.
            return Refused(FAILED, "no state, and the operation is not read-only")
        state = item[0]
    return state, result.answer if result.answer is not UNSET else b""
