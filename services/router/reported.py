"""What a system says of the states that it compared (`state-diff`). Pure."""

import msgspec

from hal9.compare import RuleBook
from hal9.compare.paths import Wild, parse
from hal9.compare.showing import cut
from schemas.reports import FieldDifference

MAX_REPORTED = 64
_HASHED = ("hmac:", "sha256:", "(missing)")
_state_diff = msgspec.json.Decoder(list[FieldDifference | str])


def state_fields(diff: bytes, rules: RuleBook, operation: str) -> list[FieldDifference]:
    """The fields of a `state-diff`; a cut or foreign text still says that something differs.

    Values that a rule hides are hidden here too, if the system had not done it.
    """
    try:
        found = _state_diff.decode(diff)
    except (msgspec.MsgspecError, RecursionError, ValueError):
        return [FieldDifference(path="(state)", flat=None, hierarchical=None, rule="reported by the shadow")]
    return [
        FieldDifference(path=cut_path(f), rule="exact") if isinstance(f, str) else _hidden(f, rules, operation)
        for f in found[:MAX_REPORTED]
    ]


def cut_path(path: str) -> str:
    """A path of bounded length."""
    return path[:1024]


def _hidden(found: FieldDifference, rules: RuleBook, operation: str) -> FieldDifference:
    node = rules.matcher("state", operation)
    if not node.masks:
        return found
    try:
        segments = parse(found.path)
    except ValueError:
        segments = ()
    hide = False
    for segment in segments:
        hide = hide or node.redact
        node = node.step(segment.value if isinstance(segment, Wild) else segment)
    if not (hide or node.redact or node.masks):
        return found
    flat, hierarchical = (
        value if isinstance(value, str) and value.startswith(_HASHED) else rules.redactor.hashed(value)
        for value in (found.flat, found.hierarchical)
    )
    return FieldDifference(path=found.path, flat=cut(flat), hierarchical=cut(hierarchical), rule=found.rule)
