"""One request on its way through the client."""

import asyncio

from hal9.client.answer import Answer
from hal9.client.attempts import Attempts
from hal9.log.effects import Headers


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
