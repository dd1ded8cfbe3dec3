"""The invariant of the hand-over on the real stack: the route up, down and sideways under load, with kills and freezes.

Per neuron `ok <= effects <= ok + timeout`; every request is answered; at rest both stores and Redis are equal; no
process ends by itself. `python -m bench invariant --rounds 50 --seed 1`: what happens when is drawn from the seed.
"""

import argparse
import asyncio
import random
import statistics
import sys
import tempfile
import time
import uuid
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from bench.fleet import Fleet
from bench.ground import write
from bench.learning import Load
from hal9.client import Client
from hal9.control.log import ControlFollower, ControlWriter, following
from hal9.control.reducer import Outcome
from hal9.settings import Client as ClientSettings
from hal9.settings import Kafka, Redis, Settings
from hal9.settings import Topics as TopicSettings
from hal9.topics import Topics, create
from schemas.control import AnyControl, Route, SetFlags, Start
from services.migrator.verify import verify
from stack.local import LocalStack

DEADLINE_S = 150.0
ATTEMPTS = 20
FAULTS = ("router", "migrator", "flat", "hierarchical")
PREFIX = "counter-1"
"""Keys that begin so are sent sideways."""


@dataclass(frozen=True)
class Fault:
    """SIGKILL (started again after `for_s`), or SIGSTOP for `for_s` seconds, `after_s` after the decision."""

    service: str
    kind: str
    for_s: float = 0.0
    after_s: float = 0.0


@dataclass(frozen=True)
class Change:
    """One change of the route; `prefix`: the system that keys of `PREFIX` go to (None: no prefix)."""

    percentage: float
    prefix: str | None = None
    fault: Fault | None = None


@dataclass
class Told:
    """What a run found."""

    changes: list[dict[str, object]] = field(default_factory=list)
    violations: list[str] = field(default_factory=list)
    latched: int = 0
    """Times that a rollback or a freeze of the services' own had to be lifted."""


def script(rounds: int, seed: int, faults: Sequence[str], kinds: Sequence[str]) -> list[Change]:
    """Up and down once per round, now and then sideways, most changes with a fault."""
    rng = random.Random(seed)
    changes: list[Change] = []
    prefix: str | None = None
    for number in range(2 * rounds):
        percentage = float(rng.randint(50, 100) if number % 2 == 0 else rng.randint(0, 49))
        if rng.random() < 0.3:
            prefix = rng.choice([None, "flat", "hierarchical"])
        fault = None
        if faults and kinds and rng.random() < 0.6:
            kind = rng.choice(kinds)
            for_s = rng.choice([0.0, 0.0, 2.0, 8.0]) if kind == "kill" else rng.choice([2.0, 8.0, 8.0, 30.0])
            fault = Fault(rng.choice(faults), kind, for_s, rng.choice([0.0, 0.0, 0.05, 0.3, 1.0]))
        changes.append(Change(percentage, prefix, fault))
    return changes


def _who(control: ControlFollower) -> dict[str, Any]:
    state = control.state
    return {
        "id": uuid.uuid4().hex,
        "migration": state.migration,
        "actor": "bench",
        "at_ms": time.time_ns() // 10**6,
        "expected_epoch": state.epoch,
    }


def _record(control: ControlFollower, change: Change, shadow: float) -> AnyControl:
    state, who = control.state, _who(control)
    if change.prefix is None and not state.flags.prefixes:
        return Route(percentage=change.percentage, shadow=shadow, **who)
    prefixes: dict[str, Any] = {} if change.prefix is None else {PREFIX: change.prefix}
    flags = replace(state.flags, percentage=change.percentage, shadow=shadow, prefixes=prefixes)
    return SetFlags(flags=flags, **who)


