"""The rules of the hand-over, each with the patch that takes it away from the product's own code, from outside.

A search without one of them must find harm: that tests the search, and shows what the rule is for.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from msgspec.structs import replace

from hal9 import wire
from hal9.backend.asking import GIVEN_UP
from hal9.backend.core import MOVED, BackendCore
from hal9.backend.freshness import Freshness
from hal9.backend.layers import Layers
from hal9.backend.own import OwnChanges
from hal9.backend.queues import Queues, Task
from hal9.backend.reads import Read
from hal9.backend.responses import Outbox, Response
from hal9.backend.store import NOTHING, Held, Store
from hal9.control.route import Route, Spans
from hal9.log.effects import Commit, Record
from hal9.log.validity import Kind, Validity
from schemas.base import System
from schemas.state import Requests, Seal
from services.migrator.backfill import Backfill
from services.migrator.core import MigratorCore
from services.migrator.handovers import HandOvers
from services.migrator.projection import Projection
from services.migrator.replica import Replica
from services.router.core import RouterCore
from services.router.entry import Course, Entry
from services.router.handover import Handover
from services.router.identities import Identities, Identity, Known
from services.router.keybook import Key, KeyBook
from services.router.ledger import Ledger
from services.router.numbering import Numbering
from services.router.passed import Passed
from services.router.reading import Reading
from services.router.returned import Returned
from services.router.succession import Succession
from simulation.memory_redis import MemoryRedis

Patch = Callable[[type, str, Callable[..., Any]], None]


@dataclass(frozen=True, slots=True)
class Rule:
    """What it says, the kind of schedule that stresses it most (`kinds.KINDS`), and how it is taken away."""

    says: str
    kind: str
    remove: Callable[[Patch], None]
    rare: bool = False
    """Whether chance needs thousands of schedules to miss it: a script does, in `tests/unit/test_found_rules.py`."""


RULES: dict[str, Rule] = {}


def _rule(name: str, kind: str, *, rare: bool = False) -> Callable[[Callable[[Patch], None]], Callable[[Patch], None]]:
    def add(remove: Callable[[Patch], None]) -> Callable[[Patch], None]:
        RULES[name] = Rule(remove.__doc__ or "", kind, remove, rare)
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


# ---------------------------------------------------------------------- what counts
@_rule("claims", "rebalance")
def _claims(patch: Patch) -> None:
    """Records of an older term than the newest claim are void."""
    feed = Validity.feed

    def forgetful(self: Validity, record: Record) -> Kind:
        kind = feed(self, record)
        self.claim = -1
        return kind

    patch(Validity, "feed", forgetful)


@_rule("seals", "forced")
def _seals(patch: Patch) -> None:
    """Changes of an older epoch after a seal are void."""
    patch(Validity, "sealed", lambda *_: False)


# ---------------------------------------------------------------------- the systems
@_rule("after-seal", "one-key")
def _opening(patch: Patch) -> None:
    """A request of a moved key waits for the seal in the replica log."""
    add = Queues.add

    def at_once(self: Queues, task: Task) -> None:
        task.request.after_seal = 0
        add(self, task)

    patch(Queues, "add", at_once)


@_rule("own-changes", "forced")
def _own_changes(patch: Patch) -> None:
    """A request of a moved key waits until own changes of it from before the move were read back."""
    take = BackendCore._take

    def at_once(self: BackendCore, key: bytes, now_ms: float) -> Task | None:
        verified, self.own.verified = self.own.verified, 1 << 60
        try:
            return take(self, key, now_ms)
        finally:
            self.own.verified = verified

    patch(BackendCore, "_take", at_once)


@_rule("read-back", "forced")
def _read_back(patch: Patch) -> None:
    """An answer leaves only when its change was read back as valid."""
    true_by = Outbox.true_by

    def at_once(self: Outbox, _verified: int) -> Iterator[Response]:
        return true_by(self, 1 << 60)

    patch(Outbox, "true_by", at_once)


@_rule("positions", "one-key")
def _positions(patch: Patch) -> None:
    """A position is applied once."""
    take = BackendCore._take

    def again(self: BackendCore, key: bytes, now_ms: float) -> Task | None:
        self.store.kept.clear()
        held = self.store.held(key)
        position, held.position = held.position, -1
        try:
            return take(self, key, now_ms)
        finally:
            held.position = position

    patch(BackendCore, "_take", again)


@_rule("unmapped", "unmapped")
def _unmapped(patch: Patch) -> None:
    """A system executes nothing on a key whose newest state could not be mapped to its own."""
    learn = Store.learn

    def unaware(self: Store, key: bytes, change: wire.Change, *rest: Any) -> Held:
        held = learn(self, key, change, *rest)
        held.unmapped = False
        return held

    patch(Store, "learn", unaware)


@_rule("kept-answers", "death")
def _kept_answers(patch: Patch) -> None:
    """A position that was applied is answered from what is kept."""
    take = BackendCore._take

    def forgetful(self: BackendCore, key: bytes, now_ms: float) -> Task | None:
        self.store.kept.clear()
        return take(self, key, now_ms)

    patch(BackendCore, "_take", forgetful)


@_rule("given-up-recorded", "elsewhere", rare=True)
def _given_up_recorded(patch: Patch) -> None:
    """A change that could not be asked of its handler until its deadline is a version: a zombie's is void."""

    def unrecorded(self: BackendCore, task: Task, _now_ms: float) -> None:
        self._answer(task, GIVEN_UP, NOTHING, self.own.sent)

    patch(BackendCore, "_unreached", unrecorded)


