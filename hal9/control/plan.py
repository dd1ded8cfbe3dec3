"""The plan of a migration: phases, steps, gates. Strict: a wrong name or value is refused with the nearest right one.

All six phases can be written down and checked; this version walks `EXECUTABLE` ones and refuses the rest. Pure.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Annotated, Any

import msgspec
import yaml
from msgspec import Meta, Struct
from msgspec.structs import fields

from hal9.errors import ConfigError
from schemas.base import Percentage, Tree
from schemas.control import PHASES, Phase

EXECUTABLE: tuple[Phase, ...] = ("shadow", "canary")
MAX_BYTES = 64 * 1024
MAX_WINDOW_S = 3600
"""How far back evidence is kept."""

Rate = Annotated[float, Meta(ge=0, le=1)]
Number = Annotated[int, Meta(ge=0)]


class Gates(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What must hold before a step is left. Evidence: the newest `window_s` seconds since the step was settled."""

    min_requests: Annotated[Number, Meta(description="answered by the arm in question; fewer say nothing")] = 300
    max_error_rate: Annotated[Rate, Meta(description="of that arm; timeouts are errors")] = 0.05
    min_comparisons: Annotated[Number, Meta(description="of primary and shadow; fewer say nothing")] = 3000
    max_divergence_rate: Annotated[Rate, Meta(description="of the comparisons; one side failing is one")] = 0.001
    max_quarantined: Annotated[Number, Meta(description="records since the start of the walk")] = 0
    soak_s: Annotated[float, Meta(ge=0, le=30 * 86_400, description="time to spend, all gates ok at its end")] = 300.0
    window_s: Annotated[int, Meta(ge=1, le=MAX_WINDOW_S)] = 600


