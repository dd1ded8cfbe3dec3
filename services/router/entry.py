"""One request on its way through the router. Pure."""

from dataclasses import dataclass
from enum import Enum
from typing import Self

from hal9.wire import Request, Response
from schemas.base import System
from services.router.keybook import Key


@dataclass(slots=True)
class Result:
    """What one system made of the request."""

    ok: bool
    error: bytes | None
    value: bytes | None
    state_version: int
    state_diff: bytes | None = None

    @classmethod
    def of(cls, response: Response, value: bytes | None) -> Self:
        """From a system's response."""
        ok = response.status == "ok"
        return cls(ok, response.error, value, response.state_version, response.state_diff)


class Course(Enum):
    """Who is asked for a read, if not its owner alone."""

    ALIGNED = "aligned"
    """The system that the route names for the operation; its answer shows every change dispatched before."""
    BOTH = "both"
    """The owner was asked, and has not answered for a while: the other system, too, from what it holds."""
    ELSEWHERE = "elsewhere"
    """Only the other system, from what it holds: the owner's breaker is not closed."""
    FELL_BACK = "fell back"
    """The other system's answer was the first one."""
    TURNED = "turned"
    """The owner, after another system that was asked first."""


class Entry:
    """A request from the moment it is read until its answer is acknowledged and its id has left the window.

    `offset` is where it lies on `dispatched` (None: not read back yet), `epoch` and `owner` are those of its last
    dispatch. `away` is the epoch in which its bucket moved while it was in flight, or `handover.ASKED`. `answers_at` is
    a position on `responses` that no answer to it, or to a later request, can precede. `sending` counts its records on
    `dispatched` that are not read back. `course` is the way of a read that does not go to its owner alone.
    `dispatched_ms` and `twin` have a meaning beside a `shadow` only: when its record was read
    back (0: it was not), and whether flat runs it twice.
    """

    __slots__ = (
        "answered",
        "answers_at",
        "away",
        "course",
        "dispatched_ms",
        "epoch",
        "key",
        "known",
        "offset",
        "owner",
        "position",
        "primary",
        "received_ms",
        "rejected",
        "request",
        "response_offset",
        "sending",
        "shadow",
        "shadowed",
        "span",
        "twin",
        "value",
    )

    def __init__(
        self, position: int, key: bytes | None, known: Key | None, request: Request, value: bytes | None
    ) -> None:
        self.position, self.key, self.known, self.request, self.value = position, key, known, request, value
        self.offset: int | None = None
        self.epoch = 0
        self.owner: System | None = None
        self.away: int | None = None
        self.course: Course | None = None
        self.answered = False
        self.sending = 0
        self.rejected: str | None = request.rejected
        self.answers_at = 0
        self.received_ms = 0.0
        self.response_offset: int | None = None
        self.span: object = None
        self.shadow: System | None = None
        self.dispatched_ms = 0.0
        self.twin = False
        self.primary: Result | None = None
        self.shadowed: Result | None = None

    def __repr__(self) -> str:
        at = f"{self.owner}@{self.epoch}" if self.owner else "waiting"
        return f"<Entry {self.position} {self.request.id} {self.key!r} {at}{' away' if self.away is not None else ''}>"
