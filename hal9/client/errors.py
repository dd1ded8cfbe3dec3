"""What a client raises: a shallow tree by what the caller can do."""

from typing import TYPE_CHECKING

from hal9.errors import Hal9Error, Transient

if TYPE_CHECKING:
    from hal9.client.answer import Answer


class ClientClosed(Transient):
    """The client is not open (any more): open one, and ask again."""


class NotSent(Transient):
    """Kafka did not take the record; whether it is stored all the same is unknown."""


class TooLarge(Hal9Error):
    """The record is greater than what the client or the broker takes; it is not stored."""


class RequestFailed(Hal9Error):
    """A request did not end with `ok` (`Answer.raise_for_status`).

    Attributes:
        answer: how it ended.
    """

    def __init__(self, answer: "Answer") -> None:
        super().__init__(f"request {answer.id}: {answer.status}, {answer.error or 'no reason given'}")
        self.answer = answer


class RequestRefused(RequestFailed):
    """`error`: the system refused or failed, nothing changed."""


class RequestRejected(RequestFailed):
    """`rejected`: not accepted, nothing changed; after an `overload` ask again later, under another id."""


class RequestTimedOut(RequestFailed, TimeoutError):
    """`timeout`: whether it was done is unknown; asking again under the same id is safe for 60 s."""
