"""One request on its way through the router. Pure."""

from enum import Enum

from msgspec import Struct

from hal9.wire import Request, Response
from schemas.base import System
from services.router.keybook import Key


class Course(Enum):
    """Who is asked for a read, if not its owner alone."""

    ALIGNED = "aligned"
    """The system that the route names for the operation; its answer shows every change dispatched before."""
    BOTH = "both"
    """The owner was asked, and has not answered for a while: the other system, too, from what it holds."""
    ELSEWHERE = "elsewhere"
    """Only the other system than `owner`, from what it holds: that one's breaker is open, or it holds the key up."""
    FELL_BACK = "fell back"
    """The other system's answer was the first one."""
    TURNED = "turned"
    """The owner, after another system that was asked first."""


class Entry(Struct, eq=False, gc=False):
    """A request from the moment it is read until its answer is acknowledged and its id has left the window.

    `offset` is where it lies on `dispatched` (None: not read back yet), `epoch` and `owner` are those of its last
    dispatch. `away` is the epoch in which its bucket moved while it was in flight, or `handover.ASKED`. `answers_at` is
    a position on `responses` that no answer to it, or to a later request, can precede. `sending` counts its records on
    `dispatched` that are not read back. `course` is the way of a read that does not go to its owner alone.
    `dispatched_ms` and `twin` have a meaning beside a `shadow` only: when its record was read
    back (0: it was not), and whether flat runs it twice.
    """

    position: int
    key: bytes | None
    known: Key | None
    request: Request
    value: bytes | None
    received_ms: float = 0.0
    answers_at: int = 0
    rejected: str | None = None
    offset: int | None = None
    epoch: int = 0
    owner: System | None = None
    away: int | None = None
    course: Course | None = None
    answered: bool = False
    sending: int = 0
    response_offset: int | None = None
    span: object = None
    shadow: System | None = None
    dispatched_ms: float = 0.0
    twin: bool = False
    primary: Response | None = None
    shadowed: Response | None = None

    def __repr__(self) -> str:
        at = f"{self.owner}@{self.epoch}" if self.owner else "waiting"
        return f"<Entry {self.position} {self.request.id} {self.key!r} {at}{' away' if self.away is not None else ''}>"
