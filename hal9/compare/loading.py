"""The file of rules: YAML, read strictly. What is wrong is refused with its line and the nearest right word.

Only `load` reads a file; everything else is pure.
"""

import math
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime
from difflib import get_close_matches
from pathlib import Path

import yaml

from hal9.compare.paths import parse as parse_path
from hal9.compare.rules import Action, Rule, RuleBook, Side, Tolerance
from hal9.errors import ConfigError
from hal9.settings.sections import Settings

MAX_BYTES = 256 * 1024
MAX_RULES = 1_000
ACTIONS: tuple[Action, ...] = ("tolerance", "multiset", "ignore", "redact")
WORDS = ("path", "of", "operations", *ACTIONS, "until", "name", "owner", "reason")
SIDES: tuple[Side, ...] = ("answer", "state")
_OPERATION = re.compile(r"[a-z0-9_.-]{1,64}")
_STATE: Side = "state"


def load(settings: Settings) -> RuleBook:
    """The rules that the settings name, compiled; the default ones if they name none. Raises ConfigError."""
    path, key = settings.comparison.rules, settings.comparison.redaction_key.encode()
    tolerance = Tolerance(settings.router.float_rel, settings.router.float_abs)
    if not path:
        return RuleBook((), tolerance, key)
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"COMPARISON.RULES = {path!r} cannot be read: {error}") from error
    return parse(text, path, tolerance, key)


def parse(text: str, source: str, tolerance: Tolerance = Tolerance(), key: bytes = b"") -> RuleBook:  # noqa: B008  frozen
    """Rules from the text of a file. Raises ConfigError with the line."""
    if len(text) > MAX_BYTES:
        raise ConfigError(f"{source}: longer than {MAX_BYTES} bytes")
    try:
        root = yaml.compose(text, yaml.SafeLoader)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise _no_yaml(source, error) from error
    if root is None:
        return RuleBook((), tolerance, key)
    reader = _Reader(source)
    top = reader.map(root, ("rules",), "the file")
    listed = top.get("rules")
    if not isinstance(listed, yaml.SequenceNode):
        raise reader.wrong(listed or root, "expected rules:, and a list below it")
    if len(listed.value) > MAX_RULES:
        raise reader.wrong(listed, f"{len(listed.value)} rules, more than {MAX_RULES}")
    rules = [reader.rule(node) for node in listed.value]
    try:
        return RuleBook(rules, tolerance, key)
    except ValueError as error:
        raise ConfigError(f"{source}: {error}") from error


