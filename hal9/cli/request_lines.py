"""Requests as lines of JSON: `{"key": ..., "operation": ..., "value": ..., "id": ..., "deadline_ms": ...}`. Pure.

`value` is any JSON and travels as msgpack; `base64` is the value's bytes instead. All but the key may be absent; an
unknown name is a bad line, for a typo would send something else than was meant.
"""

import base64
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Annotated, Any

from msgspec import UNSET, Meta, MsgspecError, Struct, UnsetType, json

from hal9.client.answer import Ask
from hal9.keys import key_error
from hal9.wire import MAX_AHEAD_MS, MAX_ID_BYTES
from schemas.base import encode

_OPERATION = re.compile(r"[a-z0-9_.-]{1,64}")


@dataclass(frozen=True, slots=True)
class BadLine:
    """What is wrong with a line, and its number, from 1."""

    number: int
    reason: str

    def __str__(self) -> str:
        return f"line {self.number}: {self.reason}"


class _Fields(Struct, forbid_unknown_fields=True):
    key: str
    operation: str | UnsetType = UNSET
    value: Any = UNSET
    base64: str | UnsetType = UNSET
    id: Annotated[str, Meta(min_length=1)] | UnsetType | None = UNSET
    deadline_ms: Annotated[int, Meta(ge=1, le=MAX_AHEAD_MS)] | UnsetType = UNSET


_decoder = json.Decoder(_Fields)


class RequestLines:
    """The requests of one source of lines, in order, with what is common to all of them.

    `repeated`: they are sent more than once, so none may name an id, by which it would be the same request.
    """

    def __init__(self, operation: str, *, repeated: bool = False) -> None:
        self._operation, self._repeated = operation, repeated

    def read(self, lines: Iterable[bytes]) -> Iterator[tuple[int, Ask | BadLine]]:
        """The number of each line that is not blank, and its request or what is wrong with it."""
        ids: dict[str, int] = {}
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                ask = self._ask(line)
                if ask.id is not None and ids.setdefault(ask.id, number) != number:
                    raise ValueError(f"the id of line {ids[ask.id]} again")  # noqa: TRY301  one place makes the report
            except (ValueError, TypeError, OverflowError, RecursionError, MsgspecError) as error:
                yield number, BadLine(number, str(error))
            else:
                yield number, ask

    def _ask(self, line: bytes) -> Ask:
        fields = _decoder.decode(line)
        problem = key_error(fields.key.encode())
        if problem is not None:
            raise ValueError(problem)
        operation = self._operation if fields.operation is UNSET else fields.operation
        if not _OPERATION.fullmatch(operation):
            raise ValueError(f"the operation {operation!r} is not 1 to 64 of a-z 0-9 _ . -")
        name = fields.id or None
        if name is not None and self._repeated:
            raise ValueError("it names an id: sent again (--repeat) it would be the same request")
        if name is not None and len(name.encode()) > MAX_ID_BYTES:
            raise ValueError(f"the id has more than {MAX_ID_BYTES} bytes")
        deadline_s = None if fields.deadline_ms is UNSET else fields.deadline_ms / 1000
        return Ask(fields.key, operation, _value(fields), name, deadline_s)


def _value(fields: _Fields) -> bytes:
    if fields.base64 is UNSET:
        return b"" if fields.value is UNSET else encode(fields.value)
    if fields.value is not UNSET:
        raise ValueError("value and base64: one of them")
    return base64.b64decode(fields.base64, validate=True)
