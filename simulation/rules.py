"""The rules of the hand-over, each with the patch that takes it away from the product's own code, from outside.

A search without one of them must find harm: that tests the search, and shows what the rule is for.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from hal9.backend.core import BackendCore
from hal9.backend.queues import Queues, Task
from hal9.backend.responses import Outbox, Response
from hal9.control.route import Route, Spans
from hal9.log.effects import Record
from hal9.log.validity import Kind, Validity
from services.migrator.core import MigratorCore
from services.router.handover import Handover
from services.router.ledger import Ledger

Patch = Callable[[type, str, Callable[..., Any]], None]


@dataclass(frozen=True, slots=True)
class Rule:
    """What it says, the kind of schedule that stresses it (`schedule.KINDS`), and how it is taken away."""

    says: str
    kind: int
    remove: Callable[[Patch], None]


RULES: dict[str, Rule] = {}


def _rule(name: str, kind: int) -> Callable[[Callable[[Patch], None]], Callable[[Patch], None]]:
    def add(remove: Callable[[Patch], None]) -> Callable[[Patch], None]:
        RULES[name] = Rule(remove.__doc__ or "", kind, remove)
        return remove

    return add


@contextmanager
def without(*names: str) -> Iterator[None]:
    """These rules are not in force."""
    undo: list[tuple[type, str, object]] = []

    def patch(owner: type, name: str, replacement: Callable[..., Any]) -> None:
        undo.append((owner, name, getattr(owner, name)))
        setattr(owner, name, replacement)

    try:
        for name in names:
            RULES[name].remove(patch)
        yield
    finally:
        for owner, name, original in reversed(undo):
            setattr(owner, name, original)


@_rule("claims", 2)
def _claims(patch: Patch) -> None:
    """Records of an older term than the newest claim are void."""
    feed = Validity.feed

    def forgetful(self: Validity, record: Record) -> Kind:
        kind = feed(self, record)
        self.claim = -1
        return kind

    patch(Validity, "feed", forgetful)


@_rule("seals", 1)
def _seals(patch: Patch) -> None:
    """Changes of an older epoch after a seal are void."""
    patch(Validity, "sealed", lambda *_: False)


@_rule("after-seal", 1)
def _opening(patch: Patch) -> None:
    """A request of a moved key waits for the seal in the replica log."""
    add = Queues.add

    def at_once(self: Queues, task: Task) -> None:
        task.request.after_seal = 0
        add(self, task)

    patch(Queues, "add", at_once)


@_rule("read-back", 2)
def _read_back(patch: Patch) -> None:
    """An answer leaves only when its change was read back as valid."""
    true_by = Outbox.true_by

    def at_once(self: Outbox, _verified: int) -> Iterator[Response]:
        return true_by(self, 1 << 60)

    patch(Outbox, "true_by", at_once)


@_rule("positions", 2)
def _positions(patch: Patch) -> None:
    """A position is applied once."""
    take = BackendCore._take

    def again(self: BackendCore, key: bytes) -> Task | None:
        self.store.kept.clear()
        held = self.store.held(key)
        position, held.position = held.position, -1
        try:
            return take(self, key)
        finally:
            held.position = position

    patch(BackendCore, "_take", again)


@_rule("waiting-keys", 1)
def _waiting_keys(patch: Patch) -> None:
    """A key waits in the router while one of its requests is in flight from before a move."""
    patch(Handover, "holds", lambda *_: False)


@_rule("second-dispatch", 1)
def _second_dispatch(patch: Patch) -> None:
    """Requests of moved keys that are unanswered when their epoch settles are dispatched again."""
    patch(Handover, "take_back", lambda *_: [])


@_rule("repair", 3)
def _repair(patch: Patch) -> None:
    """A state is appended again when a void record lies after it."""
    patch(BackendCore, "_repair", lambda _: None)


@_rule("low-watermark", 2)
def _low_watermark(patch: Patch) -> None:
    """The router commits no request that waits."""
    patch(Ledger, "requests", lambda _self, position, _waiting: position)


@_rule("prefixes-move", 8)
def _prefixes_move(patch: Patch) -> None:
    """Keys with a pinned prefix have moves and seals of their own."""
    patch(Spans, "_of", lambda self, _key: self)


@_rule("reach", 8)
def _reach(patch: Patch) -> None:
    """Flat's seal waits for the cold neurons of whatever pins and prefixes move, not of the percentage alone."""
    patch(Route, "reach", lambda self, *_: self.bound)


@_rule("copied-seals", 2)
def _copied_seals(patch: Patch) -> None:
    """The migrator commits a source only when its copy, a seal's too, is read back."""
    patch(MigratorCore, "_is_cold", lambda *_: True)