@_rule("repair", "nights")
def _repair(patch: Patch) -> None:
    """A state is appended again when a void record lies after it."""
    patch(OwnChanges, "repair", lambda _: None)


# ---------------------------------------------------------------------- the router
@_rule("waiting-keys", "one-key")
def _waiting_keys(patch: Patch) -> None:
    """A key waits in the router while one of its requests is in flight from before a move."""
    patch(Handover, "holds", lambda *_: False)


@_rule("second-dispatch", "death")
def _second_dispatch(patch: Patch) -> None:
    """Requests of moved keys that are unanswered when their epoch settles are dispatched again."""
    patch(Handover, "take_back", lambda *_: [])


@_rule("last-dispatch", "unmapped")
def _last_dispatch(patch: Patch) -> None:
    """A response counts only with the system and the epoch of the last dispatch."""
    heard = RouterCore._response

    def any_of_it(self: RouterCore, system: System, record: Record, now_ms: float) -> None:
        position = wire.parse_position(wire.header(record.headers, wire.POSITION))
        entry = self.in_flight.get(position[1]) if position is not None and position[0] == self.partition else None
        if entry is not None and wire.text(record.headers, wire.ROLE) == "primary":
            entry.owner, entry.epoch = system, wire.number(record.headers, wire.EPOCH) or 0
        heard(self, system, record, now_ms)

    patch(RouterCore, "_response", any_of_it)


@_rule("misplaced", "rebalance")
def _misplaced(patch: Patch) -> None:
    """A request on the wrong partition is moved to the right one."""
    of = KeyBook.of

    def at_home(self: KeyBook, key: bytes) -> Key:
        known = of(self, key)
        known.misplaced_to = None
        return known

    patch(KeyBook, "of", at_home)


@_rule("one-id", "one-key")
def _one_id(patch: Patch) -> None:
    """A repeated id is the same request, also while the first one is in flight."""
    first = Identities.first

    def answered(self: Identities, identity: Identity) -> Known | None:
        known = first(self, identity)
        return known if known is not None and known.told is not None else None

    patch(Identities, "first", answered)


@_rule("earlier-answers", "one-key")
def _earlier_answers(patch: Patch) -> None:
    """A successor reads the answers that its predecessors gave before it serves."""
    patch(Succession, "end", lambda self, _offset, now_ms: self._serve(now_ms))


@_rule("low-watermark", "forced")
def _low_watermark(patch: Patch) -> None:
    """The router commits no request that waits, is not read back, or whose answer is unacknowledged."""
    patch(Ledger, "requests", lambda _self, position, _waiting: position)


@_rule("prefixes-move", "scopes")
def _prefixes_move(patch: Patch) -> None:
    """Keys with a pinned prefix have moves and seals of their own."""
    patch(Spans, "_of", lambda self, _key: self)


@_rule("reach", "scopes")
def _reach(patch: Patch) -> None:
    """Flat's seal waits for the cold neurons of whatever pins and prefixes move, not of the percentage alone."""
    patch(Route, "reach", lambda self, *_: self.bound)


@_rule("layer-check", "layers")
def _layer_check(patch: Patch) -> None:
    """Hierarchical gives back requests of a layer that stays at flat, whatever the router knew."""
    patch(Route, "holds", lambda *_: False)


@_rule("unknown-after-seal", "layers")
def _unknown_after_seal(patch: Patch) -> None:
    """A key of unknown layer waits for the newest seal of whatever layer it may be in."""
    patch(Handover, "after_seal", lambda self, known: self.moved.at(known.bucket, known.text, known.layer))


@_rule("unknown-away", "layers")
def _unknown_away(patch: Patch) -> None:
    """A request of unknown layer is away when its bucket moved in whatever layer."""
    patch(Handover, "_last_moved", lambda self, known: self.moved.at(known.bucket, known.text, known.layer))


