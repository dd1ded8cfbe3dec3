"""Why no schedule takes some branches of the deciding code, and which tests do.

A line that two reasons fit stands under one. "Nobody" means: no other test either. What a schedule comes to take, or a
line that changes, has to leave here: a run says so.
"""

from collections.abc import Mapping, Sequence

CORE = "services.router.core"
LOAD = "services.router.load"
SHADOWING = "services.router.shadowing"
REDUCER = "hal9.control.reducer"

REASONS: Mapping[str, Mapping[str, Sequence[str]]] = {
    # ------------------------------------------------------------------ what schedules are not about
    "requests of schedules have no trace: tests/unit/test_trace_headers.py": {
        "hal9.backend.beside": ["if request.traceparent is not None:"],
        "hal9.backend.core": [
            "if task.request.traceparent is not None and task.span is None:",
            "if response.span is not None:",
        ],
        "hal9.backend.responses": ["if request.traceparent is not None:"],
        CORE: [
            "if request.traceparent is not None or self._traced:",
            "def _trace(self, entry: Entry) -> None:",
            "if entry.span is not None:",
        ],
        "services.router.headers": [
            "if request.traceparent is not None:",
            "if request.passed_on:",
            "if entry.request.traceparent is None:",
        ],
    },
    "asked by shells, for people and metrics: tests/unit/test_migrator_core.py, tests/unit/test_migrator_stages.py": {
        "services.migrator.core": ["def backfilled(self) -> float:"],
        "services.migrator.stages": ["def waits(self, now_ms: float, *, backfilling: bool) -> HandOver | None:"],
    },
    "the watchdog asks, in a shell: nobody": {
        "hal9.backend.queues": ["def seal_awaited(self) -> int | None:"],
    },
    "the same handler runs everywhere, so nothing differs: tests/unit/test_router_comparison.py": {
        "services.router.comparison": [
            "if flat.value != hierarchical.value:",
            "if values:",
            'if state_diff and state_diff != b"[]":',
            "if states:",
        ],
        "services.router.outcomes": [
            (
                "if len(second.noise.keys() | named) > MAX_NOISE or "
                "(operation not in second.pairs and len(second.pairs) >= MAX_NOISE):"
            ),
        ],
        "services.router.reported": [
            "def _hidden(found: FieldDifference, rules: RuleBook, operation: str) -> FieldDifference:",
        ],
    },
    "the same handler runs everywhere, so no difference is long: nobody": {
        "hal9.backend.beside": ["while len(found) > wire.STATE_DIFF_BYTES:"],
    },
    "the same handler runs everywhere, so nothing is sampled: tests/unit/test_sampling.py": {
        "services.router.comparison": [
            "if not self._book.sampling.admits(entry.request.operation, kind, fields, now_ms):",
        ],
        "services.router.sampling": [
            "def add(self, of: Iterable[ClassKey]) -> None:",
            "if len(self._held) >= MAX_BUCKETS and not self._make_room(now_ms):",
            "def _make_room(self, now_ms: float) -> bool:",
            "if not self._rate:",
            "if any(spent):",
            "if found is None:",
        ],
    },
    "breakers are opened and closed by the world (`trip`): tests/unit/test_breaker.py": {
        "services.router.breaker": [
            "def transition(state: State, event: Event) -> State:",
            "def failing(self, policy: BreakerPolicy) -> bool:",
            "def window(self) -> Window:",
            "def observe(self, at_ms: int, arms: list[Arm]) -> None:",
            "def probed(self, *, ok: bool) -> None:",
            "def look(self, now_ms: float) -> Transition | None:",
            "def _event(self, now_ms: float) -> Event | None:",
            "def _move(self, event: Event, now_ms: float) -> Transition:",
        ],
        "services.router.protection": [
            "def look(self, outcomes: list[Outcome], now_ms: float) -> list[Transition]:",
            "def command(self, now_ms: float, actor: str) -> Rollback | None:",
        ],
    },
    "records that no service of ours writes: tests/unit/test_validity.py": {
        "hal9.control.route": ["if not rising or len(bounds) != len(spans.epochs):"],
        "hal9.log.validity": ["if marker.route.epoch <= self.epoch:"],
    },
    "records that no service of ours writes: tests/unit/test_backend_core.py": {
        CORE: ["if isinstance(entry, Extra):"],
    },
    "records that no service of ours writes: tests/unit/test_reducer.py": {
        REDUCER: ["if envelope.migration != state.migration:"],
    },
    "headers that are longer than a quarantine keeps: tests/unit/test_quarantine.py": {
        "hal9.log.quarantine": ["if left <= 0:"],
    },
    "records that no service of ours writes: nobody": {
        CORE: ["if is_mark(record.key):"],
        "hal9.backend.store": ["elif key in self.states:"],
        "services.router.succession": ["if name is not None:"],
        "services.migrator.core": ["if not until.isdecimal() or not done.isdecimal():"],
    },
    # ------------------------------------------------------------------ what cannot be
    "no runtime hands over an empty batch": {
        "hal9.backend.core": ["if not records:"],
        CORE: ["if not records:"],
        "services.migrator.core": ["if not records:"],
    },
    "tells the type checker what the callers see to": {
        REDUCER: ["case Pin() | Backfill():"],
        CORE: [
            "if entry.key is None:",
            "if entry.key is not None:",
            "if entry.known is not None:  # one of them may know what was forgotten: all of them go to one system",
            "elif entry.known is not None:",
        ],
        "services.router.handover": ["if entry.away is None and entry.key is not None:"],
        "services.router.reading": [
            "if known is None or asked is None:",
            "if entry.known is None or entry.key is None:",
            "if entry.key is None:",
        ],
        "services.router.twins": ["if entry.key is None or entry.known is None:"],
        "services.migrator.backfill": ["if self.until is None or self.passing is None:"],
    },
    "a runtime shows a core the folded control before anything else": {
        CORE: ["if self._control is not None:"],
    },
    "asked of seals of flat alone (`_peeked`)": {
        "services.migrator.core": ["if system != FLAT:"],
    },
    "the handler of the world takes one request at a time": {
        "hal9.backend.handler": ['if hasattr(handler, "batch"):'],
    },
    "`oblivion` forgets as much, at any moment": {
        "services.router.keybook": ["if len(self._keys) >= REMEMBERED:"],
    },
    "twins run at flat alone": {
        "services.router.comparison": ["if system == FLAT:"],
    },
    # ------------------------------------------------------------------ what schedules lack
    "schedules lack tables that are full: tests/unit/test_load.py": {
        "services.router.admission": ["def refuse_if_crowded(self, entry: Entry) -> None:"],
        CORE: [
            "def _table(self) -> Iterator[bytes | None]:",
            "if self.load.crowd is not None and request.rejected is None:",
        ],
        LOAD: [
            'def recount(self, loads: Iterable["Load"]) -> None:',
            "def admits(self, key: bytes | None) -> bool:",
            "if self._relief:",
            "if not tight and not late:",
            "if crowd is None or not crowd.fresh(now_ms):",
            "def refuses(self, key: bytes | None) -> str | None:",
            "if head != held or (not self._relief and self.takes(unacked)):",
            "elif not self._relief and now_ms - since_ms >= STALLED_MS:",
        ],
    },
    "schedules lack shadows that are held back, and probes: tests/unit/test_shadowing.py": {
        CORE: ["if self.shadowing.probes:"],
        SHADOWING: [
            "if self._tokens is not None:",
            "if system in self.closed_to:",
            "elif pressed:",
            "elif self._tokens is not None and not self._tokens.spend():",
            "def probed(self, system: System, *, ok: bool) -> None:",
            "if system in gate.probing and len(self.probes) < gate.wanted(system):",
            "def answered(self, system: System, response: Response) -> None:",
            "for position in [p for p, (_, until) in self.probes.items() if until <= now_ms]:",
        ],
    },
    "schedules lack twins of some keys, and too many: tests/unit/test_router_comparison.py": {
        "services.router.twins": ["if bucket >= bound:", "if len(self._pairs) >= MAX_TWINS:"],
    },
    "schedules lack twins that are too many: tests/unit/test_backend_twins.py": {
        "hal9.backend.twins": ["if len(self._waiting) + busy >= self._limit:"],
    },
    "schedules lack responses on the wrong partition: tests/unit/test_router_misplaced.py": {
        CORE: ["if response.partition != self.partition:", "if isinstance(send.token, Moved):"],
        "services.router.misplaced": [
            "def move(self, log: str, record: Record, partition: int) -> Send:",
            "if not self._under_way:",
        ],
    },
    "schedules lack people who decide on an old epoch, freezes, phases and journals: tests/unit/test_reducer.py": {
        REDUCER: [
            "if refusal is not None:",
            "case Journal():",
            "if record.expected_epoch != state.epoch:",
            "if state.rolled_back is not None:",
            "def _journal_refusal(state: ControlState, record: Journal) -> str | None:",
            "if record.scope and (record.phase is not None or _layer_of(record) is None):",
            "if record.expected_epoch > state.epoch:",
            "if later:",
            "case Freeze():",
            "case Backfill():",
            "if phase is None:",
            "for entry in state.history:",
            "if entry.phase is not None and PHASES.index(entry.phase) >= rank:",
        ],
    },
    "schedules lack flags that contradict each other: tests/unit/test_flags.py": {
        REDUCER: ["if wrong := problems(record.flags):"],
    },
    "schedules lack handlers that fail or answer what is too large: tests/unit/test_backend_core.py": {
        "hal9.backend.execution": [
            "if not well_formed(result):",
            "if len(answer) > limits.value_bytes:",
            "if error is None:",
            "if state is not None and not isinstance(state, dict):",
        ],
        "services.migrator.translation": ["if too_large(value, found.answer, self._config.state_bytes):"],
    },
    "schedules lack keys that are none: tests/unit/test_router_core.py": {
        "services.router.admission": ["if key is not None and key_error(key) is None:"],
    },
    "schedules lack reads elsewhere of an operation that is read-only no more: tests/unit/test_reads.py": {
        "hal9.backend.reads": ["if self.request.operation not in read_only:"],
    },
}
"""Per reason, the lines by module."""


def by_line() -> dict[str, dict[str, str]]:
    """Per module, the reason by the text of the line."""
    found: dict[str, dict[str, str]] = {}
    for why, modules in REASONS.items():
        for module, texts in modules.items():
            found.setdefault(module, {}).update(dict.fromkeys(texts, why))
    return found


UNREACHED = by_line()
