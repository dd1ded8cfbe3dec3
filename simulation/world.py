"""A seeded world of one partition: real cores over in-memory logs, and everything that can go wrong between them.

The schedules are those of the protocol's model (`World` there): every step of every instance, every append and every
acknowledgement is one move that chance picks, among crashes, zombies, late appends, repeated ids, deadlines, forced
seals, compaction and changes of the route. At the end all faults stop, everything runs until nothing moves, and the
invariants are checked. One seed is one schedule: the same always.
"""

from collections import defaultdict
from collections.abc import Callable

from hal9.control.reducer import ROUTE_SALT, salt
from hal9.errors import Hal9Error
from hal9.testing.memory import MemoryLogs, Name
from hal9.testing.runtime import MemoryRuntime
from schemas.base import FLAT
from simulation.cast import MIGRATION, SERVICES
from simulation.chance import Chance
from simulation.clients import Clients
from simulation.history import CHANGES, REPLICA, Violation, Witness
from simulation.instances import Instances
from simulation.invariants import Evidence, check
from simulation.rest import at_rest
from simulation.schedule import Schedule, draw

BEGINNING_MS = 1_700_000_000_000
PATIENCE_MS = (20, 200, 1000, 2000, 2000)
"""How far the clock goes on while nothing moves, before the world counts as at rest: past every timer but deadlines."""
ROUNDS = 4000
STATE_LOGS = (*CHANGES.values(), *REPLICA.values())


