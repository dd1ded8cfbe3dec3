"""The id window of the router: what it keeps, and that it lets go."""

from weakref import ref

from services.router.identities import Identities, Identity


class Told(list[tuple[str, bytes]]):
    """Headers of an answer that can be seen to go."""


def test_what_has_left_the_window_is_not_kept_anywhere() -> None:
    seen: list[ref[Told]] = []
    identities = Identities(window_ms=100, value_budget=1_000_000)
    for number in range(1_000):
        now_ms = number * 10.0
        told = Told([("status", b"ok")])
        seen.append(ref(told))
        identities.see(Identity(b"n1", f"id-{number}"), number, now_ms)
        identities.answer(Identity(b"n1", f"id-{number}"), told, b"value", now_ms)
        identities.expire(now_ms)
    assert len(identities) == 10
    assert sum(one() is not None for one in seen) <= 11


def test_values_beyond_the_budget_go_and_their_ids_stay() -> None:
    identities = Identities(window_ms=1_000, value_budget=25)
    for number in range(4):
        identities.see(Identity(b"n1", f"id-{number}"), number, 0.0)
        identities.answer(Identity(b"n1", f"id-{number}"), [("status", b"ok")], b"0123456789", 0.0)
    identities.expire(10.0)
    found = [identities.first(Identity(b"n1", f"id-{number}")) for number in range(4)]
    assert [known is not None and known.gone for known in found] == [True, True, False, False]
