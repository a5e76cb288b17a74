"""Levels, trends and bursts: what each finds, and what it lets pass."""

import math
import random

import pytest

from services.watchdog.core.load.bursts import Burst
from services.watchdog.core.load.sustained import CLEAR_S, Sustained
from services.watchdog.core.load.trend import Trend


def test_a_level_stands_only_after_it_was_too_high_for_long_enough() -> None:
    level = Sustained(0.9, 60)
    level.see(0.95, 0)
    assert not level.look(59)
    assert level.look(60)


def test_one_reading_below_the_limit_begins_anew() -> None:
    level = Sustained(0.9, 60)
    for now, value in ((0, 0.95), (50, 0.5), (51, 0.95)):
        level.see(value, now)
    assert not level.look(100)
    assert level.look(111)


def test_a_level_that_swings_about_its_limit_is_one_fault() -> None:
    level = Sustained(0.9, 10)
    level.see(0.95, 0)
    assert level.look(10)
    for now in range(11, 60):
        level.see(0.87 if now % 2 else 0.91, now)
        assert level.standing
    level.see(0.5, 60)
    assert level.look(60 + CLEAR_S - 1)
    assert not level.look(60 + CLEAR_S)


def test_a_slow_rise_under_noise_is_a_trend_with_its_slope() -> None:
    chance, trend = random.Random(1), Trend(10)
    for point in range(60):
        trend.see(0.4 + 0.002 * point + chance.gauss(0, 0.01), 10.0 * point)
    assert trend.rising
    assert trend.per_s == pytest.approx(0.0002, rel=0.25)
    assert 900 < trend.reaches_in_s(0.8) < 2100


def test_noise_alone_is_a_trend_in_fewer_than_one_of_a_thousand_series() -> None:
    chance = random.Random(2)
    found = 0
    for _ in range(1000):
        trend = Trend(1, 30)
        for point in range(30):
            trend.see(chance.gauss(0, 1), point)
        found += trend.rising
    assert found <= 1


def test_a_fall_a_spike_and_a_single_step_are_no_trend() -> None:
    for series in ([60.0 - point for point in range(60)], [1.0] * 59 + [9.0], [1.0] * 55 + [2.0] * 5):
        trend = Trend(1)
        for point, value in enumerate(series):
            trend.see(value, point)
        assert not trend.rising
        assert trend.reaches_in_s(10) == math.inf


def test_the_score_of_a_sliding_trend_is_that_of_its_points_alone() -> None:
    chance = random.Random(3)
    values = [chance.gauss(0, 1) for _ in range(200)]
    sliding, fresh = Trend(1, 25), Trend(1, 25)
    for point, value in enumerate(values):
        sliding.see(value, point)
    for point, value in enumerate(values[-25:]):
        fresh.see(value, point)
    assert sliding._score == fresh._score


def test_points_too_near_each_other_are_left_out_and_a_new_process_begins_anew() -> None:
    trend = Trend(10)
    assert [trend.see(1, now) for now in (0, 5, 10)] == [True, False, True]
    trend.clear()
    assert trend.per_s == 0


def test_a_burst_stands_until_half_of_it_has_left_the_window() -> None:
    burst = Burst(12, 60)
    for now in range(0, 48, 4):
        burst.add(1, now, f"failure {now}")
    assert burst.look(48)
    assert (burst.count, burst.last) == (12, "failure 44")
    assert burst.look(75)
    assert not burst.look(100)


def test_the_same_number_over_a_longer_time_is_no_burst() -> None:
    burst = Burst(12, 60)
    for now in range(0, 600, 10):
        burst.add(1, now)
        assert not burst.standing