class World:
    """One seed's partition. `run` plays the schedule; a broken promise raises `Violation`."""

    def __init__(self, seed: int, *, kind: int | None = None, trace: bool = False) -> None:
        self.rng = Chance(seed)
        self.plan: Schedule = draw(self.rng, seed if kind is None else kind)
        self.logs = MemoryLogs()
        self.clients = Clients(self.rng, self.plan, self.logs)
        self.instances = Instances(self.rng, self.plan, self.logs, self.note)
        self.now_ms = BEGINNING_MS
        self.trace: list[str] | None = [] if trace else None
        self.salt = salt(MIGRATION, ROUTE_SALT)
        self.witness = Witness(self.salt)
        self._watched: dict[Name, int] = {}
        self._weights: dict[object, float] = {}

    def note(self, line: str) -> None:
        """Keep a line of the trace, if one is wanted."""
        if self.trace is not None:
            self.trace.append(f"{self.now_ms - BEGINNING_MS:6d} {line}")

    def _watch(self) -> None:
        """Judge and trace what was appended since the last look."""
        for log in self.logs:
            seen = self._watched.get(log.name, 0)
            for record in log.read(seen, log.end):
                kind = self.witness.saw(log.name[0], record)
                self.note(f"   {log.name[0]} {record}{'  VOID' if kind == 'void' else ''}")
            self._watched[log.name] = log.end

    def run(self) -> None:
        """Play the schedule, let everything come to rest, and check it."""
        try:
            for service in SERVICES:
                if service != "migrator":
                    self.instances.succeed(service, self.now_ms)
            self._play()
            self._end_of_faults()
            self._drain()
            self._rest()
        except Hal9Error:
            raise
        except Exception as error:
            raise Violation(f"{type(error).__name__}: {error}") from error

    # ------------------------------------------------------------------ the schedule
    def _play(self) -> None:
        rng, plan = self.rng, self.plan
        requests, epochs = plan.requests, plan.epochs
        for step in range(plan.steps):
            if step == plan.warm_up:
                self.instances.succeed("migrator", self.now_ms)
            if step % 25 == 0:
                self._weights = defaultdict(lambda: rng.choice((0.02, 0.2, 1, 1, 3)))
            self.now_ms += rng.choice((0, 0, 1, 2, 4))
            if requests and rng.hit(2 * plan.requests / plan.steps):
                requests -= 1
                self.clients.ask(self.now_ms)
            elif epochs and rng.hit(2 * plan.epochs / plan.steps):
                epochs -= 1
                self.clients.decide(self.now_ms)
            else:
                self._disturb()
                self._move()
            self._watch()
        for _ in range(requests):
            self.clients.ask(self.now_ms)

    def _disturb(self) -> None:
        rng, plan = self.rng, self.plan
        if rng.hit(plan.fault):
            self.instances.befall(self.now_ms)
        if rng.hit(plan.jump):
            self.now_ms += rng.choice((100, 1000, 3500))
            self.note("-- the clock leaps")
        if plan.lag is not None and rng.hit(0.05):
            self._compact(plan.lag)
        self.instances.wake()

    def _compact(self, lag: int) -> None:
        """One state log is compacted, as a broker does it."""
        log = self.logs[self.rng.choice(STATE_LOGS), 0]
        gone = log.compact(log.end - lag)
        if gone:
            self.note(f"   {log.name[0]} {gone} compacted away")

    def _move(self) -> None:
        """One instance acts (a few steps), or one send lands."""
        choices: list[tuple[Callable[[], object], float]] = []
        weights = self._weights
        for _, runtime in self.instances.all:
            if runtime.alive and not runtime.paused:
                choices.append((self._acting(runtime), weights[runtime.name]))
            choices += [(self._landing(runtime, name), 1.5 * weights[runtime.name, name]) for name in runtime.sending()]
        for name, queue in self.instances.washing():
            choices.append((lambda n=name, q=queue: self.instances.wash_up(n, q, self.now_ms), 0.2))  # type: ignore[misc]
        self.rng.choices([move for move, _ in choices], [weight for _, weight in choices])[0]()

    def _landing(self, runtime: MemoryRuntime, name: Name) -> Callable[[], None]:
        return lambda: runtime.land(name, self.now_ms)

    def _acting(self, runtime: MemoryRuntime) -> Callable[[], None]:
        def act() -> None:
            for _ in range(self.rng.choice((1, 1, 3, 8))):
                if not runtime.alive or not self.instances.step(runtime, self.now_ms, calm=False):
                    return

        return act

    # ------------------------------------------------------------------ the end
    def _end_of_faults(self) -> None:
        """No new faults; zombies run on until they notice; everything in flight lands, or was dropped."""
        self.clients.backfill(self.now_ms)
        for _, runtime in self.instances.all:
            runtime.paused = False
            if not runtime.alive and self.rng.hit(0.5):
                runtime.outgoing.clear()
        dead = self.plan.dead
        if dead is not None:
            for service, runtime in self.instances.alive():
                if service == dead:
                    self.instances.kill(runtime)
            self.note(f"-- {dead} is dead for ever")
            away = 100.0 if dead == FLAT else 0.0
            self.clients.fold()
            if self.clients.control.route.percentage != away:
                self.clients.decide(self.now_ms, away)
        for service in SERVICES:
            if service != dead and self.instances.holder(service) is None:
                self.instances.succeed(service, self.now_ms)

    def _drain(self) -> None:
        """Run on, fairly and without faults, until nothing moves however long one waits."""
        patience = 0
        for _ in range(ROUNDS):
            patience = 0 if self._round() else patience + 1
            self._watch()
            if patience > len(PATIENCE_MS):
                return
            self.now_ms += PATIENCE_MS[patience - 1] if patience else 1
            for _, runtime in self.instances.alive():
                self.instances.tick(runtime, self.now_ms, calm=True)
        raise Violation("never at rest")

    def _round(self) -> bool:
        rng, moved = self.rng, False
        order = list(self.instances.all)
        rng.shuffle(order)
        for _, runtime in order:
            for _ in range(rng.randint(1, 6)):
                if not runtime.alive or not self.instances.step(runtime, self.now_ms, calm=True):
                    break
                moved = True
            for name in runtime.sending():
                moved = True
                if rng.hit(0.7):
                    runtime.land(name, self.now_ms)
        for name, queue in self.instances.washing():
            moved = True
            self.instances.wash_up(name, queue, self.now_ms)
        return moved

    def _rest(self) -> None:
        self.clients.fold()
        compacted = self.plan.lag is not None
        if compacted and self.plan.dead is None:
            for name in STATE_LOGS:
                self.logs[name, 0].compact(self.logs[name, 0].end)
            self.note("   every state log is compacted to its end")
        evidence = Evidence(
            self.logs,
            0,
            self.salt,
            self.clients.control,
            self.witness.changes,
            self.clients.asked,
            compacted,
            self.instances.cold_until(),
        )
        check(evidence)
        at_rest({service: holder for service in SERVICES if (holder := self.instances.holder(service))}, evidence)
