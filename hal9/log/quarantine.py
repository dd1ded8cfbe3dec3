"""A record that cannot be applied, named instead of dropped. Pure."""

from hal9.errors import Poison
from hal9.log.effects import Record, Send
from schemas.base import encode
from schemas.reports import Quarantined

MAX_VALUE_BYTES = 64 * 1024
MAX_DETAIL = 4096


def quarantine(service: str, log: str, partition: int, record: Record, error: Poison, now_ms: float) -> Send:
    """The send that reports it; `log` is the name of the topic without prefix."""
    found = Quarantined(
        service=service,
        topic=log,
        partition=partition,
        offset=record.offset,
        reason=error.code,
        detail=error.detail[:MAX_DETAIL],
        key=record.key,
        value=None if record.value is None else record.value[:MAX_VALUE_BYTES],
        headers=list(record.headers),
        at_ms=int(now_ms),
    )
    return Send("quarantine", record.key, encode(found), [], partition=0)