@_rule("given-back", "layers")
def _given_back(patch: Patch) -> None:
    """A key that hierarchical gives back waits until nothing of it is there any more."""
    patch(Handover, "gave_back", lambda self, entry, _in_flight: self.release(entry))


@_rule("given-back-commit", "layers")
def _given_back_commit(patch: Patch) -> None:
    """A response that gives a request back is not passed in a commit before the second dispatch was read back."""
    patch(Returned, "first", lambda _self, _system, offset, _unacked: offset)


@_rule("returned-anew", "reads", rare=True)
def _returned_anew(patch: Patch) -> None:
    """A refusal is passed in a commit when a record sent after it was read back, not one that was on its way before."""
    add = Returned.add

    def of_none_before(self: Returned, entry: Entry, system: System, offset: int) -> None:
        add(self, entry, system, offset)
        self._before.clear()

    patch(Returned, "add", of_none_before)


@_rule("layer-version", "layers")
def _layer_version(patch: Patch) -> None:
    """Flat goes on with a key that was given back from the version in which it was given up."""
    learn = KeyBook.learn
    patch(KeyBook, "learn", lambda self, key, layer, _version: learn(self, key, layer, 0))


@_rule("layer-kept", "layers")
def _layer_kept(patch: Patch) -> None:
    """That a key is of a layer is a record, so that whoever comes after knows it before flat's changes are here."""

    def unwritten(self: BackendCore, task: Task, current: Held, layer: str, _now_ms: float) -> None:
        self._answer(task, MOVED, replace(current, layer=layer), self.own.sent)

    patch(BackendCore, "_give_up", unwritten)


@_rule("layer-gone", "layers")
def _layer_gone(patch: Patch) -> None:
    """A request that may be of a layer that went is voided as if it were."""

    def of_none(self: Layers, task: Task, layer: str | None) -> bool:
        return not self.stays(task, layer) and self._validity.sealed(task.request.epoch, task.key, layer)

    patch(Layers, "voided", of_none)


@_rule("layer-taken-over", "forgetful", rare=True)
def _layer_taken_over(patch: Patch) -> None:
    """A successor that learns the layer of a key waits for what a predecessor asked hierarchical for."""
    patch(Handover, "taken_over", lambda *_: None)


@_rule("layer-header", "layers")
def _layer_header(patch: Patch) -> None:
    """A change is judged by the layer that it names."""
    patch(Validity, "_layer", lambda *_: None)


@_rule("layer-learnt", "forgetful", rare=True)
def _layer_learnt(patch: Patch) -> None:
    """A successor knows the layer of each request in flight, whatever its key book forgot while it took over."""
    patch(Succession, "_learn", lambda _: None)


@_rule("aligned-reads", "reads")
def _aligned_reads(patch: Patch) -> None:
    """A read by operation waits for every change of its key that was dispatched before."""
    patch(Freshness, "newest", lambda *_: None)


@_rule("reads-in-order", "reads")
def _reads_in_order(patch: Patch) -> None:
    """A read that was asked for elsewhere in vain goes to its owner when nothing of its key waits any more."""
    patch(Reading, "_freed", lambda *_: True)


@_rule("missing-kept", "reads")
def _missing_kept(patch: Patch) -> None:
    """A system commits no dispatched change that its store does not show: a successor must know of it."""
    patch(Freshness, "oldest", lambda _: None)


@_rule("fallback-restored", "reads")
def _fallback_restored(patch: Patch) -> None:
    """A successor of the router asks the owner for a read that was asked for elsewhere alone."""
    dispatched = Succession.dispatched

    def at_the_owner(self: Succession, record: Record, now_ms: float) -> None:
        dispatched(self, record, now_ms)
        for entry in self._of.in_flight.values():
            entry.course = Course.BOTH if entry.course is Course.ELSEWHERE else entry.course

    patch(Succession, "dispatched", at_the_owner)


@_rule("never-copied", "reads")
def _never_copied(patch: Patch) -> None:
    """A system that holds nothing of a key does not say that there is nothing."""
    patch(Read, "refusal", lambda *_: None)


@_rule("commit-read-back", "forced")
def _commit_read_back(patch: Patch) -> None:
    """The router commits no request whose dispatch was sent but not read back."""

    def sent(self: Ledger, position: int, waiting: Iterable[Entry]) -> int:
        return min([position, *(entry.position for entry in waiting), *self.unacked])

    patch(Ledger, "requests", sent)


