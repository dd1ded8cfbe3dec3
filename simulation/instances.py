"""The running and the late instances of every service, the partitions they hold, and what befalls them.

An instance is a process: it may hold several partitions, and dies, sleeps and loses its producer as a whole. Several
may run: the group gives a partition to one of them, the others that still hold it are zombies.
"""

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from hal9.control.reducer import ControlState
from hal9.log.effects import PartitionCore, Send
from hal9.testing.memory import MemoryGroup, MemoryLogs, Name
from hal9.testing.runtime import MemoryRuntime
from schemas.base import SYSTEMS, System
from services.migrator.core import MigratorCore
from services.router.protection import Protection
from simulation.applied import AppliedHandler
from simulation.cast import MIGRATION, SERVICES, cast
from simulation.elsewhere import Elsewhere
from simulation.history import CHANGES
from simulation.witness import Witness

Sends = dict[Name, deque[tuple[Send, int]]]
Place = tuple[str, int]
"""A service and a partition."""


@dataclass(slots=True)
class Wreck:
    """Sends of a lost producer: they may land at any time, and nobody hears of it."""

    name: str
    outgoing: Sends


@dataclass(slots=True)
class Instance:
    """One process of a service. `joined`: its group knows it, so that it may be given partitions."""

    service: str
    name: str
    joined: bool = True
    paused: bool = False
    runtimes: list[MemoryRuntime] = field(default_factory=list)

    @property
    def alive(self) -> bool:
        """Whether the process runs (or is paused)."""
        return self.joined or any(runtime.alive for runtime in self.runtimes)


