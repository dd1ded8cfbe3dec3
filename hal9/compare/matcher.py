"""The rules of one operation as an automaton over path segments: a step per segment, nothing to search. Pure.

All states are made when the rules are loaded. A segment that no pattern names leads where any other such segment
leads, so a matcher does not grow with what it is fed.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from hal9.compare.paths import Pattern, Wild

if TYPE_CHECKING:
    from hal9.compare.rules import Rule, Tolerance

MAX_STATES = 10_000
MAX_DEPTH = 64
"""Of a tree: what lies deeper is compared as one leaf."""
USUAL = 1e-9
"""Relative tolerance of `isclose` when it is given none: whoever allows as much or more allows what it finds close."""

Items = frozenset[tuple[int, int]]
"""(rule, how many of its segments are matched)."""


class Node:
    """A place in a tree.

    Attributes:
        rules: how it is compared, first one first (redactions apart).
        named: where the segments lead that a pattern names.
        redact: its values are hidden, and all that it holds.
        masks: something below may be hidden.
        guarded: a redaction names what lies below, so a scalar here stands for it and is hidden too.
        rest: where a segment leads that no pattern names.
        item: where every list index leads; None if a pattern tells indexes apart.
    """

    __slots__ = ("guarded", "item", "masks", "named", "redact", "rest", "rules")

    def __init__(self, rules: "tuple[Rule, ...]", *, redact: bool, masks: bool, guarded: bool) -> None:
        self.rules, self.redact, self.masks, self.guarded = rules, redact, masks, guarded
        self.rest: Node = self
        self.item: Node | None = self
        self.named: dict[str, Node] = {}

    def step(self, segment: str) -> "Node":
        """The place that a segment leads to."""
        return self.named.get(segment, self.rest)

    def lead(self, named: "dict[str, Node]", rest: "Node") -> None:
        """Where segments lead (called once, when the automaton is made)."""
        self.named, self.rest = named, rest
        self.item = None if any(name.isdigit() for name in named) else rest

    def living(self, now_ms: float) -> "Rule | None":
        """The rule that holds here now."""
        for rule in self.rules:
            if rule.until_ms is None or now_ms < rule.until_ms:
                return rule
        return None

    def tolerance(self, default: "Tolerance", now_ms: float) -> "Tolerance | None":
        """How far floats may lie apart here; None if it is not as simple as that."""
        if self.redact or self.guarded:
            return None
        rule = self.living(now_ms) if self.rules else None
        if rule is None:
            return default
        return rule.tolerance if rule.action == "tolerance" else None

    def dead(self, now_ms: float) -> "Rule | None":
        """The first rule here that is dead, if nothing before it is alive."""
        first = self.rules[0] if self.rules else None
        return first if first is not None and first.until_ms is not None and first.until_ms <= now_ms else None


def compiled(rules: "Sequence[Rule]") -> Node:
    """The automaton of `rules`, as its root. Raises ValueError if it would have more than `MAX_STATES` states."""
    patterns = [rule.segments for rule in rules]
    root = _closed({(i, 0) for i in range(len(patterns))}, patterns)
    nodes: dict[Items, Node] = {root: _node(root, rules)}
    waiting = [root]
    while waiting:
        items = waiting.pop()
        names = {segment for i, at in items for segment in patterns[i][at : at + 1] if isinstance(segment, str)}
        led: dict[str | None, Node] = {}
        for name in (None, *sorted(names)):
            after = _stepped(items, name, patterns)
            if after not in nodes:
                if len(nodes) == MAX_STATES:
                    raise ValueError(f"more than {MAX_STATES} states: write fewer patterns with **")
                nodes[after] = _node(after, rules)
                waiting.append(after)
            led[name] = nodes[after]
        nodes[items].lead({name: led[name] for name in names}, led[None])
    return nodes[root]


def _node(items: Items, rules: "Sequence[Rule]") -> Node:
    matched = sorted(i for i, at in items if at == len(rules[i].segments))
    redacting = [(rules[i].segments, at) for i, at in items if rules[i].action == "redact"]
    return Node(
        tuple(rules[i] for i in matched if rules[i].action != "redact"),
        redact=any(rules[i].action == "redact" for i in matched),
        masks=bool(redacting),
        guarded=any(0 < at < len(segments) and Wild.ANY not in segments[:at] for segments, at in redacting),
    )


def _stepped(items: Items, name: str | None, patterns: Sequence[Pattern]) -> Items:
    """After one segment; None is a segment that no pattern names."""
    after: set[tuple[int, int]] = set()
    for i, at in items:
        if at == len(patterns[i]):
            continue
        wanted = patterns[i][at]
        if wanted is Wild.ANY:
            after.add((i, at))
        elif wanted is Wild.ONE or wanted == name:
            after.add((i, at + 1))
    return _closed(after, patterns)


def _closed(items: set[tuple[int, int]], patterns: Sequence[Pattern]) -> Items:
    for i, at in list(items):
        n = at
        while n < len(patterns[i]) and patterns[i][n] is Wild.ANY:
            n += 1
            items.add((i, n))
    return frozenset(items)
