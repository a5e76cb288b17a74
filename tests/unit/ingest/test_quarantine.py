"""Of two decisions about a source the newer counts, in whatever order they are heard."""

from hypothesis import given
from hypothesis import strategies as st

from services.ingest.core.quarantine import MAX_SOURCES, Quarantine


def test_a_source_is_quarantined_until_it_is_restored() -> None:
    quarantine = Quarantine()
    assert quarantine.decide("till", True, (1, 0))
    assert quarantine.sources == {"till"}
    assert not quarantine.decide("till", True, (2, 1))
    assert quarantine.decide("till", False, (2, 2))
    assert quarantine.sources == frozenset()


def test_an_older_decision_changes_nothing() -> None:
    quarantine = Quarantine()
    quarantine.decide("till", False, (5, 5))
    assert not quarantine.decide("till", True, (4, 6))
    assert not quarantine.decide("till", True, (5, 5))
    assert quarantine.sources == frozenset()


MOMENTS = st.tuples(st.integers(0, 9), st.integers(0, 1000))
DECISIONS = st.lists(st.tuples(st.sampled_from("abc"), st.booleans(), MOMENTS), unique_by=lambda one: one[2])


@given(DECISIONS, st.randoms())
def test_order_of_hearing_does_not_matter(decisions: list[tuple[str, bool, tuple[int, int]]], random: object) -> None:
    shuffled = list(decisions)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    first, second, third = Quarantine(), Quarantine(), Quarantine()
    for one in decisions:
        first.decide(*one)
    for one in shuffled:
        second.decide(*one)
    third.merge(second.decisions)
    assert first.sources == second.sources == third.sources


def test_lifted_quarantines_are_forgotten_before_those_in_force() -> None:
    quarantine = Quarantine()
    quarantine.decide("held", True, (0, 0))
    for number in range(MAX_SOURCES + 5):
        quarantine.decide(f"s{number}", False, (number + 1, 0))
    assert len(quarantine.decisions) == MAX_SOURCES
    assert quarantine.sources == {"held"}


def test_fields_are_decided_about_as_sources_are_and_name_their_incident() -> None:
    first, second = Quarantine(), Quarantine()
    first.decide("x", True, (1, 0))
    first.fields.decide("x", True, (1, 0), "inc-1")
    assert first.fields.active == {"x": "inc-1"}
    assert not first.fields.decide("x", False, (0, 9))
    second.merge(first.decisions, first.fields.all)
    assert second.sources == {"x"}
    assert second.fields.active == {"x": "inc-1"}
    second.fields.decide("x", False, (2, 0))
    assert second.sources == {"x"}
    assert not second.fields.active
