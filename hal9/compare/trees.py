"""Two trees under the rules of one operation: what differs, with the rule that was broken. Pure.

The verdict is symmetric. What differs is reported up to `MAX_FIELDS` fields, at most `MAX_PER_CLASS` of a class (the
same path but for list indexes), so that a noisy list cannot hide another field; after `MAX_FOUND` it stops looking.
"""

from math import isclose

from hal9.compare.matcher import MAX_DEPTH, USUAL, Node
from hal9.compare.multiset import unmatched
from hal9.compare.paths import MAX_PATH_CHARS, escaped
from hal9.compare.rules import Rule, RuleBook, Side, Tolerance
from hal9.compare.showing import MISSING
from schemas.reports import FieldDifference

MAX_FIELDS = 32
MAX_PER_CLASS = 8
MAX_FOUND = 256
MAX_RULE_CHARS = 128
_TEXT = {str}
_FLOAT = {float}

Path = tuple["Path", str | int] | None
"""The last segment and what precedes it; None is the root. Rendered only when something differs."""


def tree_differences(
    flat: object, hierarchical: object, book: RuleBook, operation: str = "", *, of: Side = "state", now_ms: float = 0.0
) -> list[FieldDifference]:
    """The fields in which two trees differ; empty if they say the same. `now_ms`: the time that ends rules."""
    run = Walk(book, now_ms)
    run.compare(flat, hierarchical, book.matcher(of, operation), None, 0)
    return run.found


class Walk:
    """One comparison. `found` are the differences to report."""

    def __init__(self, book: RuleBook, now_ms: float) -> None:
        self.found: list[FieldDifference] = []
        self._book, self._default, self._now_ms = book, book.tolerance, now_ms
        self._left = MAX_FOUND
        self._classes: dict[str, int] = {}
        self._veiled: list[str] | None = None
        """Rules broken within what is redacted: reported as one difference of the whole."""

    def compare(self, a: object, b: object, node: Node, path: Path, depth: int) -> None:
        """Report what differs from `path` down."""
        if self._left <= 0:
            return
        if node.rules or node.redact:
            self._ruled(a, b, node, path, depth)
        else:
            self._plain(a, b, node, path, depth, self._default, None)

    def _plain(
        self, a: object, b: object, node: Node, path: Path, depth: int, within: Tolerance, rule: Rule | None
    ) -> None:
        if isinstance(a, float) and isinstance(b, float):
            if a == b or isclose(a, b, rel_tol=within.relative, abs_tol=within.absolute) or (a != a and b != b):  # noqa: PLR0124
                return
            self._report(a, b, node, path, rule or self._book.rounding)
        elif isinstance(a, dict) and isinstance(b, dict) and depth < MAX_DEPTH:
            self._maps(a, b, node, path, depth)
        elif isinstance(a, list) and isinstance(b, list) and len(a) == len(b) and depth < MAX_DEPTH:
            self._lists(a, b, node, path, depth)
        elif not same_leaf(a, b) and not (rule is not None and _near(a, b, within)):
            self._report(a, b, node, path, rule if rule and _numbers(a, b) else "exact")

    def _ruled(self, a: object, b: object, node: Node, path: Path, depth: int) -> None:
        """What a place with rules has beside: it is ignored, hidden, without order, or has its own tolerance."""
        rule = node.living(self._now_ms)
        if rule is not None and rule.action == "ignore":
            return
        if node.redact and self._veiled is None:
            broken: list[str] = []
            self._veiled = broken
            self._ruled(a, b, node, path, depth)
            self._veiled = None
            if broken and (name := self._admitted(path)) is not None:
                hashed = self._book.redactor.hashed
                self._add(name, hashed(a), hashed(b), broken[0])
        elif rule is not None and rule.action == "multiset" and isinstance(a, list) and isinstance(b, list):
            left, right = unmatched(a, b, lambda x, y: self._same(x, y, node, depth), self._tolerance_of(node))
            if left or right:
                self._report(left, right, node, path, rule)
        else:
            tolerant = rule if rule is not None and rule.action == "tolerance" else None
            self._plain(a, b, node, path, depth, tolerant.tolerance if tolerant else self._default, tolerant)

    def _maps(self, a: dict[object, object], b: dict[object, object], node: Node, path: Path, depth: int) -> None:
        if not set(map(type, a)) <= _TEXT:
            self._odd_maps(a, b, node, path, depth)
            return
        keys = list(a)
        if keys == list(b):
            self._same_keys(a, b, node, path, depth)
            return
        if not set(map(type, b)) <= _TEXT:
            self._odd_maps(a, b, node, path, depth)
            return
        for key in [*keys, *(key for key in b if key not in a)]:
            name, left, right = str(key), a.get(key, MISSING), b.get(key, MISSING)
            self.compare(left, right, node.step(name), (path, name), depth + 1)

    def _same_keys(self, a: dict[object, object], b: dict[object, object], node: Node, path: Path, depth: int) -> None:
        """Maps with the same keys of text in the same order, as two runs of one program make them."""
        step, compare, named = node.step, self.compare, node.named
        within = node.rest.tolerance(self._default, self._now_ms)
        relative, absolute = (within.relative, within.absolute) if within is not None else (0.0, 0.0)
        if relative >= USUAL and not named and _close(a, b):
            return
        for (key, left), right in zip(a.items(), b.values(), strict=True):
            if left.__class__ is float and right.__class__ is float:
                if left == right:
                    continue
                if within is not None and isclose(left, right, rel_tol=relative, abs_tol=absolute) and key not in named:
                    continue
            elif left is right:
                continue
            compare(left, right, step(key), (path, key), depth + 1)  # type: ignore[arg-type]  # all are text

    def _odd_maps(self, a: dict[object, object], b: dict[object, object], node: Node, path: Path, depth: int) -> None:
        """Keys that are no text: by kind and value, since 1 is not true, and not-a-number is itself."""
        left, right = _named(a), _named(b)
        for name in sorted({*left, *right}):
            shown = name[1]
            self.compare(left.get(name, MISSING), right.get(name, MISSING), node.step(shown), (path, shown), depth + 1)

    def _lists(self, a: list[object], b: list[object], node: Node, path: Path, depth: int) -> None:
        item = node.item
        within = item.tolerance(self._default, self._now_ms) if item is not None else None
        if item is None or within is None:
            for i, (left, right) in enumerate(zip(a, b, strict=True)):
                self.compare(left, right, node.step(str(i)), (path, i), depth + 1)
            return
        relative, absolute, told = within.relative, within.absolute, 0
        for i, (left, right) in enumerate(zip(a, b, strict=True)):
            if left.__class__ is float and right.__class__ is float:
                if left == right or isclose(left, right, rel_tol=relative, abs_tol=absolute):
                    continue
                told += 1
                if told > MAX_PER_CLASS:
                    continue  # one class, and enough of it: what differs everywhere must not cost more
            elif left is right:
                continue
            self.compare(left, right, item, (path, i), depth + 1)

    # ------------------------------------------------------------------ lists whose order does not count
    def _same(self, a: object, b: object, node: Node, depth: int) -> bool:
        inner = Walk(self._book, self._now_ms)
        inner._veiled = []
        inner.compare(a, b, node.item or node.rest, None, depth + 1)
        return not inner._veiled

    def _tolerance_of(self, node: Node) -> Tolerance | None:
        return (node.item or node.rest).tolerance(self._default, self._now_ms)

    # ------------------------------------------------------------------ reports
    def _report(self, a: object, b: object, node: Node, path: Path, broken: Rule | str) -> None:
        if self._veiled is not None:
            self._veiled.append(self._told(broken, node))
            self._left = 0 if len(self._veiled) >= MAX_FOUND else self._left
        elif (name := self._admitted(path)) is not None:
            shown = self._book.redactor.shown
            self._add(name, shown(a, node), shown(b, node), self._told(broken, node))

    def _told(self, broken: Rule | str, node: Node) -> str:
        """The rule that was broken, as the report names it; and the one that would have held, were it not dead."""
        text, dead = broken if isinstance(broken, str) else broken.broken(), node.dead(self._now_ms)
        return text if dead is None else f"{text}; {dead.dead()}"

    def _admitted(self, path: Path) -> str | None:
        """The path as text, if one more of its class is to be reported."""
        self._left -= 1
        name, kind = rendered(path)
        seen = self._classes[kind] = self._classes.get(kind, 0) + 1
        return name if seen <= MAX_PER_CLASS and len(self.found) < MAX_FIELDS else None

    def _add(self, name: str, a: object, b: object, rule: str) -> None:
        if len(self.found) + 1 == MAX_FIELDS:
            self._left = 0
        self.found.append(FieldDifference(path=name, flat=a, hierarchical=b, rule=rule[:MAX_RULE_CHARS]))


