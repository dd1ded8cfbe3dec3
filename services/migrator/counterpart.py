"""Two forms of one thing, each with fields the other has not: an exact bijection between them. Pure.

Each form keeps what only the other has as a *note*, under a reserved key of its bag (`carried`, `metadata`). A form
that is just what the other one gives by default needs no note. So the forms of one content are, on either side: bare,
with a note, with a note of lap 1, of lap 2, and so on; and bare exists only where the defaults fit. The exchange maps
bare to bare, or, where only one side can be bare, moves everything on that side up by one lap. It loses nothing and
invents nothing, whatever was changed on either side meanwhile, and no note grows by going to and fro.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import msgspec

from hal9.errors import Poison
from schemas.base import Tree

_sorted_keys = msgspec.msgpack.Encoder(order="sorted")
_as_it_is = msgspec.msgpack.Encoder()

REST, ODD, HOLDER_ODD, LAP, ASSIGNED = "rest", "odd", "holder_odd", "lap", "assigned"
_ABOUT = frozenset((REST, ODD, HOLDER_ODD, LAP, ASSIGNED))


class Invalid(Poison):
    """A neuron or a unit that cannot be mapped: quarantine it and pin its key."""


@dataclass(frozen=True, slots=True)
class Form:
    """One of the two forms.

    Attributes:
        note: the key in this form's bag under which the other form's part is kept.
        usually_has_bag: whether a bag that is empty is usually there (as `{}`) or absent.
        required: fields that only this form has.
        optional: more of them, left out when empty.
        defaults: this form's own fields from the other's, and from a choice that was assigned; None if there are none.
    """

    note: str
    usually_has_bag: bool
    required: frozenset[str]
    optional: frozenset[str]
    defaults: Callable[[Tree, str | None], Tree | None]


@dataclass(frozen=True, slots=True)
class _Part:
    """What one form holds alone: its own fields, the rest of its bag, and whether an empty bag is oddly there."""

    fields: Tree
    rest: Tree
    odd: bool = False

    def is_only(self, fields: Tree | None) -> bool:
        return fields is not None and not self.rest and not self.odd and same(self.fields, fields)

    def is_sound(self) -> bool:
        return not (self.odd and self.rest)


def canonical(value: object) -> bytes:
    """The msgpack bytes of `value` with map keys in one order: equal exactly if the values are, bit for bit."""
    try:
        return _sorted_keys.encode(value)
    except TypeError:  # a map somewhere has keys that are no strings
        return _as_it_is.encode(_in_order(value))


def same(one: object, other: object) -> bool:
    """Whether two values are equal bit for bit: 1 is not 1.0, 0.0 is not -0.0, and a NaN equals its copy."""
    return canonical(one) == canonical(other)


def exchange(
    here: Form, there: Form, fields: Tree, bag: Tree | None, assigned: str | None = None
) -> tuple[Tree, Tree | None]:
    """From one form's own fields and bag to the other's; its own inverse with the forms swapped.

    `assigned` is a choice made before that the defaults are to follow; one that the bag carries goes before it. Raises
    `Invalid`: `response-time` if nothing can be chosen, `reserved` if the note is not of the form made here.
    """
    rest = {key: value for key, value in (bag or {}).items() if key != here.note}
    if bag is not None and here.note in bag:
        note = _checked(bag[here.note], here, there)
        other = _Part({k: v for k, v in note.items() if k not in _ABOUT}, note.get(REST, {}), note.get(ODD, False))
        own = _Part(fields, rest, note.get(HOLDER_ODD, False))
        lap, assigned = note.get(LAP, 0), note.get(ASSIGNED)
    else:
        defaults = there.defaults(fields, assigned)
        if defaults is None:
            raise Invalid("response-time", "no layer can be chosen for this response time")
        other = _Part(defaults, {})
        own = _Part(fields, rest, not rest and (bag is not None) != here.usually_has_bag)
        lap = -1
    bare_here = own.is_sound() and other.is_only(there.defaults(own.fields, assigned))
    bare_there = other.is_sound() and own.is_only(here.defaults(other.fields, assigned))
    lap += bare_here - bare_there
    if lap < 0:
        has_bag = bool(other.rest) or there.usually_has_bag != other.odd
        return other.fields, dict(other.rest) if has_bag else None
    return other.fields, {**other.rest, there.note: _note(own, other.odd, lap, assigned)}


def _note(own: _Part, holder_odd: bool, lap: int, assigned: str | None) -> Tree:
    about = {REST: own.rest, ODD: own.odd, HOLDER_ODD: holder_odd, LAP: lap, ASSIGNED: assigned}
    return {**own.fields, **{key: value for key, value in about.items() if value}}


def _checked(note: Any, here: Form, there: Form) -> Tree:
    """The note, if it is one that `_note` can have made."""
    if not isinstance(note, dict):
        raise Invalid("reserved", f"{here.note} is no map")
    keys = note.keys() - _ABOUT
    if not there.required <= keys or keys - there.required - there.optional:
        raise Invalid("reserved", f"{here.note} has the fields {sorted(map(str, note))}")
    maps = [note[key] for key in (REST, *there.optional) if key in note]
    flags = [note[key] for key in (ODD, HOLDER_ODD) if key in note]
    lap, assigned = note.get(LAP, 1), note.get(ASSIGNED, "-")
    made_here = (
        all(isinstance(item, dict) and item for item in maps)
        and there.note not in note.get(REST, {})
        and all(flag is True for flag in flags)
        and (type(lap) is int and lap > 0 and isinstance(assigned, str) and assigned != "")
    )
    if not made_here:
        raise Invalid("reserved", f"{here.note} was not made by this mapping")
    return note


def _in_order(value: Any) -> Any:
    if isinstance(value, dict):
        pairs = [(_as_it_is.encode(_in_order(key)), key, _in_order(item)) for key, item in value.items()]
        return {key: item for _, key, item in sorted(pairs, key=lambda pair: pair[0])}
    if isinstance(value, list | tuple):
        return [_in_order(item) for item in value]
    return value
