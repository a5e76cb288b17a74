from lepton.bus.retry import RetryPolicy
from lepton.errors import Busy, Invalid, Unavailable


def test_pauses_double_up_to_the_limit() -> None:
    policy = RetryPolicy(first_s=0.5, limit_s=4.0)
    assert [policy.pause_s(attempt) for attempt in range(1, 7)] == [0.5, 1.0, 2.0, 4.0, 4.0, 4.0]


def test_after_a_day_of_attempts_the_pause_is_still_a_number() -> None:
    assert RetryPolicy().pause_s(100_000) == 10.0


def test_a_busy_part_gets_the_time_it_asks_for() -> None:
    policy = RetryPolicy(first_s=0.1, limit_s=1.0)
    assert policy.pause_s(1, Busy("full", retry_after_s=7.0)) == 7.0
    assert policy.pause_s(4, Busy("full", retry_after_s=0.1)) == 0.8


def test_only_what_may_pass_is_tried_again_and_only_so_often() -> None:
    policy = RetryPolicy(attempts=3)
    assert policy.again(Unavailable("away"), 1)
    assert policy.again(Busy("full"), 2)
    assert not policy.again(Unavailable("away"), 3)
    assert not policy.again(Invalid("bad"), 1)
    assert not policy.again(KeyError("bug"), 1)
    assert RetryPolicy().again(Unavailable("away"), 1_000_000)
