"""A seeded world of a few partitions: real cores over in-memory logs, and everything that can go wrong between them.

Every step of every instance, every append and every acknowledgement is one action that chance picks, among crashes,
zombies, late appends, rebalances, repeated ids, deadlines, forced seals, compaction, nights and changes of the route.
Each record is judged as it lands. At the end all faults stop, everything runs until nothing moves, and what must hold
at rest is checked. One seed is one schedule: the same always; and the script of its actions, whole or in part, is a
schedule that needs no chance (`replay`).
"""

from collections.abc import Callable, Iterable, Mapping

from hal9.backend.handler import as_batch
from hal9.control.reducer import ROUTE_SALT, ControlState, salt
from hal9.keys import partition_of
from hal9.testing.memory import MemoryLogs, Name, Stored
from hal9.testing.runtime import MemoryRuntime
from schemas.base import FLAT, System
from simulation.applied import AppliedHandler
from simulation.cast import MIGRATION, SERVICES, protection
from simulation.chance import Chance
from simulation.clients import Clients
from simulation.compaction import LAG_MS, Compaction
from simulation.director import Action, Director, Value
from simulation.elsewhere import Elsewhere
from simulation.history import STATE_LOGS, Violation
from simulation.instances import Instances
from simulation.invariants import Evidence, check
from simulation.kinds import draw, kind_of
from simulation.outsider import Outsider
from simulation.projectors import LOGS, Projectors
from simulation.rest import at_rest
from simulation.schedule import Schedule
from simulation.telling import Judged, decree, told
from simulation.witness import Witness

BEGINNING_MS = 1_700_000_000_000
PATIENCE_MS = (20, 200, 1000, 2000, 2000)
"""How far the clock goes on while nothing moves, before the world counts as at rest: past every timer but deadlines."""
ROUNDS = 4000
Verb = Callable[..., bool]
COUNTED: Mapping[Value, str] = {
    "crash": "crashes",
    "cut": "zombies",
    "lose_producer": "producers_lost",
    "stop": "stops",
    "rebalance": "rebalances",
    "route": "routes",
    "rollback": "rollbacks",
    "pin": "pins",
    "flag": "flags",
    "rollback_layer": "layer_rollbacks",
    "oblivion": "oblivions",
    "repeat": "repeats",
    "arrive": "calls_late",
    "anew": "topics_made_anew",
}
"""Actions that count as something exercised."""


