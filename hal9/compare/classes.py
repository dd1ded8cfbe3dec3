"""Classes of differences: which divergences are of one kind. Pure."""

from collections.abc import Iterable

from hal9.compare.paths import field_class
from schemas.reports import DivergenceKind, FieldDifference

ClassKey = tuple[str, DivergenceKind, str, str]
"""(operation, kind, path without list indexes, rule)."""


def classes(
    operation: str, kind: DivergenceKind, fields: Iterable[FieldDifference]
) -> dict[ClassKey, list[FieldDifference]]:
    """The classes that one divergence is of, with its fields of each; one without fields has an empty path."""
    found: dict[ClassKey, list[FieldDifference]] = {}
    for one in fields:
        found.setdefault((operation, kind, field_class(one.path), one.rule), []).append(one)
    return found or {(operation, kind, "", ""): []}