@_rule("id-window", "compaction")
def _id_window(patch: Patch) -> None:
    """The router commits nothing of `dispatched` that is within the id window."""
    dispatched = Ledger.dispatched

    def long_ago(self: Ledger, entry: Entry, offset: int, _now_ms: float) -> None:
        dispatched(self, entry, offset, -1e12)

    patch(Ledger, "dispatched", long_ago)


@_rule("proven-responses", "swarm", rare=True)
def _proven_responses(patch: Patch) -> None:
    """Responses are passed over for good only once an own record, sent later, was read back."""

    def read(_self: Passed, positions: Mapping[str, int]) -> Mapping[str, int]:
        return positions

    patch(Passed, "at", read)


@_rule("counted-on", "anew")
def _counted_on(patch: Patch) -> None:
    """Positions of a topic made anew come after all those of the one before it."""
    decide = Numbering.decide

    def from_nothing(self: Numbering, mark: Requests | None) -> Requests | None:
        made = decide(self, mark)
        self.base = 0
        return made and replace(made, base=0)

    patch(Numbering, "decide", from_nothing)


@_rule("counted-far-on", "anew")
def _counted_far_on(patch: Patch) -> None:
    """Positions of a topic made anew come after all that a superseded router may have given, and nobody knows of."""
    decide, dispatched = Numbering.decide, Succession.dispatched
    known: dict[int, int] = {}

    def noted(self: Succession, record: Record, now_ms: float) -> None:
        dispatched(self, record, now_ms)
        known[id(self._of.numbering)] = max(self._of.ledger.entries, default=-1)

    def next_free(self: Numbering, mark: Requests | None) -> Requests | None:
        made, free = decide(self, mark), known.pop(id(self), -1) + 1
        if made is None or not self.anew:
            return made
        self.base = max(free, (mark.base if mark is not None else 0) + 1)
        return replace(made, base=self.base)

    patch(Succession, "dispatched", noted)
    patch(Numbering, "decide", next_free)


@_rule("counted-by-topic", "anew")
def _counted_by_topic(patch: Patch) -> None:
    """A topic made anew is known by its id."""
    start = Numbering.start

    def by_name(self: Numbering, committed: Mapping[str, Commit]) -> int:
        self.topic = "requests#0"
        return start(self, committed)

    patch(Numbering, "start", by_name)


@_rule("committed-topic", "anew")
def _committed_topic(patch: Patch) -> None:
    """A commit counts for the topic that it names."""
    start, decide = Numbering.start, Numbering.decide

    def by_name(self: Numbering, committed: Mapping[str, Commit]) -> int:
        named = {log: Commit(commit.offset, self.topic) for log, commit in committed.items()}
        return start(self, named)

    def there(self: Numbering, mark: Requests | None) -> Requests | None:
        offset, made = self.offset, decide(self, mark)
        self.offset = offset
        return made

    patch(Numbering, "start", by_name)
    patch(Numbering, "decide", there)


@_rule("default-ids", "anew")
def _default_ids(patch: Patch) -> None:
    """Requests of two topics to which the same default id was given are not one request."""

    def by_name(of: Callable[..., Any]) -> Callable[..., Any]:
        return lambda self, identity, *rest: of(self, Identity(identity.key, identity.name), *rest)

    for name in ("first", "see", "add", "answer"):
        patch(Identities, name, by_name(getattr(Identities, name)))


@_rule("base-read-back", "anew", rare=True)
def _base_read_back(patch: Patch) -> None:
    """A topic is read only when what its positions count from was read back."""
    decide = Numbering.decide

    def at_once(self: Numbering, mark: Requests | None) -> Requests | None:
        made = decide(self, mark)
        self.read_back = True
        return made

    patch(Numbering, "decide", at_once)


# ---------------------------------------------------------------------- the migrator
@_rule("backfill-before-seal", "one-key")
def _backfill_before_seal(patch: Patch) -> None:
    """Flat's seal is copied when all that moves with it, the cold too, is in the replica or on its way there."""
    patch(Backfill, "covers", lambda *_: True)


@_rule("settled-read-back", "forced")
def _settled_read_back(patch: Patch) -> None:
    """`settled` is said when the copies of both seals were read back."""
    copy_of = HandOvers.copy_of

    def at_once(self: HandOvers, system: System, seal: Seal, offset: int) -> Seal | None:
        copy = copy_of(self, system, seal, offset)
        self.read_back(system, copy or self.seals[system][seal.route.epoch])
        return copy

    patch(HandOvers, "copy_of", at_once)


@_rule("copies-read-back", "forced")
def _copied(patch: Patch) -> None:
    """The migrator commits a source only when its copy, a seal's too, is read back."""
    patch(MigratorCore, "_is_cold", lambda *_: True)