class World:
    """One seed's partitions. `run` plays the schedule, `replay` a script; a broken promise raises `Violation`."""

    def __init__(
        self, seed: int, *, kind: str | None = None, plan: Schedule | None = None, trace: bool = False
    ) -> None:
        self._rng = Chance(seed)
        self.plan: Schedule = plan or draw(self._rng, kind or kind_of(seed))
        self.now_ms = BEGINNING_MS
        self.trace: list[str] | None = [] if trace else None
        self.script: list[Action] = []
        route_salt = salt(MIGRATION, ROUTE_SALT)
        self.witness = Witness(route_salt, self.plan.partitions, ControlState(MIGRATION), self.plan.layers)
        self.outsider = Outsider(self.plan.partitions, self.witness.counting)
        self.logs = MemoryLogs(self._landed if trace else self._stored)
        self.compaction = Compaction(self.logs, self.plan.partitions, self.witness.passed.newest)
        self.clients = Clients(self.logs, self.witness, 100.0 if self.plan.shadow else 0.0)
        handler = as_batch(AppliedHandler(layers=self.plan.layers))
        elsewhere = Elsewhere(handler, self.plan.trouble) if self.plan.remote else None
        shared = protection(reads=self.plan.reads)
        self.instances = Instances(
            self.logs,
            self.plan.partitions,
            self.witness,
            self.note,
            self.plan.small,
            elsewhere,
            protection=shared,
        )
        self.projectors = Projectors(self.logs, self.witness)
        self._calm = self._following = False
        self._verbs: dict[str, Verb] = {
            **self._of_runtimes(),
            **self._of_clients(),
            **self._of_instances(),
            "resume": self.instances.resume,
            "trip": self.instances.trip,
            "projector": self.projectors.start,
            "end_projector": self.projectors.end,
            "project": self.projectors.step,
            "look": self.projectors.look,
            "arrive": self.projectors.arrive,
            "forget": self.projectors.forget,
            "land": self._land,
            "sink": self._sink,
            "clock": self._clock,
            "anew": self._make_anew,
            "compact": self._compact,
            "clean": self._clean,
            "night": self._night,
            "calm": self._calm_down,
        }

    # ------------------------------------------------------------------ the trace
    def note(self, line: str) -> None:
        """Keep a line of the trace, if one is wanted."""
        if self.trace is not None:
            self.trace.append(f"{self.now_ms - BEGINNING_MS:6d} {line}")

    def _landed(self, name: Name, record: Stored) -> None:
        line = f"      {name[0]}/{name[1]} {decree(record) if name[0] == 'control' else record}"
        try:
            kind = self._stored(name, record)
        except Violation:
            self.note(f"{line}  <- here")
            raise
        self.note(f"{line}{'  VOID' if kind == 'void' else ''}")

    def _stored(self, name: Name, record: Stored) -> str:
        kind = self.witness.landed(name, record)
        self.compaction.landed(name, record)
        self.outsider.landed(name, record)
        return kind

    def exercised(self) -> dict[str, int]:
        """What the schedule has reached, counted."""
        found = dict(self.witness.seen)
        for reason in [
            *self.instances.restarts,
            *(r for held in self.instances.runtimes.values() for r in held.restarts),
        ]:
            why = next(word for word in ("claimed", "void", "producer", "anew") if word in reason)
            found[f"restarts_{why}"] = found.get(f"restarts_{why}", 0) + 1
        found["takeovers"] = self.instances.takeovers
        return found

    # ------------------------------------------------------------------ playing
    def run(self) -> None:
        """Play the schedule by chance, let everything come to rest, and check it."""
        director = Director(self._rng, self.plan, self.clients, self.instances, self.projectors)
        with Judged():
            self._perform(director.begin())
            self._perform(director.play())
            self._perform(director.debris())
            self._perform([("calm",)])
            self._perform(director.drain())
            self._finish()

    def replay(self, script: Iterable[Action]) -> None:
        """Play a script, then the same: what is not possible in it is passed over."""
        with Judged():
            self._perform(script)
            self._finish()

    def _perform(self, actions: Iterable[Action]) -> None:
        for action in actions:
            self.script.append(action)
            if self.trace is None:
                self.act(action)
                continue
            at = len(self.trace)
            self.note(told(action))
            if not self.act(action) or action[0] == "clock":
                del self.trace[at:]

    def act(self, action: Action) -> bool:
        """Perform one action; False if it is not possible now."""
        done = self._verbs[str(action[0])](*action[1:])
        if done and action[0] in COUNTED:
            self.witness.count(COUNTED[action[0]])
        return done

    # ------------------------------------------------------------------ verbs of the instances
    def _of_runtimes(self) -> dict[str, Verb]:
        """Verbs whose first argument names who does it."""
        doing: dict[str, Callable[..., object]] = {
            "ack": lambda r, log, p, unknown: (
                (log, p) in r.acks() and r.deliver_ack((log, p), self.now_ms, unknown=unknown)
            ),
            "feed": lambda r, log, size: log in r.readable() and r.feed(log, size, self.now_ms),
            "answer": lambda r, size: r.answer(self.now_ms, size),
            "fold": lambda r, size: r.behind_control() and r.fold(size, self.now_ms),
            "tick": lambda r, believed: self.instances.tick(r, believed, self.now_ms),
            "notice": lambda r: r.outlived and r.notice(self.now_ms),
            "commit": lambda r: self.instances.commit(r, self.now_ms),
            "oblivion": lambda r: r.core.forget(),
        }

        def verb(do: Callable[..., object]) -> Verb:
            def perform(name: str, *arguments: Value) -> bool:
                runtime = self.instances.found(name)
                return runtime is not None and do(runtime, *arguments) is not False

            return perform

        return {name: verb(do) for name, do in doing.items()}

    def _of_clients(self) -> dict[str, Verb]:
        names = ("ask", "repeat", "route", "rollback", "rollback_layer", "pin", "flag", "backfill")
        return {name: self._with_time(getattr(self.clients, name)) for name in names}

    def _of_instances(self) -> dict[str, Verb]:
        names = ("crash", "cut", "lose_producer", "stop", "rebalance")
        return {"assign": self._assign, **{name: self._with_time(getattr(self.instances, name)) for name in names}}

    def _assign(self, service: str, partition: int, name: str) -> bool:
        self._following = self._following or service == "migrator"
        self.instances.assign(service, partition, name, self.now_ms)
        return True

    def _with_time(self, do: Callable[..., object]) -> Verb:
        return lambda *arguments: do(*arguments, self.now_ms) is not False

    def _land(self, name: str, log: str, partition: int) -> bool:
        return self.instances.land(name, (log, partition), self.now_ms)

    def _sink(self, name: str) -> bool:
        runtime = self.instances.runtimes.get(name)
        if runtime is None or runtime.alive:
            return False
        runtime.outgoing.clear()
        return True

    def _clock(self, ms: int) -> bool:
        self.now_ms += ms
        return True

    def _make_anew(self, forgotten: bool) -> bool:
        """Somebody deletes the topic `requests` and makes it again; `forgotten`: what was committed of it is gone."""
        self.logs.make_anew("requests")
        if forgotten:
            self.instances.forget("router", "requests")
        self.witness.made_anew()
        self.outsider.made_anew()
        return True

    def _compact(self, log: str, partition: int, lag: int) -> bool:
        """One state log is compacted, more cruelly than a broker does it."""
        read = min(self.instances.read_by_all(log, partition), self.projectors.read_by_all(log, partition))
        return self._gone(
            log, partition, self.compaction.take(log, partition, self.logs[log, partition].end - lag, read, self.now_ms)
        )

    def _clean(self, log: str, partition: int) -> bool:
        """One state log is compacted as a broker does it."""
        return self._gone(log, partition, self.compaction.clean(log, partition, self.now_ms))

    def _gone(self, log: str, partition: int, gone: list[int]) -> bool:
        if gone:
            self.witness.count("compacted", len(gone))
            self.note(f"      {log}/{partition} {gone} compacted away")
        return bool(gone)

    # ------------------------------------------------------------------ long times
    def _night(self, ms: int) -> bool:
        """Time leaps, in steps of less than the compaction lag: in between everybody serves, and comes to rest.

        The sleeping sleep on. What they or the dead had on its way to `requests` never lands: a request is no use a
        minute later.
        """
        for runtime in self.instances.runtimes.values():
            if not runtime.alive or runtime.paused:
                for to in [to for to in runtime.outgoing if to[0] == "requests"]:
                    del runtime.outgoing[to]
        self.projectors.keep()
        while ms > 0:
            self._staff()
            self._settle()
            step = min(ms, LAG_MS // 2)
            self.now_ms, ms = self.now_ms + step, ms - step
        self._staff()
        self._settle()
        return True

    def _staff(self) -> None:
        """Every partition of every service has somebody."""
        for partition in range(self.plan.partitions):
            for service in SERVICES:
                begun = service != "migrator" or self._following
                if begun and self.instances.holder((service, partition)) is None:
                    self.instances.assign(service, partition, f"{service}-1", self.now_ms)
            if self.plan.redis and not self.projectors.staffed(partition):
                self.projectors.start("projector-1", partition)

    def _settle(self) -> None:
        """Everybody who is awake goes on until nothing moves."""
        for _ in range(ROUNDS):
            for runtime in list(self.instances.runtimes.values()):
                if runtime.alive and not runtime.paused:
                    self.instances.tick(runtime, None, self.now_ms)
            if not self._round():
                break
            self.now_ms += 1
        for runtime in list(self.instances.runtimes.values()):
            if runtime.alive and not runtime.paused:
                self.instances.commit(runtime, self.now_ms)

    # ------------------------------------------------------------------ the end
    def _calm_down(self) -> bool:
        """No new faults: the sleeping wake, the dead have successors (but one system that is dead for ever)."""
        self._calm = True
        self.instances.trip("")
        self.clients.backfill(self.now_ms)
        for instance in self.instances.named.values():
            self.instances.pause(instance, paused=False)
        if self.plan.dead is not None:
            self._bury(self.plan.dead)
        for partition in range(self.plan.partitions):
            for service in SERVICES:
                if service != self.plan.dead and self.instances.holder((service, partition)) is None:
                    self.instances.assign(service, partition, f"{service}-1", self.now_ms)
            if self.plan.redis and ("projector-1", LOGS[0], partition) not in self.projectors.readers:
                self.projectors.start("projector-1", partition)
        return True

    def _bury(self, dead: System) -> None:
        """A system never comes back: all of it goes to the other one."""
        for instance in list(self.instances.named.values()):
            if instance.service == dead and instance.alive:
                self.instances.kill(instance, 0.5)
        away = 100.0 if dead == FLAT else 0.0
        if self.witness.control.route.percentage != away:
            self.clients.route(away, self.now_ms)

    def _finish(self) -> None:
        """Run on, fairly and without faults, until nothing moves however long one waits; then check."""
        self.note("-- everything goes on without faults")
        if not self._calm:
            self._calm_down()
        self._come_to_rest()
        self._rest()
        for key in list(self.witness.chains):
            self.clients.ask(f"last/{key.decode()}", key, self._home(key), "read", None, False, False, self.now_ms)
        self._come_to_rest()
        self._judge()

    def _come_to_rest(self) -> None:
        patience = 0
        for _ in range(ROUNDS):
            patience = 0 if self._round() else patience + 1
            if patience > len(PATIENCE_MS):
                return
            self.now_ms += PATIENCE_MS[patience - 1] if patience else 1
            for runtime in list(self.instances.runtimes.values()):
                if runtime.alive:
                    self.instances.tick(runtime, None, self.now_ms)
        raise Violation("never at rest")

    def _round(self) -> bool:
        """Everybody takes in what there is, in a fixed order."""
        moved = False
        for name, runtime in list(self.instances.runtimes.items()):
            if runtime.paused and runtime.alive:
                continue
            while runtime.alive and self._step(runtime):
                moved = True
            for to in runtime.sending():
                moved = self.instances.land(name, to, self.now_ms) or moved
        for name, wreck in self.instances.wrecks.items():
            for to in list(wreck.outgoing):
                moved = self.instances.land(name, to, self.now_ms) or moved
        while self.projectors.arrive(0):
            moved = True
        for name, log, partition in list(self.projectors.readers):
            self.projectors.look(name, log, partition)
            while self.projectors.step(name, log, partition, 50, "done"):
                moved = True
        return moved

    def _step(self, runtime: MemoryRuntime) -> bool:
        for name in runtime.acks():
            runtime.deliver_ack(name, self.now_ms)
            return True
        if runtime.outlived:
            runtime.notice(self.now_ms)
            return True
        if runtime.asks:
            return runtime.answer(self.now_ms)
        if runtime.behind_control():
            runtime.fold(50, self.now_ms)
            return True
        for log in runtime.readable():
            runtime.feed(log, 50, self.now_ms)
            return True
        return False

    def _rest(self) -> None:
        for log in STATE_LOGS if self.plan.dead is None else ():
            for partition in range(self.plan.partitions):
                if self.plan.lag is not None:
                    self._compact(log, partition, 0)
                self._clean(log, partition)
        self._judge()

    def _judge(self) -> None:
        """What must hold whenever nothing moves any more."""
        forgetful = self.plan.lag is not None
        evidence = Evidence(self.logs, self.witness, forgetful, self.instances.cold_until, self._home)
        check(evidence)
        at_rest(self.instances, evidence)
        self.projectors.at_rest(self._home)
        self.outsider.check()

    def _home(self, key: bytes) -> int:
        return partition_of(key, self.plan.partitions)
