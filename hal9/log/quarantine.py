"""A record that cannot be applied, named instead of dropped; cut so that its report fits into any log. Pure."""

from hal9.errors import Poison
from hal9.keys import MAX_KEY_BYTES
from hal9.log.effects import Headers, Record, Send
from schemas.base import encode
from schemas.reports import Quarantined

QUARANTINED = "quarantined"
"""Error code of a system whose key has a state that could not be mapped to its own: true only until another owns it."""

MAX_VALUE_BYTES = 64 * 1024
"""Of the value, and of all headers: a compressed batch may hold a record many times greater than a broker takes."""
MAX_DETAIL = 4096


def quarantine(service: str, log: str, partition: int, record: Record, error: Poison, now_ms: float) -> Send:
    """The send that reports it; `log` is the name of the topic without prefix."""
    key = None if record.key is None else record.key[:MAX_KEY_BYTES]
    found = Quarantined(
        service=service,
        topic=log,
        partition=partition,
        offset=record.offset,
        reason=error.code,
        detail=error.detail[:MAX_DETAIL],
        key=key,
        value=None if record.value is None else record.value[:MAX_VALUE_BYTES],
        headers=_cut(record.headers),
        at_ms=int(now_ms),
    )
    return Send("quarantine", key, encode(found), [], partition=0)


def _cut(headers: Headers) -> list[tuple[str, bytes]]:
    """The headers, null values as empty ones, up to the one that is too much; that one is cut."""
    found: list[tuple[str, bytes]] = []
    left = MAX_VALUE_BYTES
    for name, value in headers:
        shown = name[: left // 4]  # a character has at most four bytes
        found.append((shown, (value or b"")[: left - len(shown.encode())]))
        left -= len(shown.encode()) + len(found[-1][1]) + 1
        if left <= 0:
            break
    return found