@_rule("repair-of-copies", "nights")
def _repair_of_copies(patch: Patch) -> None:
    """A copy is appended again when a void record lies after it."""
    patch(Replica, "repair", lambda _: None)


@_rule("unmapped-pinned", "unmapped")
def _unmapped_pinned(patch: Patch) -> None:
    """A key whose newest state cannot be mapped is pinned to the system that has it."""
    patch(MigratorCore, "_pin", lambda *_: None)


# ---------------------------------------------------------------------- deletions
@_rule("version-floor", "rebirth")
def _version_floor(patch: Patch) -> None:
    """A key that has no state goes on above every version that was forgotten in its partition."""
    patch(Store, "next_version", lambda _self, held: held.version + 1)


@_rule("floor-copied", "rebirth", rare=True)
def _floor_copied(patch: Patch) -> None:
    """The other system hears of a floor of versions before the deletion that it stands for is forgotten there."""
    patch(Replica, "raise_floor", lambda *_: None)


@_rule("deletion-agreed", "rebirth", rare=True)
def _deletion_agreed(patch: Patch) -> None:
    """A deletion of a key that both systems had is put down by both before either forgets it."""
    replicated = OwnChanges.replicated

    def alone(self: OwnChanges, key: bytes, before: Held, held: Held, now_ms: float, *, forgotten: bool) -> None:
        replicated(self, key, before, held, now_ms, forgotten=forgotten)
        self._foreign.clear()
        before.shared = held.shared = False

    patch(OwnChanges, "replicated", alone)


@_rule("forgotten-committed", "rebirth")
def _forgotten_committed(patch: Patch) -> None:
    """A deletion is forgotten when its request is committed: nobody executes that again."""
    expire = OwnChanges.expire
    patch(OwnChanges, "expire", lambda self, before_ms, read, _committed: expire(self, before_ms, read, 1 << 60))


@_rule("forgotten-given-back", "rebirth", rare=True)
def _forgotten_given_back(patch: Patch) -> None:
    """A key whose deletion was forgotten is given back with a version of its own, which flat can wait for."""
    answered = BackendCore._answered

    def as_it_was(self: BackendCore, task: Task, current: Held, layer: str | None, now_ms: float) -> bool:
        current.forgotten = False
        return answered(self, task, current, layer, now_ms)

    patch(BackendCore, "_answered", as_it_was)


@_rule("replica-read", "rebirth", rare=True)
def _replica_read(patch: Patch) -> None:
    """What has no own record waits until the replica log was read, once deletions were forgotten."""
    patch(BackendCore, "_may_lie_further_on", lambda _self, task, _, layer: task.route is not None and layer is None)


@_rule("layer-read", "layers", rare=True)
def _layer_read(patch: Patch) -> None:
    """While layers are held, what is of none that is known waits until the replica log was read."""
    patch(BackendCore, "_may_lie_further_on", lambda self, _, current, __: self.store.floor and not current.own)


@_rule("layers-forgotten", "rebirth")
def _layers_forgotten(patch: Patch) -> None:
    """A router forgets the layer of a key sooner than the logs forget that the key was deleted."""
    patch(KeyBook, "expire", lambda *_: None)


# ---------------------------------------------------------------------- Redis
@_rule("redis-fence", "redis")
def _redis_fence(patch: Patch) -> None:
    """A call is refused unless it continues the position that stands in Redis."""
    evaluate = MemoryRedis.evaluate

    def unfenced(self: MemoryRedis, keys: Sequence[str], arguments: Sequence[str | bytes | int]) -> bytes:
        topic = str(arguments[0])
        stored = self.hmget(keys[0], [topic])[0] or b""
        return evaluate(self, keys, [topic, stored, *arguments[2:]])

    patch(MemoryRedis, "evaluate", unfenced)


@_rule("redis-versions", "redis")
def _redis_versions(patch: Patch) -> None:
    """A key in Redis is set only to a newer version: two logs write to it."""
    evaluate = MemoryRedis.evaluate

    def any_version(self: MemoryRedis, keys: Sequence[str], arguments: Sequence[str | bytes | int]) -> bytes:
        if (self.hmget(keys[0], [str(arguments[0])])[0] or b"") == str(arguments[1]).encode():
            for key in keys[2:]:
                self.hashes.pop(key, None)
        return evaluate(self, keys, arguments)

    patch(MemoryRedis, "evaluate", any_version)


@_rule("redis-look", "redis")
def _redis_look(patch: Patch) -> None:
    """A projector at rest looks whether Redis still has what it was told."""
    patch(Projection, "stands", lambda *_: True)
