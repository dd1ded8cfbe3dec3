"""Do two systems say the same? Values and states as trees, under rules by path and operation. Pure.

`rules` says what holds where, `matcher` makes it fast, `trees` and `values` compare, `loading` reads the file of rules.
"""

from hal9.compare.rules import Rule, RuleBook, Tolerance
from hal9.compare.trees import tree_differences
from hal9.compare.values import differences

__all__ = ["Rule", "RuleBook", "Tolerance", "differences", "tree_differences"]
