"""What must hold at rest after any schedule (DESIGN section 7, last paragraph; `check` in the protocol's model).

Everything is judged from the logs and from what the clients sent; only `simulation.rest` looks
into cores.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from hal9 import wire
from hal9.control.reducer import ControlState
from hal9.testing.memory import MemoryLogs, Stored
from schemas.base import FLAT, SYSTEMS, Tree, decode
from schemas.reports import divergence_decoder
from simulation.applied import answered, applied
from simulation.history import CHANGES, Change, Violation, chains, markers, store


@dataclass(slots=True)
class Asked:
    """One request of a client: all its positions (repeats of the id included), and what it had seen when it asked."""

    id: str
    key: bytes
    operation: str
    deadline_ms: int | None
    """Set by the client; None: the default, which no schedule reaches."""
    bad: bool = False
    positions: list[int] = field(default_factory=list)
    seen: list[str] = field(default_factory=list)
    """Ids of this key that were answered `ok` before."""


@dataclass(slots=True)
class Evidence:
    """What a schedule left behind."""

    logs: MemoryLogs
    partition: int
    salt: str
    control: ControlState
    changes: list[Change]
    asked: Mapping[str, Asked]
    forgetful: bool
    """Compaction may have taken answers away, so that `timeout` needs no deadline."""
    cold_until: int = 0
    """Changes of flat below this offset are cold: of these only the newest of a key is copied, not each answer."""


def check(evidence: Evidence) -> None:
    """Raise `Violation` for the first promise that was broken."""
    history = chains(evidence.changes)
    for key, chain in history.items():
        _built_on_each_other(key, chain, evidence)
    _stores(evidence, history)
    answers = first_answers(evidence.logs, evidence.partition)
    for asked in evidence.asked.values():
        _answer(evidence, history.get(asked.key, []), asked, answers.get((asked.key, asked.id)))
    _control(evidence)
    _divergences(evidence)


def first_answers(logs: MemoryLogs, partition: int) -> dict[tuple[bytes, str], Stored]:
    """Per key and id the answer that counts."""
    found: dict[tuple[bytes, str], Stored] = {}
    for record in logs["responses", partition]:
        found.setdefault((record.key or b"", wire.text(record.headers, wire.ID) or ""), record)
    return found


def _request_ids(evidence: Evidence) -> dict[int, Asked]:
    return {position: asked for asked in evidence.asked.values() for position in asked.positions}


def _built_on_each_other(key: bytes, chain: list[Change], evidence: Evidence) -> None:
    """Each state is the one before it, changed by the request at its position alone."""
    by_position = _request_ids(evidence)
    before: Tree | None = None
    for change in chain:
        asked = by_position.get(change.position)
        if asked is None or asked.key != key:
            raise Violation(f"{change}: no request of {key!r} is at its position")
        held = applied(before)
        expected: Tree | None = before
        if change.header.answer_status == "ok":
            expected = None if asked.operation == "del" else {"applied": [*held, asked.id]}
        if change.state != expected:
            raise Violation(f"lost or doubled update of {key!r}: {change} of {asked.operation} on {before}")
        before = change.state


def _stores(evidence: Evidence, history: Mapping[bytes, list[Change]]) -> None:
    stores = {s: store(evidence.logs, evidence.partition, s, evidence.salt) for s in SYSTEMS}
    for system, found in stores.items():
        for key, chain in history.items():
            last, held = chain[-1], found.get(key)
            if held is None or held.header.version != last.header.version or held.state != last.state:
                raise Violation(f"the store of {system} has {held} for {key!r}, the newest change is {last}")


def _answer(evidence: Evidence, chain: list[Change], asked: Asked, answer: Stored | None) -> None:
    """One answer; `ok` is one effect, `timeout` at most one, `error` and `rejected` none."""
    if answer is None:
        raise Violation(f"no answer: {asked}")
    status = wire.text(answer.headers, wire.STATUS)
    own = [change for change in chain if change.position in asked.positions]
    effects = [change for change in own if change.header.answer_status == "ok"]
    if len(effects) > 1:
        raise Violation(f"{len(effects)} effects of {asked}: {effects}")
    if status in ("timeout", "rejected"):
        _has_reason(evidence, asked, answer, own)
    if status in ("error", "rejected") and effects:
        raise Violation(f"answered {status}, and yet {effects[0]}: {asked}")
    if status in ("timeout", "error", "rejected"):
        return
    if status != "ok" or asked.bad:
        raise Violation(f"status {status}: {asked}")
    if asked.operation == "read":
        _read(evidence, chain, asked, answered(answer.value))
    elif len(effects) != 1 or effects[0].answer != answer.value:
        raise Violation(f"answered ok {answered(answer.value)}, effects {effects}: {asked}")


def _has_reason(evidence: Evidence, asked: Asked, answer: Stored, own: list[Change]) -> None:
    """Nothing times out before its deadline, and nothing acceptable is rejected before it."""
    if asked.deadline_ms is not None and answer.timestamp >= asked.deadline_ms:
        return
    if wire.text(answer.headers, wire.STATUS) == "rejected":
        if not asked.bad:
            raise Violation(f"rejected without a reason: {answer}")
        return
    cold = any(change.log == CHANGES[FLAT] and change.offset < evidence.cold_until for change in own)
    if not (evidence.forgetful or cold):
        raise Violation(f"timeout before the deadline: {asked}")


def _read(evidence: Evidence, chain: list[Change], asked: Asked, answer: list[str]) -> None:
    """A read answers a state that is in the history, and none older than what its client had seen."""
    seen = {position for name in asked.seen for position in evidence.asked[name].positions}
    known = [index for index, change in enumerate(chain, start=1) if change.position in seen]
    states = [[], *(applied(change.state) for change in chain)]
    if answer not in states:
        raise Violation(f"dirty read {answer} of {asked}, states {states}")
    if answer not in states[max(known, default=0) :]:
        raise Violation(f"stale read {answer} of {asked}, states {states}")


def _control(evidence: Evidence) -> None:
    epochs = list(markers(evidence.logs, evidence.partition))
    settled = evidence.control.settled.get(evidence.partition, {})
    unsettled = [epoch for epoch in epochs if epoch not in settled]
    if unsettled:
        raise Violation(f"never settled: {unsettled}")
    if evidence.control.epoch and (not epochs or epochs[-1] != evidence.control.epoch):
        raise Violation(f"epoch {evidence.control.epoch} has no marker: {epochs}")
    if evidence.control.unknown:
        raise Violation(f"control records {evidence.control.unknown} are not understood")


def _divergences(evidence: Evidence) -> None:
    """Both systems run one handler: where states or answers differ, they were compared at different states."""
    for record in evidence.logs["divergences", evidence.partition]:
        divergence = decode(divergence_decoder, record.value)
        if divergence.kind in ("value", "state", "status"):
            raise Violation(f"compared at unequal state: {divergence}")
