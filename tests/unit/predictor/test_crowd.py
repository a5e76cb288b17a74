"""Waiting is tried where requests come fast, kept where it brings company, and given up where it does not."""

from services.predictor.core.batching.crowd import FIRST_PATIENCE, LONELY_WAITS, MAX_PATIENCE, Crowd

DELAY_S = 0.001


def requests(crowd: Crowd, count: int, gap_s: float, *, company: bool, start: float = 0.0) -> int:
    """How many of `count` requests were to wait, each of which ended with or without company."""
    waited = 0
    for number in range(count):
        if crowd.arrived(start + number * gap_s, DELAY_S):
            waited += 1
            crowd.ended(company)
    return waited


def test_requests_further_apart_than_they_might_wait_never_wait() -> None:
    assert requests(Crowd(), 10_000, DELAY_S * 1.5, company=False) == 0


def test_with_no_time_to_wait_nobody_waits() -> None:
    crowd = Crowd()
    assert not any(crowd.arrived(number * 1e-6, 0.0) for number in range(1000))


def test_in_a_crowd_all_wait_once_it_is_seen() -> None:
    crowd = Crowd()
    assert requests(crowd, FIRST_PATIENCE + 100, DELAY_S / 3, company=True) <= 100
    assert requests(crowd, 1000, DELAY_S / 3, company=True, start=1.0) == 1000


def test_one_fast_caller_hardly_ever_waits() -> None:
    crowd = Crowd()
    count = 100_000
    waited = requests(crowd, count, DELAY_S / 2, company=False)
    assert 0 < waited <= LONELY_WAITS * (count // MAX_PATIENCE + 8)


def test_a_crowd_that_went_away_is_given_up_and_found_again() -> None:
    crowd = Crowd()
    requests(crowd, 2 * FIRST_PATIENCE, DELAY_S / 3, company=True)
    assert crowd.waiting
    assert requests(crowd, LONELY_WAITS + 50, DELAY_S / 3, company=False, start=1.0) == LONELY_WAITS
    assert requests(crowd, 3 * FIRST_PATIENCE, DELAY_S / 3, company=True, start=2.0) > 0


def test_company_that_came_unasked_is_a_crowd() -> None:
    crowd = Crowd()
    crowd.ended(True)
    assert crowd.waiting
