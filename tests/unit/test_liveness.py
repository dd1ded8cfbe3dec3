"""Liveness is judged by arrival: silence and a clean leave are death, a fresh reader buries nobody."""

from hal9.liveness import Liveness
from schemas.telemetry import Status


def beat(instance: str, service: str, *, leaving: bool = False, read_only: tuple[str, ...] = ()) -> Status:
    return Status(instance=instance, service=service, at_ms=0, leaving=leaving, read_only=list(read_only))


def listening(*statuses: Status, at_ms: float = 10_000) -> Liveness:
    liveness = Liveness(started_ms=0)
    for status in statuses:
        liveness.fold(status, at_ms)
    return liveness


def test_a_fresh_reader_buries_nobody() -> None:
    liveness = Liveness(started_ms=1000)
    assert liveness.dead(1000) == frozenset()
    assert liveness.dead(2999) == frozenset()
    assert liveness.dead(3000) == {"flat", "hierarchical"}


def test_a_system_is_dead_when_all_its_instances_are_silent() -> None:
    liveness = listening(beat("flat-1", "flat"), beat("h-1", "hierarchical"), beat("h-2", "hierarchical"))
    liveness.fold(beat("h-2", "hierarchical"), 11_500)
    assert liveness.dead(11_999) == frozenset()
    assert liveness.dead(12_001) == {"flat"}
    assert [s.instance for s in liveness.alive("hierarchical", 12_001)] == ["h-2"]
    assert liveness.dead(13_501) == {"flat", "hierarchical"}


def test_a_clean_leave_is_death_at_once_and_a_new_instance_life() -> None:
    liveness = listening(beat("flat-1", "flat"), beat("h-1", "hierarchical"))
    liveness.fold(beat("h-1", "hierarchical", leaving=True), 10_100)
    assert liveness.dead(10_100) == {"hierarchical"}
    liveness.fold(beat("h-2", "hierarchical"), 10_200)
    assert liveness.dead(10_200) == frozenset()


def test_other_services_do_not_count_as_systems() -> None:
    liveness = listening(beat("router-1", "router"))
    assert liveness.dead(10_000) == {"flat", "hierarchical"}
    assert [s.instance for s in liveness.newest("router")] == ["router-1"]


def test_an_operation_is_read_only_if_every_living_instance_of_both_systems_says_so() -> None:
    liveness = listening(
        beat("f", "flat", read_only=("read", "activate")),
        beat("h1", "hierarchical", read_only=("read", "activate")),
        beat("h2", "hierarchical", read_only=("read",)),
    )
    assert liveness.read_only() == {"read"}
    assert listening(beat("f", "flat", read_only=("read",))).read_only() == frozenset()


def test_what_a_dead_system_declared_last_still_holds() -> None:
    liveness = listening(beat("f", "flat", read_only=("read",)), beat("h", "hierarchical", read_only=("read",)))
    liveness.fold(beat("f", "flat", read_only=("read",)), 20_000)
    assert liveness.dead(20_000) == {"hierarchical"}
    assert liveness.read_only() == {"read"}


def test_instances_of_long_ago_are_forgotten() -> None:
    liveness = listening(beat("router-1", "router"))
    liveness.fold(beat("router-2", "router"), 80_000)
    assert [s.instance for s in liveness.newest("router")] == ["router-2"]


def test_what_the_dead_declared_last_is_recalled_and_the_living_know_better() -> None:
    def at(instance: str, service: str, at_ms: int, *read_only: str) -> Status:
        return Status(instance=instance, service=service, at_ms=at_ms, read_only=list(read_only))

    liveness = Liveness(started_ms=0)
    liveness.recall(
        [
            at("f-1", "flat", 900, "read", "look"),
            at("h-0", "hierarchical", 100),
            at("h-1", "hierarchical", 9_000, "read"),
            at("h-1", "hierarchical", 9_500, "read", "look"),
            at("h-2", "hierarchical", 9_400, "read", "look", "see"),
        ]
    )
    assert liveness.read_only() == {"read", "look"}
    assert liveness.living(0) == []
    liveness.fold(at("f-2", "flat", 0, "read"), 100)
    assert liveness.read_only() == {"read"}