class _Reader:
    """Nodes of one file into rules."""

    def __init__(self, source: str) -> None:
        self._source = source

    def wrong(self, node: yaml.Node, why: str) -> ConfigError:
        """An error that names the line."""
        return ConfigError(f"{self._source}:{node.start_mark.line + 1}: {why}")

    def map(self, node: yaml.Node, known: Sequence[str], what: str) -> Mapping[str, yaml.Node]:
        """A map with known words, each once."""
        if not isinstance(node, yaml.MappingNode):
            raise self.wrong(node, f"expected {what} to have words: {', '.join(known)}")
        found: dict[str, yaml.Node] = {}
        for word, value in node.value:
            if not isinstance(word, yaml.ScalarNode) or word.value not in known:
                raise self.wrong(word, f"unknown word {word.value!r}{_nearest(str(word.value), known)}")
            if word.value in found:
                raise self.wrong(word, f"{word.value} is given twice")
            found[word.value] = value
        return found

    def rule(self, node: yaml.Node) -> Rule:
        """One rule: a place, and exactly one thing to do there."""
        given = self.map(node, WORDS, "a rule")
        if "path" not in given:
            raise self.wrong(node, "a rule needs a path")
        chosen = [action for action in ACTIONS if action in given]
        if len(chosen) != 1:
            raise self.wrong(
                node, f"a rule has one of {', '.join(ACTIONS)}; this one has {' and '.join(chosen) or 'none'}"
            )
        action = chosen[0]
        if action != "tolerance" and self._flag(given[action], action) is False:
            raise self.wrong(given[action], f"{action}: false says nothing; leave the rule out")
        of, path = self._place(given)
        try:
            segments = parse_path(path)
        except ValueError as error:
            raise self.wrong(given["path"], f"path: {error}") from error
        return Rule(
            path=path,
            segments=segments,
            action=action,
            of=of,
            operations=self._operations(given.get("operations")),
            tolerance=self._tolerance(given["tolerance"]) if action == "tolerance" else Tolerance(0.0, 0.0),
            until_ms=self._until(node, given.get("until"), action),
            **{word: self._text(given[word], word) for word in ("name", "owner", "reason") if word in given},
        )

    def _place(self, given: Mapping[str, yaml.Node]) -> tuple[Side, str]:
        """A path that begins with `state` lies in the state, unless `of` says otherwise."""
        path = self._text(given["path"], "path")
        head, dot, rest = path.partition(".")
        if "of" not in given:
            return (_STATE, rest if dot else "") if head == _STATE else ("answer", path)
        of = self._text(given["of"], "of")
        if of not in SIDES:
            raise self.wrong(given["of"], f"of: {of!r}{_nearest(of, SIDES)}")
        side: Side = "state" if of == _STATE else "answer"
        return (side, rest if dot else "") if side == _STATE and head == _STATE else (side, path)

    def _text(self, node: yaml.Node, word: str) -> str:
        if not isinstance(node, yaml.ScalarNode) or node.tag == "tag:yaml.org,2002:null":
            raise self.wrong(node, f"{word}: expected text")
        return str(node.value)

    def _flag(self, node: yaml.Node, word: str) -> bool:
        value = self._text(node, word).lower()
        if value not in ("true", "false"):
            raise self.wrong(node, f"{word}: {value!r}: expected true")
        return value == "true"

    def _operations(self, node: yaml.Node | None) -> frozenset[str]:
        if node is None:
            return frozenset()
        nodes = node.value if isinstance(node, yaml.SequenceNode) else [node]
        names = [self._text(one, "operations") for one in nodes]
        for name, one in zip(names, nodes, strict=True):
            if not _OPERATION.fullmatch(name):
                raise self.wrong(one, f"operations: {name!r}: expected {_OPERATION.pattern}")
        if not names:
            raise self.wrong(node, "operations: none; leave the word out for all of them")
        return frozenset(names)

    def _tolerance(self, node: yaml.Node) -> Tolerance:
        """A bound that is not given is zero: a tolerance is never looser than it says."""
        given = self.map(node, ("relative", "absolute"), "tolerance")
        if not given:
            raise self.wrong(node, "tolerance: expected relative or absolute")
        bounds = {}
        for word, inner in given.items():
            text = self._text(inner, word)
            try:
                bound = float(text)
            except ValueError:
                bound = math.nan
            if not 0.0 <= bound < (1.0 if word == "relative" else math.inf):
                limits = "0 or more, below 1" if word == "relative" else "0 or more"
                raise self.wrong(inner, f"{word}: {text!r}: expected a number, {limits}")
            bounds[word] = bound
        return Tolerance(bounds.get("relative", 0.0), bounds.get("absolute", 0.0))

    def _until(self, rule: yaml.Node, node: yaml.Node | None, action: Action) -> int | None:
        if node is None:
            if action == "ignore":
                raise self.wrong(rule, "ignore needs until, a date after which the rule is dead")
            return None
        if action == "redact":
            raise self.wrong(node, "until: a redaction does not end: what it hid would be shown")
        text = self._text(node, "until")
        try:
            day = date.fromisoformat(text)
        except ValueError as error:
            raise self.wrong(node, f"until: {text!r}: expected a date, like 2027-01-31") from error
        return int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp() * 1000)


def _no_yaml(source: str, error: Exception) -> ConfigError:
    mark, problem = getattr(error, "problem_mark", None), getattr(error, "problem", None) or str(error)
    line = f":{mark.line + 1}" if mark is not None else ""
    hint = ' (a path that begins with a star stands in quotes: "*.x")' if "alias" in str(error) else ""
    return ConfigError(f"{source}{line}: no YAML: {problem}{hint}")


def _nearest(word: str, known: Sequence[str]) -> str:
    near = get_close_matches(word, known, 1, 0.5)
    return f"; nearest is {near[0]!r}" if near else f"; there are {', '.join(known)}"
