"""One request on its way through the client."""

import asyncio

from hal9.client.answer import Answer
from hal9.client.attempts import Attempts
from hal9.keys import key_error
from hal9.log.effects import Headers
from hal9.wire import MAX_ID_BYTES


class Entry:
    """A request in flight. `future` brings its answer, or None: send it again."""

    __slots__ = (
        "again",
        "attempts",
        "began_s",
        "future",
        "headers",
        "id",
        "key",
        "span",
        "stored",
        "timer",
        "until_s",
        "value",
    )

    def __init__(
        self, name: bytes, key: bytes, value: bytes, attempts: Attempts, began_s: float, until_s: float
    ) -> None:
        self.id, self.key, self.value, self.attempts = name, key, value, attempts
        self.began_s, self.until_s = began_s, until_s
        self.future: asyncio.Future[Answer | None] = asyncio.get_running_loop().create_future()
        self.headers: Headers = ()
        self.span: object = None
        self.stored = False
        self.timer: asyncio.TimerHandle | None = None
        self.again: asyncio.TimerHandle | None = None

    def rest(self) -> None:
        """No timer runs any more."""
        for timer in (self.timer, self.again):
            if timer is not None:
                timer.cancel()


def checked(key: str | bytes, name: str) -> tuple[bytes, bytes]:
    """Key and id as they travel; ValueError if one of them cannot."""
    raw_key, raw_name = key.encode() if isinstance(key, str) else key, name.encode()
    problem = key_error(raw_key)
    if problem is not None:
        raise ValueError(problem)
    if len(raw_name) > MAX_ID_BYTES:
        raise ValueError(f"the id has {len(raw_name)} bytes, more than {MAX_ID_BYTES}")
    return raw_key, raw_name