class Run:
    """One run over a fleet under load."""

    def __init__(self, fleet: Fleet, settings: Settings, load: Load, seed: int) -> None:
        self._fleet, self._settings, self._load = fleet, settings, load
        self._rng = random.Random(seed)
        self._mending: set[asyncio.Task[None]] = set()
        self.told = Told()

    async def drive(self, changes: Sequence[Change]) -> None:
        """Play the changes; each must settle everywhere, and answers must go on."""
        topics = Topics.of(self._settings.topics)
        async with following(self._settings.kafka, topics, self._settings.migration.id) as control:
            writer = ControlWriter(self._settings.kafka, topics, control)
            try:
                for number, change in enumerate(changes):
                    await self._change(control, writer, number, change)
                await asyncio.gather(*self._mending)
            finally:
                self._load.stopping.set()
                await writer.close()

    async def _change(self, control: ControlFollower, writer: ControlWriter, number: int, change: Change) -> None:
        outcome = await self._decided(control, writer, number, change)
        began = time.monotonic()
        slot = await self._befall(change.fault) if change.fault is not None else None
        partitions = self._settings.topics.partitions
        await control.wait_until(lambda state: state.settled_everywhere(outcome.epoch, partitions), DEADLINE_S)
        settled_s = time.monotonic() - began
        await self._load.go_on(len(self._load.neurons), DEADLINE_S)
        told = {"epoch": outcome.epoch, "slot": slot, "settled_s": round(settled_s, 3), **asdict(change)}
        self.told.changes.append(told)
        self.told.violations += self._fleet.ended()
        print(f"{number}: {told}", file=sys.stderr, flush=True)

    async def _decided(self, control: ControlFollower, writer: ControlWriter, number: int, change: Change) -> Outcome:
        """Append the change; a rollback by a breaker, which latches the route or moves the epoch on, comes first."""
        reason = ""
        for _ in range(ATTEMPTS):
            state = control.state
            if state.rolled_back is not None or state.frozen is not None:
                self.told.latched += 1
                partitions = self._settings.topics.partitions
                await writer.append(Start(partitions=partitions, plan={}, **_who(control)))
            outcome = await writer.append(_record(control, change, 50.0))
            if outcome.verdict == "accepted":
                return outcome
            reason = outcome.reason
        raise RuntimeError(f"change {number} was refused: {reason}")

    async def _befall(self, fault: Fault) -> str | None:
        await asyncio.sleep(fault.after_s)
        awake = self._fleet.awake(fault.service)
        if not awake:
            return None
        slot = self._rng.choice(awake)
        if fault.kind == "kill":
            await asyncio.to_thread(self._fleet.kill, slot)
        else:
            self._fleet.freeze(slot)
        task = asyncio.create_task(self._mend(slot, fault))
        self._mending.add(task)
        task.add_done_callback(self._mending.discard)
        return slot

    async def _mend(self, slot: str, fault: Fault) -> None:
        await asyncio.sleep(fault.for_s)
        if fault.kind == "kill":
            self._fleet.start(slot)
        else:
            self._fleet.thaw(slot)


async def played(
    fleet: Fleet, settings: Settings, load: tuple[int, float], changes: Sequence[Change], seed: int
) -> dict[str, Any]:
    """Start everything, play the changes under load (neurons, requests/s), come to rest, count; what was found."""
    neurons, rate = load
    await create(settings.kafka, Topics.of(settings.topics))
    fleet.start_all()
    async with Client(settings=settings) as client:
        learning = Load(client, [f"counter-{number}" for number in range(neurons)], rate)
        await learning.create()
        run = Run(fleet, settings, learning, seed)
        async with asyncio.TaskGroup() as group:
            group.create_task(learning.run())
            group.create_task(run.drive(changes))
        violations = [*run.told.violations, *await learning.violations()]
    report = await verify(settings, patience_s=DEADLINE_S)
    if not report.stores_equal or report.keys != neurons:
        violations.append(f"the stores differ: {report}")
    violations += fleet.ended()
    seconds = sorted(float(str(change["settled_s"])) for change in run.told.changes)
    return {
        "changes": run.told.changes,
        "settled_s": {"p50": statistics.median(seconds), "max": seconds[-1]},
        "requests": dict(learning.statuses()),
        "sent": learning.sent.total(),
        "log_lines": fleet.log_lines(),
        "stores_equal": report.stores_equal,
        "latched": run.told.latched,
        "violations": list(dict.fromkeys(violations)),
    }


def main(given: list[str]) -> int:
    """Play, write `bench/results/invariant.json`; 1 if anything was violated."""
    parser = argparse.ArgumentParser(prog="bench invariant")
    parser.add_argument("--rounds", type=int, default=50, help="each is one way up and one down")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--kill", nargs="*", default=list(FAULTS), choices=FAULTS, help="services to kill -9 and stop")
    parser.add_argument("--kinds", nargs="*", default=["kill", "freeze"], choices=["kill", "freeze"])
    parser.add_argument("--routers", type=int, default=3)
    parser.add_argument("--migrators", type=int, default=1)
    parser.add_argument("--systems", type=int, default=2, help="instances of each system")
    parser.add_argument("--partitions", type=int, default=6)
    parser.add_argument("--neurons", type=int, default=60)
    parser.add_argument("--rate", type=float, default=300.0, help="requests per second; 0: as many as are answered")
    parser.add_argument("--keep", type=Path, help="a directory for the services' logs")
    chosen = parser.parse_args(given)
    counts = {"router": chosen.routers, "migrator": chosen.migrators}
    counts |= {"flat": chosen.systems, "hierarchical": chosen.systems}
    changes = script(chosen.rounds, chosen.seed, chosen.kill, chosen.kinds)
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="hal9-invariant-") as name, LocalStack(Path(name)) as stack:
        endpoints = stack.up(lambda line: print(line, file=sys.stderr))
        settings = Settings(
            kafka=Kafka(bootstrap=endpoints.bootstrap),
            redis=Redis(url=endpoints.redis_url),
            topics=TopicSettings(prefix="invariant.", partitions=chosen.partitions),
            client=ClientSettings(deadline_ms=8_000),
        )
        logs = chosen.keep or Path(name) / "logs"
        fleet = Fleet(logs, settings, counts)
        try:
            found = asyncio.run(played(fleet, settings, (chosen.neurons, chosen.rate), changes, chosen.seed))
        finally:
            fleet.stop()
    arguments = {key: value for key, value in vars(chosen).items() if key != "keep"}
    path = write("invariant", {"arguments": arguments, "seconds": round(time.monotonic() - began), **found})
    short = {key: value for key, value in found.items() if key != "changes"}
    print(f"{short}\n{path}")
    return 1 if found["violations"] else 0