class PhasePlan(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One phase: its steps in percent of the keys, what is shadowed, and the gates of every step."""

    phase: Phase
    steps: list[Percentage] = []
    shadow: Annotated[Percentage | None, Meta(description="percent of the keys; absent: as before")] = None
    gates: Gates = Gates()


class Plan(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The whole plan."""

    name: Annotated[str, Meta(min_length=1, max_length=64)]
    description: Annotated[str, Meta(max_length=1024)] = ""
    phases: Annotated[list[PhasePlan], Meta(min_length=1, max_length=len(PHASES))]

    def tree(self) -> Tree:
        """As a `start` record carries it."""
        built: Tree = msgspec.to_builtins(self)
        return built

    def walk(self) -> list["Step"]:
        """The steps in order, every phase's from 0."""
        return [
            Step(part.phase, index, percentage, part.shadow, part.gates)
            for part in self.phases
            for index, percentage in enumerate(part.steps or [0.0])
        ]

    def refuse_unsupported(self) -> None:
        """Raise ConfigError if a phase cannot be walked by this version."""
        beyond = [part.phase for part in self.phases if part.phase not in EXECUTABLE]
        if beyond:
            raise ConfigError(
                f"plan {self.name!r}: this version walks the phases {', '.join(EXECUTABLE)}"
                f" and not {', '.join(beyond)}: leave them out"
            )


@dataclass(frozen=True, slots=True)
class Step:
    """One step of a walk."""

    phase: Phase
    index: int
    percentage: float
    shadow: float | None
    gates: Gates

    def __str__(self) -> str:
        return f"{self.phase} step {self.index} ({self.percentage:g} %)"


def parse(text: str, source: str) -> Plan:
    """Read a plan from YAML; `source` is what errors call it. Raises ConfigError."""
    if len(text.encode()) > MAX_BYTES:
        raise ConfigError(f"plan {source}: more than {MAX_BYTES} bytes")
    try:
        tree = yaml.load(text, Loader=_StrictLoader)  # noqa: S506  a SafeLoader
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ConfigError(f"plan {source}: no YAML: {' '.join(str(error).split())}") from error
    return from_tree(tree, source)


def from_tree(tree: object, source: str) -> Plan:
    """Read a plan from a tree of maps and lists, as a `start` record carries it. Raises ConfigError."""
    _refuse_unknown(tree, Plan, source, "")
    try:
        plan = msgspec.convert(tree, Plan)
    except msgspec.ValidationError as error:
        raise ConfigError(f"plan {source}: {_with_value(str(error), tree)}") from error
    for number, part in enumerate(plan.phases):
        _check_phase(part, f"plan {source}: phases[{number}]")
    names = [part.phase for part in plan.phases]
    if names != sorted(set(names), key=PHASES.index):
        raise ConfigError(
            f"plan {source}: phases: {', '.join(names)}: each at most once, in the order {', '.join(PHASES)}"
        )
    return plan


def _check_phase(part: PhasePlan, where: str) -> None:
    if part.phase == "shadow":
        if part.steps:
            raise ConfigError(f"{where}.steps = {part.steps}: phase shadow has none, no key moves in it")
        if not part.shadow:
            raise ConfigError(f"{where}.shadow = {part.shadow}: phase shadow needs a percentage above 0 to shadow")
    if part.phase == "canary" and not part.steps:
        raise ConfigError(f"{where}.steps: phase canary needs at least one percentage")
    if part.steps != sorted(set(part.steps)) or 0 in part.steps:
        raise ConfigError(f"{where}.steps = {part.steps}: percentages above 0, each greater than the one before")
    for percentage in (*part.steps, part.shadow or 0.0):
        if abs(percentage * 100 - round(percentage * 100)) > 1e-9:  # noqa: PLR2004  less than any float error here
            raise ConfigError(f"{where}: {percentage} %: there are 10,000 buckets, so steps of 0.01 %")


class _StrictLoader(yaml.SafeLoader):
    """YAML without what misleads: a name given twice, and aliases."""

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        """The next node; an alias is refused."""
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("aliases are not allowed")
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """A map; a name given twice is refused."""
        seen: set[Any] = set()
        for key, _ in node.value:
            name = self.construct_object(key, deep=True)
            if not isinstance(name, str) or name in seen:
                what = "is given twice" if isinstance(name, str) else "is no name"
                raise yaml.YAMLError(f"{name!r} {what}{key.start_mark}")
            seen.add(name)
        return super().construct_mapping(node, deep)


def _refuse_unknown(tree: object, kind: type[Struct], source: str, path: str) -> None:
    """Name what no plan has, with the nearest name that it has."""
    if not isinstance(tree, Mapping):
        return
    known = [field.name for field in fields(kind)]
    for name, value in tree.items():
        where = f"{path}.{name}".lstrip(".")
        if name not in known:
            near = get_close_matches(str(name), known, 1, 0.5)
            hint = f"; nearest is {near[0]!r}" if near else f"; there are {', '.join(known)}"
            raise ConfigError(f"plan {source}: unknown name {where} = {_shown(value)}{hint}")
        if kind is Plan and name == "phases" and isinstance(value, list):
            for number, part in enumerate(value):
                _refuse_unknown(part, PhasePlan, source, f"phases[{number}]")
        if kind is PhasePlan and name == "gates":
            _refuse_unknown(value, Gates, source, where)


def _with_value(message: str, tree: object) -> str:
    """Say what stands where `message` finds fault, and the nearest phase if that is what is wrong."""
    said, _, path = message.partition(" - at `$")
    value = tree
    for piece in path.rstrip("`").replace("[", ".[").split(".")[1:]:
        if piece.startswith("[") and isinstance(value, list):
            value = value[int(piece[1:-1])]
        elif isinstance(value, Mapping) and piece in value:
            value = value[piece]
    where = path.rstrip("`").lstrip(".")
    near = get_close_matches(str(value), PHASES, 1, 0.3) if where.endswith(".phase") else []
    hint = f"; nearest is {near[0]!r}" if near else ""
    return f"{where or 'the whole'} = {_shown(value)}: {said}{hint}"


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 100 else f"{text[:100]}..."  # noqa: PLR2004  a line of a message
