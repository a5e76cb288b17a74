"""Which error a request for a version that is not there gets; everything else is in tests/property."""

import pytest

from lepton.errors import Missing, Unavailable
from services.predictor.core.slots import Slots, State


class Engine:
    def close(self) -> None:
        self.closed = True


def test_a_version_in_memory_answers_by_name_before_it_takes_over() -> None:
    slots: Slots[Engine] = Slots()
    engine = Engine()
    slots.put("a", 3, engine)
    assert slots.resident("a") == {3: State.WARM}
    with slots.lease("a", 3) as leased:
        assert leased is engine
    with pytest.raises(Unavailable, match="no version of `a` answers yet"):
        slots.lease("a")


def test_an_unknown_model_or_version_is_missing_with_what_there_is() -> None:
    slots: Slots[Engine] = Slots()
    slots.put("a", 3, Engine())
    slots.flip("a", 3)
    with pytest.raises(Missing, match=r"no model `b`.*one of: a"):
        slots.lease("b")
    with pytest.raises(Missing, match=r"version 2 of `a`.*one of: 3"):
        slots.lease("a", 2)


def test_a_version_kept_for_a_roll_back_answers_at_once() -> None:
    slots: Slots[Engine] = Slots()
    for version in (1, 2):
        slots.put("a", version, Engine())
        slots.flip("a", version, keep=frozenset({1}))
    assert slots.resident("a") == {1: State.KEPT, 2: State.SERVING}
    slots.flip("a", 1, keep=frozenset({2}))
    assert slots.serving("a") == 1
