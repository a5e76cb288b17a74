"""Whom a candidate answers: a fair share, always the same ones, and nobody else as the share grows."""

from math import sqrt

import pytest

from services.predictor.core.rollout.splitting import picked, place

KEYS = [f"entity-{number}" for number in range(20_000)]


@pytest.mark.parametrize("share", [0.01, 0.05, 0.25, 0.5])
def test_the_share_is_within_binomial_bounds(share: float) -> None:
    found = sum(picked("tiny:2", KEYS, share))
    assert abs(found - share * len(KEYS)) < 5 * sqrt(len(KEYS) * share * (1 - share))


def test_who_was_answered_by_the_candidate_stays_so_while_the_share_grows() -> None:
    small, large = picked("tiny:2", KEYS, 0.05), picked("tiny:2", KEYS, 0.25)
    assert all(larger for smaller, larger in zip(small, large, strict=True) if smaller)
    assert [place("tiny:2", key) < 0.05 for key in KEYS] == small


def test_another_rollout_draws_others() -> None:
    both = [one and other for one, other in zip(picked("tiny:2", KEYS, 0.5), picked("tiny:3", KEYS, 0.5), strict=True)]
    assert abs(sum(both) / len(KEYS) - 0.25) < 0.02
