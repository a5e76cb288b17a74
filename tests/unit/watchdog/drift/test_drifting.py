"""One pipeline's windows of rows: which of them refine the reference, and what is said of one that differs."""

import pytest

from services.watchdog.core.drift.drifting import Drifting
from services.watchdog.core.thresholds.limits import DriftRule

RULE = DriftRule(rows=200, reference_rows=2_000, reference_s=60.0, windows=2)
EVEN, UNEVEN = {"red": 100, "blue": 100}, {"red": 180, "blue": 20}


@pytest.fixture
def drifting() -> Drifting:
    """It has its reference, made within ten seconds."""
    made = Drifting(RULE)
    for now in range(10):
        window(made, float(now))
    assert made.settled_at == 9.0
    return made


def window(drifting: Drifting, now: float, counts: dict[str, int] | None = None, *, healthy: bool = True) -> None:
    drifting.values("colour", counts or EVEN, RULE.rows)
    drifting.together(("a", "b"), RULE.rows, (0.1,))
    drifting.came(RULE.rows, now, healthy)


def reference(drifting: Drifting) -> tuple[float, float]:
    """Rows of the field's reference, and the weight of the pairs'."""
    return sum(drifting.shapes["colour"].reference), drifting.joint.reference.weight


def test_healthy_windows_refine_the_reference_until_its_time_is_over(drifting: Drifting) -> None:
    assert reference(drifting) == (2_000, 1_970)
    window(drifting, 30.0)
    assert reference(drifting) == (2_200, 2_167)
    window(drifting, 60.0)
    assert reference(drifting) == (2_400, 2_364)
    window(drifting, 60.25)
    window(drifting, 600.0)
    assert reference(drifting) == (2_400, 2_364)


def test_a_window_in_which_something_else_is_wrong_does_not_refine_it(drifting: Drifting) -> None:
    window(drifting, 30.0, healthy=False)
    assert reference(drifting) == (2_000, 1_970)
    window(drifting, 31.0)
    assert reference(drifting) == (2_200, 2_167)


def test_neither_a_window_that_differs_nor_one_beside_a_drift_refines_it(drifting: Drifting) -> None:
    window(drifting, 30.0, UNEVEN)
    assert (reference(drifting), drifting.standing) == ((2_000, 1_970), {})
    window(drifting, 31.0, UNEVEN)
    assert list(drifting.standing) == ["colour"]
    window(drifting, 32.0)
    assert (reference(drifting), list(drifting.standing)) == ((2_000, 1_970), ["colour"])
    window(drifting, 33.0)
    window(drifting, 34.0)
    assert (reference(drifting)[0], drifting.standing) == (2_400, {})


def test_how_far_a_window_is_from_the_reference_is_told_by_both_distances(drifting: Drifting) -> None:
    """The figures are scipy's (entropy and spatial.distance.jensenshannon to base 2) of the same smoothed shares."""
    window(drifting, 30.0, UNEVEN)
    window(drifting, 31.0, UNEVEN)
    assert drifting.text() == "colour (PSI 0.87, Jensen-Shannon 0.38)"
