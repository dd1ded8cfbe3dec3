"""The branches of the deciding code, those that no schedule took, and whether a reason for that is known.

A reason is kept with the text of its line, so that it stays true while lines move; one whose line is gone, or whose
branch was taken after all, is stale. A branch is a jump from one line to another: what `and`, `or` and a conditional
expression decide within a line is not seen.
"""

import ast
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

Reasons = Mapping[str, Mapping[str, str]]
"""By module, then by the text of the line, why no schedule takes a branch of it."""
Ways = Iterable[Sequence[int]]
"""Pairs of lines, from and to; to a negative one: out of the function."""


@dataclass(frozen=True, slots=True)
class Branch:
    """A branch that no schedule took; `then` None: it leaves the function. `text` is its line, or the `def`."""

    module: str
    path: str
    line: int
    then: int | None
    text: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line} -> {self.then or 'exit'}  {self.text}"


@dataclass(frozen=True, slots=True)
class Function:
    """What a run did with one function: the branches that it took, those it did not, whether it was called at all."""

    called: bool
    first: int
    """The first line of its body."""
    taken: Ways
    missed: Ways


@dataclass(frozen=True, slots=True)
class Module:
    """One module of the deciding code as a run left it."""

    name: str
    path: str
    source: str
    functions: Sequence[Function]

    @property
    def taken(self) -> int:
        """How many branches were taken."""
        return sum(len(list(function.taken)) for function in self.functions)

    @property
    def branches(self) -> int:
        """How many there are."""
        return self.taken + sum(len(list(function.missed)) for function in self.functions)

    def missed(self) -> list[Branch]:
        """The branches that nothing took; a function that was never called, and that has any, is one of them."""
        lines, found = heads(self.source), list[Branch]()
        for function in self.functions:
            if function.called:
                ways = [(line, then if then > 0 else None) for line, then in function.missed]
            else:
                ways = [(lines.opening(function.first), function.first)] if list(function.missed) else []
            found += [Branch(self.name, self.path, line, then, lines.text(line)) for line, then in ways]
        return found

    def untaken(self) -> set[str]:
        """The texts of all that was missed, what lies within functions that were never called too."""
        lines = heads(self.source)
        within = {lines.text(line) for function in self.functions for line, _ in function.missed}
        return within | {branch.text for branch in self.missed()}


@dataclass(frozen=True, slots=True)
class Heads:
    """The lines of a source, a statement that takes several up to its colon as one."""

    lines: Sequence[str]
    ends: Mapping[int, int]
    openings: Sequence[tuple[int, int]]
    """From and to which line each function goes, from its `def` on."""

    def text(self, line: int) -> str:
        """The text of a line, or of the head of the statement that begins in it."""
        last = self.ends.get(line, line)
        whole = " ".join(part.strip() for part in self.lines[line - 1 : last])
        return whole.replace("( ", "(").replace(" )", ")")

    def texts(self) -> set[str]:
        """Every text that a branch may have."""
        return {self.text(line + 1) for line in range(len(self.lines))}

    def opening(self, inside: int) -> int:
        """The line with the `def` of the innermost function around a line."""
        return max((first for first, last in self.openings if first <= inside <= last), default=inside)


def heads(source: str) -> Heads:
    """The heads of the statements of a source."""
    lines, ends, openings = source.splitlines(), dict[int, int](), list[tuple[int, int]]()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            openings.append((node.lineno, node.end_lineno or node.lineno))
        elif isinstance(node, ast.If | ast.While | ast.For):
            head = node.iter if isinstance(node, ast.For) else node.test
            last = head.end_lineno or node.lineno
            while not lines[last - 1].partition("#")[0].rstrip().endswith(":") and last < node.body[0].lineno:
                last += 1
            ends[node.lineno] = last
    return Heads(lines, ends, openings)


@dataclass(frozen=True, slots=True)
class Verdict:
    """Branches without a reason, those with one by the reason, and the reasons that hold no more."""

    unexplained: Sequence[Branch]
    explained: Mapping[str, Sequence[Branch]]
    stale: Sequence[str]


def judged(modules: Sequence[Module], reasons: Reasons) -> Verdict:
    """Hold what was missed against what is known."""
    unexplained, explained = list[Branch](), dict[str, list[Branch]]()
    for module in modules:
        known = reasons.get(module.name, {})
        for branch in module.missed():
            why = known.get(branch.text)
            if why is None:
                unexplained.append(branch)
            else:
                explained.setdefault(why, []).append(branch)
    untaken = {module.name: module.untaken() for module in modules}
    texts = {module.name: heads(module.source).texts() for module in modules}
    stale = [
        f"{name}: {text}  ({'taken' if text in texts.get(name, ()) else 'gone'})"
        for name, known in reasons.items()
        for text in known
        if text not in untaken.get(name, ())
    ]
    return Verdict(unexplained, explained, stale)


def told(modules: Sequence[Module], verdict: Verdict) -> list[str]:
    """The table, then every branch that was missed."""
    rows = [(module.path, module.branches, module.taken) for module in modules if module.branches]
    rows.append(("all", sum(row[1] for row in rows), sum(row[2] for row in rows)))
    wide = max(len(row[0]) for row in rows)
    lines = [f"{'module':{wide}} branches  taken"]
    lines += [f"{path:{wide}} {all_:8d} {taken:6d} {100 * taken / max(all_, 1):6.1f} %" for path, all_, taken in rows]
    for why, branches in verdict.explained.items():
        lines += ["", f"not taken: {why}", *(f"  {branch}" for branch in branches)]
    if verdict.stale:
        lines += ["", "reasons that hold no more:", *(f"  {reason}" for reason in verdict.stale)]
    if verdict.unexplained:
        lines += ["", "not taken, and no reason known:", *(f"  {branch}" for branch in verdict.unexplained)]
    return lines
