"""What happens next, by chance: picks the actions of a schedule from what is possible now.

It performs nothing itself: each action is a tuple of a verb and plain values, so that a script of them can be kept,
shortened and played again without any chance (`simulation.shrinking`).
"""

from collections import defaultdict
from collections.abc import Iterator

from hal9.keys import partition_of
from hal9.testing.runtime import MemoryRuntime
from schemas.base import SYSTEMS
from simulation.applied import LAYERS, MUTATING, ODD
from simulation.cast import SERVICES
from simulation.chance import Chance
from simulation.clients import Clients
from simulation.history import STATE_LOGS, Violation
from simulation.instances import Instances
from simulation.projectors import Projectors
from simulation.schedule import Decision, Schedule

ROUNDS = 1_000
"""Of the drain: forty are many."""
ALARM = 12
"""Steps after something befell a service in which the next thing may follow: a third and a fourth successor."""
NIGHTS_MS = (61_000, 80_000, 130_000, 320_000)
"""Past deadlines, the answers that are kept, the compaction lag, the retention of deletions."""
HOLDS = ("", *LAYERS, ",".join(LAYERS))
Value = str | bytes | int | float | None
Action = tuple[Value, ...]
"""The verb, which is the name of a method of `World`, and its arguments."""


class Director:
    """One seed's chance."""

    def __init__(
        self, rng: Chance, plan: Schedule, clients: Clients, instances: Instances, projectors: Projectors
    ) -> None:
        self._rng, self._plan, self._clients, self._instances = rng, plan, clients, instances
        self._projectors = projectors
        self._weights: dict[object, float] = {}
        self._requests, self._epochs, self._asked = plan.requests, plan.epochs, 0
        self._struck, self._alarm = "", 0

    # ------------------------------------------------------------------ the schedule
    def play(self) -> Iterator[Action]:
        """The actions of the schedule, each to be performed before the next is asked for."""
        rng, plan = self._rng, self._plan
        for step in range(plan.steps):
            if step == plan.warm_up:
                yield from self._start("migrator")
            if step % 25 == 0:
                self._weights = defaultdict(lambda: rng.choice((0.02, 0.2, 1, 1, 3)))
            later = rng.choice((0, 0, 1, 2, 4))
            if later:
                yield ("clock", later)
            if self._requests and rng.hit(2 * plan.requests / plan.steps):
                self._requests -= 1
                yield self._ask()
            elif self._epochs and rng.hit(2 * plan.epochs / plan.steps):
                self._epochs -= 1
                yield self._decide()
            else:
                yield from self._disturb()
                yield from self._move()
        for _ in range(self._requests):
            yield self._ask()

    def begin(self) -> Iterator[Action]:
        """Everything but the migrator is started."""
        for service in SERVICES:
            if service != "migrator":
                yield from self._start(service)
        for partition in range(self._plan.partitions if self._plan.redis else 0):
            yield ("projector", "projector-1", partition)

    def _start(self, service: str) -> Iterator[Action]:
        members = [f"{service}-{number + 1}" for number in range(self._plan.members)]
        for partition in range(self._plan.partitions):
            yield ("assign", service, partition, members[partition % len(members)])

    # ------------------------------------------------------------------ people
    def _ask(self) -> Action:
        rng, plan, sent = self._rng, self._plan, self._clients.sent
        if sent and rng.hit(0.12):
            asked = rng.choice(sent[-4:])
            return ("repeat", asked.label, self._partition(asked.key))
        label, key = f"i{self._asked}", rng.choice(plan.keys)
        self._asked += 1
        operation = ODD if plan.odd and rng.hit(plan.odd) else rng.choice((*MUTATING, "read", "read"))
        if plan.deletions and rng.hit(plan.deletions):
            operation = "del"
        short = rng.randint(5, 400) if rng.hit(plan.short) else None
        bad, anonymous = rng.hit(plan.bad), rng.hit(plan.anonymous)
        return ("ask", label, key, self._partition(key), operation, short, bad, anonymous)

    def _partition(self, key: bytes) -> int:
        if self._plan.partitions > 1 and self._rng.hit(self._plan.misplaced):
            return self._rng.randrange(self._plan.partitions)
        return partition_of(key, self._plan.partitions)

    def _decide(self) -> Action:
        rng, plan = self._rng, self._plan
        if plan.decisions:
            return self._decision(rng.choice(plan.decisions))
        wanted = self._percentage()
        if plan.pins and rng.hit(0.3):
            return self._decision("pin")
        if plan.reads and rng.hit(0.5):
            return self._decision("reads")
        if plan.layers and rng.hit(0.7):
            return self._decision("layer")
        if plan.scopes and rng.hit(0.5):
            return self._decision("scope")
        return ("rollback",) if wanted == 0.0 and rng.hit(0.5) else ("route", wanted)

    def _decision(self, of: Decision) -> Action:
        rng, plan = self._rng, self._plan
        if of == "pin":
            return ("pin", rng.choice(plan.keys))
        if of == "reads":
            return ("flag", f"reads.read={rng.choice(('', *SYSTEMS, *SYSTEMS))}")
        if of == "scope":
            return ("flag", self._scope())
        if of == "layer":
            # Layers matter where hierarchical owns keys.
            return self._layer() if self._clients.percentage else ("route", 100.0)
        return ("route", self._percentage())

    def _percentage(self) -> float:
        """Another one than now."""
        return self._rng.choice([p for p in (0.0, 50.0, 100.0) if p != self._clients.percentage])

    def _layer(self) -> Action:
        """Layers are held at flat, or let go; one of them is rolled back."""
        rng = self._rng
        if rng.hit(0.25):
            return ("rollback_layer", rng.choice(LAYERS))
        held = self._clients.held
        wanted = rng.choice([names for names in HOLDS if names != held])
        return ("flag", f"held={wanted}")

    def _scope(self) -> str:
        """A flag that moves keys otherwise than by percentage."""
        rng = self._rng
        if rng.hit(0.2):
            return f"enabled={rng.choice(('on', 'off'))}"
        key = rng.choice(self._plan.keys).decode()
        name = f"pins.{key}" if rng.hit(0.4) else f"prefixes.{key[: rng.randint(1, len(key))]}"
        return f"{name}={rng.choice(('', *SYSTEMS))}"

    # ------------------------------------------------------------------ what befalls
    def _disturb(self) -> Iterator[Action]:
        rng, plan = self._rng, self._plan
        yield from self._strike()
        if plan.rebalance and rng.hit(2 * plan.rebalance if self._instances.late() else plan.rebalance):
            yield from self._rebalance()
        if plan.anew and rng.hit(plan.anew):
            yield from self._renew()
        if plan.jump and rng.hit(plan.jump):
            yield ("clock", rng.choice((100, 1000, 3500)))
        if plan.reads and rng.hit(0.02):
            yield ("trip", rng.choice(("", *SYSTEMS, " ".join(SYSTEMS))))
        if plan.lag is not None and rng.hit(0.05):
            yield ("compact", rng.choice(STATE_LOGS), rng.randrange(plan.partitions), plan.lag)
        if plan.nights:
            yield from self._sleep()
        if plan.redis:
            yield from self._project()
        yield from self._pass()

    def _strike(self) -> Iterator[Action]:
        """Something befalls a service; for a while the next thing may befall the same one."""
        rng, plan = self._rng, self._plan
        if rng.hit(plan.fault):
            yield from self._befall(rng.choice(plan.victims))
        elif plan.cascade and self._alarm:
            self._alarm -= 1
            if rng.hit(plan.cascade):
                yield from self._befall(self._struck)

    def _sleep(self) -> Iterator[Action]:
        """Time leaps; a broker cleans a log. A morning is when logs are compacted, and services are started anew."""
        rng, plan = self._rng, self._plan
        if rng.hit(plan.nights):
            yield ("night", rng.choice(NIGHTS_MS))
            for log in STATE_LOGS:
                if rng.hit(0.5):
                    yield ("clean", log, rng.randrange(plan.partitions))
                if plan.lag is not None and rng.hit(0.5):
                    yield ("compact", log, rng.randrange(plan.partitions), plan.lag)
            if plan.fault and rng.hit(0.5):
                yield from self._befall(rng.choice(plan.victims))
        if rng.hit(0.1):
            yield ("clean", rng.choice(STATE_LOGS), rng.randrange(self._plan.partitions))

    def _renew(self) -> Iterator[Action]:
        """The requests' topic is made anew, perhaps while a router sleeps on what it has just read; people go on."""
        rng, routers = self._rng, self._instances.joined("router")
        if routers and rng.hit(0.4):
            router = rng.choice(routers)
            yield from self._some(2)
            for runtime in list(router.runtimes):
                yield ("feed", runtime.name, "requests", 5)
            yield ("cut", router.name, True, self._successor("router", router.name))
        yield ("anew", rng.hit(0.5))
        for asked in rng.choice(([], self._clients.sent[-4:])):
            yield ("repeat", asked.label, self._partition(asked.key))
        yield from self._some(2)

    def _some(self, most: int) -> Iterator[Action]:
        """Some of the requests that are left, at once."""
        for _ in range(min(most, self._requests)):
            self._requests -= 1
            yield self._ask()

    def _pass(self) -> Iterator[Action]:
        """A router forgets the layers of its keys; a paused instance goes on."""
        rng = self._rng
        if self._plan.oblivion and rng.hit(self._plan.oblivion):
            routers = [name for name in self._instances.runtimes if name.startswith("router")]
            if routers:
                yield ("oblivion", rng.choice(routers))
        for name in [name for name, instance in self._instances.named.items() if instance.paused]:
            if rng.hit(0.02):
                yield ("resume", name)

    def _befall(self, service: str) -> Iterator[Action]:
        """A crash, a zombie, a lost producer or a clean stop of one instance."""
        rng = self._rng
        self._struck, self._alarm = service, ALARM
        there = self._instances.joined(service)
        if not there:
            return
        instance = rng.choice(there)
        successor = self._successor(service, instance.name)
        fate = rng.choices(("crash", "zombie", "producer", "stop"), self._plan.fates)[0]
        if fate == "crash":
            yield ("crash", instance.name, rng.random(), successor)
        elif fate == "zombie":
            yield ("cut", instance.name, rng.hit(0.7), successor)
        elif fate == "producer":
            yield ("lose_producer", instance.name, rng.random())
        elif all(runtime.core.idle() for runtime in instance.runtimes if runtime.alive) or rng.hit(0.3):
            yield ("stop", instance.name, successor)

    def _successor(self, service: str, gone: str) -> str:
        others = [i.name for i in self._instances.joined(service) if i.name != gone]
        return self._rng.choice([*others, self._instances.fresh_name(service)])

    def _rebalance(self) -> Iterator[Action]:
        rng = self._rng
        late = self._instances.late()
        if late and rng.hit(0.5):
            yield ("rebalance", *rng.choice(late), rng.choice(("drained", "dropped", "unaware")))
            return
        service, partition = rng.choice(SERVICES), rng.randrange(self._plan.partitions)
        runtime = self._instances.holder((service, partition))
        if runtime is not None:
            to = self._successor(service, runtime.name.partition("/")[0])
            yield ("rebalance", service, partition, to, rng.choice(("drained", "dropped", "unaware", "unaware")))

    # ------------------------------------------------------------------ Redis
    def _project(self) -> Iterator[Action]:
        """The projectors' share of a step: they act, are replaced; calls arrive late, Redis forgets."""
        rng, plan, projectors = self._rng, self._plan, self._projectors
        busy = [place for place, reader in projectors.readers.items() if projectors.busy(reader)]
        if busy and rng.hit(0.5):
            fate = rng.choice(("lost", "late", "never")) if rng.hit(plan.flaky) else "done"
            yield ("project", *rng.choice(busy), rng.choice((1, 2, 5, 50)), fate)
        if projectors.readers and rng.hit(0.05):
            yield ("look", *rng.choice(list(projectors.readers)))
        if projectors.late and rng.hit(0.05):
            yield ("arrive", rng.randrange(len(projectors.late)))
        if plan.amnesia and rng.hit(plan.amnesia):
            yield ("forget", rng.randint(1, 4))
        if rng.hit(plan.fault):
            name = rng.choice(("projector-1", "projector-2"))
            if rng.hit(0.3):
                yield ("end_projector", name)
            else:
                yield ("projector", name, rng.randrange(plan.partitions))

    # ------------------------------------------------------------------ what they do
    def _move(self) -> Iterator[Action]:
        """One instance acts (a few steps), or one send lands."""
        weights, slow = self._weights, self._plan.slow
        actors: list[tuple[MemoryRuntime | None, Action]] = []
        weighed: list[float] = []
        for name, runtime in self._instances.runtimes.items():
            if runtime.alive and not runtime.paused:
                actors.append((runtime, ()))
                weighed.append(weights[name])
            haste = 0.05 if slow is not None and name.startswith(slow) else 1.5
            for to in runtime.outgoing:
                actors.append((None, ("land", name, *to)))
                weighed.append(haste * weights[name, to])
        for name, wreck in self._instances.wrecks.items():
            for to in wreck.outgoing:
                actors.append((None, ("land", name, *to)))
                weighed.append(0.2)
        if not actors:
            return
        runtime_, landing = self._rng.choices(actors, weighed)[0]
        if runtime_ is None:
            yield landing
        else:
            yield from self._acts(runtime_)

    def _acts(self, runtime: MemoryRuntime) -> Iterator[Action]:
        rng = self._rng
        for _ in range(rng.choice((1, 1, 3, 8))):
            if not runtime.alive:
                return
            if rng.hit(0.1):
                yield ("commit", runtime.name)
            if rng.hit(0.2):
                believed = rng.choice(SYSTEMS) if rng.hit(self._plan.force) else None
                yield ("tick", runtime.name, believed)
                continue
            action = self._step(runtime)
            if action is None:
                return
            yield action

    def _step(self, runtime: MemoryRuntime) -> Action | None:
        """What there is for it to take in; time and commits apart."""
        rng, name = self._rng, runtime.name
        size = rng.choice((1, 1, 2, 5, 50))
        found: list[Action] = [("ack", name, *log, rng.hit(0.02)) for log in runtime.acks()]
        found += [("feed", name, log, size) for log in runtime.readable()]
        if runtime.asks:
            found.append(("answer", name, size))
        if runtime.outlived and rng.hit(0.3):
            found.append(("notice", name))
        if runtime.behind_control():
            found.append(("fold", name, size))
        return rng.choice(found) if found else None

    # ------------------------------------------------------------------ the end
    def debris(self) -> Iterator[Action]:
        """Of what the dead had sent some never arrives."""
        for name, runtime in list(self._instances.runtimes.items()):
            if not runtime.alive and self._rng.hit(0.5):
                yield ("sink", name)

    def drain(self) -> Iterator[Action]:
        """No new faults; everybody goes on, in any order, until nothing moves."""
        rng = self._rng
        for _ in range(ROUNDS):
            moved = False
            order = list(self._instances.runtimes.items())
            rng.shuffle(order)
            for name, runtime in order:
                for _ in range(rng.randint(1, 6)):
                    action = self._step(runtime) if runtime.alive else None
                    if action is None:
                        break
                    moved = True
                    yield action
                for to in runtime.sending():
                    moved = True
                    if to in runtime.outgoing and rng.hit(0.7):
                        yield ("land", name, *to)
            yield ("clock", 1)
            if not moved:
                return
        raise Violation("never at rest")
