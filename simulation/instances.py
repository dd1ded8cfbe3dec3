"""The running and the late instances of the services of one partition, and what befalls them."""

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from hal9.control.reducer import ControlState
from hal9.log.effects import PartitionCore, Send
from hal9.testing.memory import MemoryGroup, MemoryLogs, Name
from hal9.testing.runtime import MemoryRuntime
from schemas.base import SYSTEMS
from services.migrator.core import MigratorCore
from simulation.cast import MIGRATION, SERVICES, cast
from simulation.chance import Chance
from simulation.schedule import Schedule

Sends = dict[Name, deque[tuple[Send, int]]]
Move = Callable[[], object]


@dataclass(slots=True)
class Instances:
    """Several instances of a service may run: the group gives the partition to the newest, the others are zombies."""

    rng: Chance
    plan: Schedule
    logs: MemoryLogs
    note: Callable[[str], None]
    all: list[tuple[str, MemoryRuntime]] = field(default_factory=list)
    debris: list[Sends] = field(default_factory=list)
    """Sends of lost producers: they may land at any time."""
    _groups: dict[str, MemoryGroup] = field(default_factory=lambda: {service: MemoryGroup() for service in SERVICES})
    _makers: dict[str, Callable[[str], PartitionCore]] = field(default_factory=cast)

    def alive(self) -> Iterator[tuple[str, MemoryRuntime]]:
        """Those that run (or are paused)."""
        return ((service, runtime) for service, runtime in list(self.all) if runtime.alive)

    def holder(self, service: str) -> MemoryRuntime | None:
        """The living instance that the group gives the partition to."""
        return next((r for name, r in self.alive() if name == service and r.current), None)

    def cold_until(self) -> int:
        """From which offset of flat's change log every change was followed."""
        cores = (runtime.core for service, runtime in self.all if service == "migrator")
        return max((core.backfill.until or 0 for core in cores if isinstance(core, MigratorCore)), default=0)

    def succeed(self, service: str, now_ms: int) -> None:
        """A new instance takes the partition over; what ran before it is a zombie from now on."""
        group = self._groups[service]
        runtime = MemoryRuntime(
            f"{service}-{group.generation + 1}",
            self.logs,
            self._makers[service],
            group,
            ControlState(MIGRATION),
            trace=self.note,
        )
        self.all.append((service, runtime))
        runtime.open(now_ms)

    # ------------------------------------------------------------------ what an instance may do next
    def moves(self, runtime: MemoryRuntime, now_ms: int) -> list[Move]:
        """What is there for this instance to take in; time and commits apart."""
        rng = self.rng
        size = rng.choice((1, 1, 2, 5, 50))

        def ack(name: Name) -> Move:
            return lambda: runtime.deliver_ack(name, now_ms, unknown=rng.hit(0.02))

        def feed(log: str) -> Move:
            return lambda: runtime.feed(log, size, now_ms)

        found = [ack(name) for name in runtime.acks()] + [feed(log) for log in runtime.readable()]
        if runtime.asks:
            found.append(lambda: runtime.answer(now_ms, size))
        if runtime.behind_control():
            found.append(lambda: runtime.fold(size, now_ms))
        return found

    def step(self, runtime: MemoryRuntime, now_ms: int, *, calm: bool) -> bool:
        """One move of one instance; False if there is none. `calm`: time and commits are left to the caller."""
        if not calm and self.rng.hit(0.1):
            runtime.commit()
        if not calm and self.rng.hit(0.2):
            self.tick(runtime, now_ms)
            return True
        moves = self.moves(runtime, now_ms)
        if moves:
            self.rng.choice(moves)()
        return bool(moves)

    def tick(self, runtime: MemoryRuntime, now_ms: int, *, calm: bool = False) -> None:
        """Time passes for one instance; the migrator learns who is dead, or (unless `calm`) believes so wrongly."""
        core = runtime.core
        if isinstance(core, MigratorCore):
            dead = {system for system in SYSTEMS if not any(name == system for name, _ in self.alive())}
            if not calm and self.rng.hit(self.plan.force):
                dead.add(self.rng.choice(SYSTEMS))
            core.dead = frozenset(dead)
        runtime.tick(now_ms)

    # ------------------------------------------------------------------ what befalls it
    def befall(self, now_ms: int) -> None:
        """A crash, a zombie, a lost producer or a clean stop, of the present instance of one service."""
        service = self.rng.choice(SERVICES)
        runtime = self.holder(service)
        if runtime is None:
            return
        fate = self.rng.choices(("crash", "zombie", "producer", "stop"), (35, 45, 10, 10))[0]
        if fate == "crash":
            self.note(f"-- {runtime.name} crashes")
            self.kill(runtime)
            self.succeed(service, now_ms)
        elif fate == "zombie":
            runtime.paused = self.rng.hit(0.7)
            self.note(f"-- {runtime.name} {'pauses' if runtime.paused else 'is cut off but runs'}; a successor starts")
            self.succeed(service, now_ms)
        elif fate == "producer":
            self.note(f"-- {runtime.name} loses its producer")
            self.debris.append(self._torn(runtime.lose_producer(now_ms)))
        elif runtime.core.idle():
            self.note(f"-- {runtime.name} stops cleanly")
            runtime.commit()
            runtime.crash()
            self.succeed(service, now_ms)

    def kill(self, runtime: MemoryRuntime) -> None:
        """The process is gone; of what it had sent a part may still land."""
        runtime.crash()
        self._torn(runtime.outgoing)

    def _torn(self, sends: Sends) -> Sends:
        for queue in sends.values():
            for _ in range(self.rng.randint(0, len(queue))):
                queue.pop()
        return sends

    def wake(self) -> None:
        """Now and then a paused instance goes on where it was."""
        for _, runtime in self.alive():
            if runtime.paused and self.rng.hit(0.02):
                runtime.paused = False
                self.note(f"-- {runtime.name} resumes")

    def washing(self) -> list[tuple[Name, deque[tuple[Send, int]]]]:
        """Where something of a lost producer is still to land."""
        return [(name, queue) for sends in self.debris for name, queue in sends.items() if queue]

    def wash_up(self, name: Name, queue: deque[tuple[Send, int]], now_ms: int) -> None:
        """One send of a lost producer lands."""
        send, _ = queue.popleft()
        headers = [(key, bytes(value)) for key, value in send.headers]
        self.logs[name].append(send.key, send.value, headers, now_ms)