@dataclass(slots=True)
class Instances:
    """Every instance by name, and who holds which partition of which service."""

    logs: MemoryLogs
    partitions: int
    witness: Witness
    note: Callable[[str], None]
    small: bool = False
    """Whether every limit is so small that it is met."""
    elsewhere: Elsewhere | None = None
    """The handler of both systems, if it is not at hand."""
    named: dict[str, Instance] = field(default_factory=dict)
    runtimes: dict[str, MemoryRuntime] = field(default_factory=dict)
    """By name (`<instance>/<partition>`, an older one with a prime): those that run, or whose sends may still land."""
    wrecks: dict[str, Wreck] = field(default_factory=dict)
    holders: dict[Place, MemoryRuntime] = field(default_factory=dict)
    restarts: list[str] = field(default_factory=list)
    """Why incarnations ended, of instances that are gone."""
    takeovers: int = 0
    protection: Protection = field(default_factory=Protection)
    """Of all routers."""
    given_back: int = 0
    _groups: dict[Place, MemoryGroup] = field(default_factory=dict)
    _makers: list[dict[str, Callable[[str], PartitionCore]]] = field(default_factory=list)
    _numbers: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._groups = {(service, p): MemoryGroup() for service in SERVICES for p in range(self.partitions)}
        remote = self.elsewhere is not None
        handler = AppliedHandler(layers=self.witness.layers)
        self._makers = [
            cast(p, self.partitions, handler=handler, protection=self.protection, remote=remote, small=self.small)
            for p in range(self.partitions)
        ]

    def trip(self, systems: str) -> bool:
        """The breakers of these systems are open, those of the others closed."""
        self.protection.tripped = frozenset(system for system in SYSTEMS if system in systems.split())
        return True

    # ------------------------------------------------------------------ who is there
    def alive(self, service: str) -> bool:
        """Whether any process of a service runs."""
        return any(instance.alive for instance in self.named.values() if instance.service == service)

    def joined(self, service: str) -> list[Instance]:
        """The instances of a service that its group knows."""
        return [i for i in self.named.values() if i.service == service and i.joined]

    def holder(self, place: Place) -> MemoryRuntime | None:
        """The living instance's hold on a partition, if the group still gives it to that."""
        runtime = self.holders.get(place)
        return runtime if runtime is not None and runtime.alive else None

    def current(self) -> Iterator[tuple[Place, MemoryRuntime]]:
        """Every partition of every service that is held."""
        return ((place, runtime) for place, runtime in self.holders.items() if runtime.alive)

    def late(self) -> list[tuple[str, int, str]]:
        """(service, partition, instance) of those that had a partition and have not noticed that another has it now."""
        return [
            (instance.service, runtime.partition, instance.name)
            for instance in self.named.values()
            if instance.joined
            for runtime in instance.runtimes
            if runtime.alive and self.holders.get((instance.service, runtime.partition)) is not runtime
        ]

    def read_by_all(self, log: str, partition: int) -> int:
        """Up to where everybody has read a log who reads it, and the migrator has committed it.

        Whoever is not there now will read what is left, and know nothing older.
        """
        read = 1 << 62
        for runtime in self.runtimes.values():
            if runtime.alive and runtime.partition == partition and log in runtime.core.reads:
                read = min(read, runtime.position(log))
        if log in CHANGES.values() and self._numbers.get("migrator"):
            committed = self._groups["migrator", partition].committed.get(log)
            read = min(read, committed.offset if committed is not None else 0)
        return read

    def fresh_name(self, service: str) -> str:
        """The name of the next new instance."""
        return f"{service}-{self._numbers.get(service, 0) + 1}"

    def cold_until(self, partition: int) -> int:
        """From which offset of flat's change log every change was followed."""
        runtime = self.holders.get(("migrator", partition))
        core = runtime.core if runtime is not None else None
        return (core.backfill.until or 0) if isinstance(core, MigratorCore) else 0

    def found(self, name: str) -> MemoryRuntime | None:
        """The runtime of this name; if there is none, whoever holds its partition (a shortened script has others)."""
        runtime = self.runtimes.get(name)
        if runtime is None:
            instance, _, partition = name.rstrip("'").partition("/")
            runtime = self.holders.get((instance.rpartition("-")[0], int(partition)))
        return runtime if runtime is not None and runtime.alive and not runtime.paused else None

    def _instance(self, name: str) -> Instance | None:
        found = self.named.get(name)
        if found is not None and found.alive:
            return found
        there = self.joined(name.rpartition("-")[0])
        return there[0] if there else None

    # ------------------------------------------------------------------ taking partitions over
    def assign(self, service: str, partition: int, name: str, now_ms: int) -> None:
        """The group gives a partition to an instance (a new one, if there is none of this name to give it to)."""
        instance = self.named.get(name)
        if instance is None or not instance.joined:
            number = self._numbers[service] = self._numbers.get(service, 0) + 1
            name = f"{service}-{number}"
            instance = self.named[name] = Instance(service, name)
        held = f"{name}/{partition}"
        while held in self.runtimes:
            if self.runtimes[held].alive:
                # The same process: it goes on with what it has, whoever had the partition meanwhile.
                self._give_back(self.runtimes[held], (service, partition))
                return
            held += "'"
        runtime = MemoryRuntime(
            held,
            self.logs,
            self._makers[partition][service],
            self._groups[service, partition],
            ControlState(MIGRATION),
            partition=partition,
            trace=self.note,
            calling=self.elsewhere,
        )
        instance.runtimes.append(runtime)
        self.runtimes[held] = self.holders[service, partition] = runtime
        self.takeovers += 1
        self._tidy()
        runtime.open(now_ms)

    def _give_back(self, runtime: MemoryRuntime, place: Place) -> None:
        runtime.regain()
        self.holders[place] = runtime
        self.given_back += 1
        self.note(f"-- {runtime.name} goes on")

    def _tidy(self) -> None:
        for name, runtime in list(self.runtimes.items()):
            if not runtime.alive and not runtime.outgoing:
                self.restarts += runtime.restarts
                del self.runtimes[name]
                instance = self.named[name.partition("/")[0]]
                instance.runtimes = [held for held in instance.runtimes if held is not runtime]

    def _held_by(self, instance: Instance) -> list[Place]:
        """The partitions that the group gives to an instance."""
        return [place for place, runtime in self.holders.items() if runtime in instance.runtimes]

    def _vacate(self, instance: Instance, held: list[Place], successor: str, now_ms: int) -> None:
        """The partitions that it held go to `successor`."""
        instance.joined = False
        for service, partition in held:
            self.assign(service, partition, successor, now_ms)
            successor = next(n for n, i in self.named.items() if self.holders[service, partition] in i.runtimes)

    # ------------------------------------------------------------------ what befalls them: one method per action
    def crash(self, name: str, share: float, successor: str, now_ms: int) -> bool:
        """A process is gone; of what it had sent this share may still land."""
        instance = self._instance(name)
        if instance is None:
            return False
        held = self._held_by(instance)
        self.kill(instance, share)
        self._vacate(instance, held, successor, now_ms)
        return True

    def kill(self, instance: Instance, share: float) -> None:
        """The same with nobody to take over."""
        for runtime in instance.runtimes:
            runtime.crash()
            tear(runtime.outgoing, share)
        instance.joined = False
        self._tidy()

    def cut(self, name: str, paused: bool, successor: str, now_ms: int) -> bool:
        """An instance is cut off from its group, and sleeps or runs on: a zombie."""
        instance = self._instance(name)
        if instance is None or not instance.joined:
            return False
        self.pause(instance, paused=paused)
        self._vacate(instance, self._held_by(instance), successor, now_ms)
        return True

    def pause(self, instance: Instance, *, paused: bool) -> None:
        """It sleeps, or goes on where it was."""
        instance.paused = paused
        for runtime in instance.runtimes:
            runtime.paused = paused

    def resume(self, name: str) -> bool:
        """A sleeping one wakes."""
        instance = self.named.get(name)
        if instance is None or not instance.paused:
            return False
        self.pause(instance, paused=False)
        return True

    def lose_producer(self, name: str, share: float, now_ms: int) -> bool:
        """Its producer fails: new incarnations, and of what was on its way this share may land all the same."""
        instance = self._instance(name)
        if instance is None or instance.paused:
            return False
        for runtime in list(instance.runtimes):
            if runtime.alive:
                lost = runtime.lose_producer(now_ms)
                tear(lost, share)
                wreck = Wreck(f"{runtime.name}~{len(self.wrecks) + 1}", lost)
                self.wrecks[wreck.name] = wreck
        return True

    def stop(self, name: str, successor: str, now_ms: int) -> bool:
        """A clean stop: what is done is committed, then it leaves."""
        instance = self._instance(name)
        if instance is None or instance.paused or not instance.joined:
            return False
        for runtime in instance.runtimes:
            self.commit(runtime, now_ms)
            runtime.crash()
        self._vacate(instance, self._held_by(instance), successor, now_ms)
        return True

    def rebalance(self, service: str, partition: int, to: str, how: str, now_ms: int) -> bool:
        """A partition goes to another instance. `how`: `drained` (committed, then dropped), `dropped`, `unaware`."""
        runtime = self.holder((service, partition))
        if runtime is None or runtime.name.partition("/")[0] == to:
            return False
        if how == "drained":
            self.commit(runtime, now_ms)
        if how != "unaware":
            runtime.crash()
        self.assign(service, partition, to, now_ms)
        return True

    # ------------------------------------------------------------------ what they do: one method per action
    def commit(self, runtime: MemoryRuntime, now_ms: int) -> None:
        """Commit what the core says; the witness sees to it that it is not too much."""
        if runtime.commit():
            service = runtime.name.rpartition("-")[0]
            group = self._groups[service, runtime.partition]
            self.witness.committed(service, runtime.partition, group.committed, now_ms)

    def forget(self, service: str, log: str) -> None:
        """The broker deletes what a group had committed of a topic."""
        for (of, _), group in self._groups.items():
            if of == service:
                group.committed.pop(log, None)

    def tick(self, runtime: MemoryRuntime, believed_dead: System | None, now_ms: int) -> None:
        """Time passes for one; the migrator learns who is dead, or believes so wrongly."""
        core = runtime.core
        if isinstance(core, MigratorCore):
            dead = {system for system in SYSTEMS if not self.alive(system)}
            core.dead = frozenset(dead | ({believed_dead} if believed_dead else set()))
        runtime.tick(now_ms)

    def land(self, name: str, to: Name, now_ms: int) -> bool:
        """One send arrives at its log."""
        if to[0] == "requests":
            self.witness.count("moves")
        wreck = self.wrecks.get(name)
        if wreck is not None:
            queue = wreck.outgoing.get(to)
            if queue is None:
                return False
            send, _ = queue.popleft()
            if not queue:
                del wreck.outgoing[to]
            self.logs[to].append(send.key, send.value, send.headers, now_ms)
            return True
        runtime = self.runtimes.get(name) or self.found(name)
        if runtime is None or to not in runtime.outgoing:
            return False
        runtime.land(to, now_ms)
        if not runtime.alive:
            self._tidy()
        return True


def tear(sends: Sends, share: float) -> None:
    """Of what was on its way to each log the first `share` stays."""
    for name in list(sends):
        queue = sends[name]
        for _ in range(len(queue) - round(share * len(queue))):
            queue.pop()
        if not queue:
            del sends[name]