def _close(a: dict[object, object], b: dict[object, object]) -> bool:
    """Whether all values are floats and differ in their last bits at most, said without a step of Python for each."""
    values: list[float] = [*a.values(), *b.values()]  # type: ignore[list-item]  # looked at in the next line
    return set(map(type, values)) == _FLOAT and all(map(isclose, values, values[len(a) :]))


def rendered(path: Path) -> tuple[str, str]:
    """A path as text, and its class: the same with a star for each list index."""
    names: list[str] = []
    classes: list[str] = []
    while path is not None:
        path, segment = path
        names.append(escaped(segment) if isinstance(segment, str) else str(segment))
        classes.append("*" if isinstance(segment, int) else names[-1])
    return ".".join(reversed(names))[:MAX_PATH_CHARS], ".".join(reversed(classes))


def same_leaf(a: object, b: object) -> bool:
    """Exactly the same; an integer equals the float of its value, and nothing else that is no number of its kind."""
    if _numbers(a, b):
        return bool(a == b) or (a != a and b != b)  # noqa: PLR0124  NaN is the one value that differs from itself
    try:
        return type(a) is type(b) and bool(a == b)
    except RecursionError:
        return False


def _numbers(a: object, b: object) -> bool:
    return (
        isinstance(a, int | float)
        and isinstance(b, int | float)
        and not isinstance(a, bool)
        and not isinstance(b, bool)
    )


def _near(a: object, b: object, within: Tolerance) -> bool:
    """Numbers of which one is an integer, exactly: converted to floats, two great ones would be one."""
    if not (isinstance(a, int | float) and isinstance(b, int | float)) or isinstance(a, bool) or isinstance(b, bool):
        return False
    try:
        apart = abs(a - b)
        return bool(apart <= within.absolute or apart <= within.relative * max(abs(a), abs(b)))
    except OverflowError:
        return False


def _named(tree: dict[object, object]) -> dict[tuple[str, str], object]:
    """The values of a map by (kind of key, key as text); not-a-numbers are counted."""
    named: dict[tuple[str, str], object] = {}
    for key, value in tree.items():
        kind, text = _key(key)
        count, name = 1, text
        while (kind, name) in named:
            count += 1
            name = f"{text}#{count}"
        named[kind, name] = value
    return named


def _key(key: object) -> tuple[str, str]:
    if isinstance(key, str):
        return "text", key
    if isinstance(key, float) and key.is_integer():
        return "number", str(int(key))
    if isinstance(key, int | float) and not isinstance(key, bool):
        return "number", str(key)
    return type(key).__name__, repr(key)
