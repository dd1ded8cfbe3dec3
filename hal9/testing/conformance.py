"""Is what answers at an address a handler? The same questions for every language: `hal9 run system --check URL`.

What a running system cannot find out, or finds out too late, is asked here: the same input gives the same output,
alone and in a batch, in any order; what is declared read-only leaves the state alone; an operation that it does not
know is refused; nothing that it is sent ends it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import aiohttp

from hal9.backend.bodies import FAILED, TYPES
from hal9.backend.execution import Limits, mutating, read_only
from hal9.backend.handler import Item, Missing, Outcome, Refused, State
from hal9.backend.remote import HttpHandler
from hal9.log.effects import Call
from hal9.settings.sections import System
from schemas.base import encode

UNKNOWN = "no.such-operation"
GARBAGE = (b"", b"\xc1", b"{", b"[]", b'{"items": 7}', b'{"items": [7]}', b"\x81\xa5items\xc0", b"\x00" * 100_000)
Trial = tuple[str, bytes]


@dataclass(frozen=True, slots=True)
class Finding:
    """One promise of a handler, and what is wrong with it (empty: nothing)."""

    promise: str
    wrong: str = ""


async def check(url: str, trials: Sequence[Trial], settings: System) -> list[Finding]:
    """Ask the handler at `url`; `trials` are operations with values, carried out one after the other on one key.

    Raises:
        Unreachable: nobody answers.
        ConfigError: it does not describe itself.
    """
    async with HttpHandler(url, settings) as handler:
        await handler.reach()
        shown = f"{handler.description.name or 'unnamed'} {handler.description.version}".strip()
        findings = [Finding(f"describes itself: {shown}, {handler.form}, read-only {sorted(handler.read_only)}")]
        items, outcomes = await _one_by_one(handler, trials, findings)
        findings.append(_same("a batch gives what its items give alone", outcomes, await _ask(handler, *items)))
        backwards = list(reversed(await _ask(handler, *reversed(items))))
        findings.append(_same("in a batch the order of the items does not matter", outcomes, backwards))
        findings += await _refusals(handler)
        before = await _ask(handler, *items)
        ended = await _garbage(url, handler)
        findings.append(ended or _same("goes on after bodies that make no sense", before, await _ask(handler, *items)))
        return findings


async def _one_by_one(
    handler: HttpHandler, trials: Sequence[Trial], findings: list[Finding]
) -> tuple[list[Item], list[Outcome]]:
    """Each trial on the state that the one before it left, twice."""
    state: State | None = None
    items: list[Item] = []
    outcomes: list[Outcome] = []
    for operation, value in trials:
        item = (state, operation, value)
        (first,), (second,) = await _ask(handler, item), await _ask(handler, item)
        items.append(item)
        outcomes.append(first)
        findings.append(_answered(f"{operation} {value!r} is answered", first))
        findings.append(_same(f"{operation} {value!r} gives the same each time", [first], [second]))
        if not isinstance(first, tuple):
            continue
        if operation in handler.read_only:
            same = encode(first[0]) == encode(state)
            findings.append(
                Finding(f"{operation} leaves the state alone", "" if same else f"{state} became {first[0]}")
            )
            continue
        executed = mutating(first, state, Limits())
        findings.append(Finding(f"the state after {operation} can be kept", executed.error or ""))
        state = executed.state
    return items, outcomes


async def _refusals(handler: HttpHandler) -> list[Finding]:
    (unknown,) = await _ask(handler, (None, UNKNOWN, b""))
    refused = isinstance(unknown, Refused) and unknown.code != FAILED
    large = (None, UNKNOWN, bytes(256 * 1024))
    deep: State = {}
    for _ in range(40):
        deep = {"deeper": deep}
    findings = [Finding("an operation that it does not know is refused", "" if refused else f"{_shown(unknown)}")]
    for what, item in (("a value of 256 KiB", large), ("a deep state", (deep, UNKNOWN, b"\xff\x00"))):
        (outcome,) = await _ask(handler, item)
        findings.append(_answered(f"{what} is answered", outcome, failing=True))
    return findings


async def _garbage(url: str, handler: HttpHandler) -> Finding | None:
    timeout = aiohttp.ClientTimeout(total=30)
    async with aiohttp.ClientSession(timeout=timeout) as session:
        for body in GARBAGE:
            try:
                async with session.post(url, data=body, headers={"Content-Type": TYPES[handler.form]}) as response:
                    await response.read()
            except (aiohttp.ClientError, TimeoutError) as error:
                return Finding("goes on after bodies that make no sense", f"{body[:20]!r}: {error!r}")
    return None


async def _ask(handler: HttpHandler, *items: Item) -> list[Outcome]:
    return list(await handler.call(Call(items, lambda _outcomes, _now_ms: None)))


def _answered(promise: str, outcome: Outcome, *, failing: bool = False) -> Finding:
    if isinstance(outcome, Missing):
        return Finding(promise, f"it was {outcome.value}")
    executed = read_only(outcome, Limits())
    failed = executed.error == FAILED and not failing
    return Finding(promise, _shown(outcome) if failed else "")


def _same(promise: str, first: Sequence[Outcome], second: Sequence[Outcome]) -> Finding:
    for one, other in zip(first, second, strict=True):
        if _shown(one) != _shown(other):
            return Finding(promise, f"{_shown(one)} and {_shown(other)}")
    return Finding(promise)


def _shown(outcome: Outcome) -> str:
    if isinstance(outcome, Missing):
        return outcome.value
    if isinstance(outcome, Refused):
        return f"error {outcome.code}: {outcome.detail}" if outcome.code == FAILED else f"error {outcome.code}"
    return f"{outcome[0]} {outcome[1]!r}"
