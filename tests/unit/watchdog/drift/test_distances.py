"""Distances and their chances against figures known from elsewhere, and adaptive windowing against streams."""

import math
import random

import pytest
from scipy import stats

from services.watchdog.core.drift.adwin import Adwin
from services.watchdog.core.drift.distances import (
    chi_square,
    holm,
    jensen_shannon,
    kolmogorov_smirnov,
    more_often,
    psi,
)
from services.watchdog.core.drift.shapes import below, binned, quantile_edges


def test_equal_shares_are_no_distance_apart_however_many_rows_there_are() -> None:
    assert psi([1000, 2000, 1000], [10_000, 20_000, 10_000]) < 1e-5
    assert jensen_shannon([1000, 2000, 1000], [10_000, 20_000, 10_000]) < 0.01
    assert kolmogorov_smirnov([100, 200], [200, 400]) == (0.0, 1.0)


def test_psi_is_that_of_its_definition_and_an_empty_bin_is_no_infinity() -> None:
    expected = (0.8 - 0.5) * math.log(0.8 / 0.5) + (0.2 - 0.5) * math.log(0.2 / 0.5)
    assert psi([50_000, 50_000], [80_000, 20_000]) == pytest.approx(expected, rel=1e-3)
    assert 1 < psi([500, 500], [1000, 0]) < 10


def test_jensen_shannon_is_one_where_nothing_is_in_common() -> None:
    assert jensen_shannon([1e9, 0], [0, 1e9]) == pytest.approx(1.0, abs=1e-3)


def test_kolmogorov_smirnov_and_chi_square_agree_with_scipy() -> None:
    one, other = [100.0, 150, 120, 130], [150.0, 140, 110, 100]
    distance, chance = kolmogorov_smirnov(one, other)
    first = [place for place, count in enumerate(one) for _ in range(int(count))]
    second = [place for place, count in enumerate(other) for _ in range(int(count))]
    known = stats.ks_2samp(first, second, method="asymp")
    assert distance == pytest.approx(known.statistic)
    assert chance == pytest.approx(known.pvalue, rel=0.35)
    assert chi_square(one, other) == pytest.approx(stats.chi2_contingency([one, other]).pvalue, rel=0.1)


def test_more_often_is_about_the_binomial_tail() -> None:
    assert more_often(0.1, 35, 200) == pytest.approx(stats.binom.sf(34, 200, 0.1), rel=0.8)
    assert more_often(0.1, 20, 200) > 0.4
    assert more_often(0.0, 40, 200) < 1e-12


def test_holm_finds_what_is_significant_together_and_nothing_after_the_first_that_is_not() -> None:
    assert holm({"a": 0.001, "b": 0.02, "c": 0.03, "d": 0.9}, 0.05) == {"a"}
    assert holm({"a": 0.001, "b": 0.01, "c": 0.02, "d": 0.9}, 0.05) == {"a", "b", "c"}
    assert holm({}, 0.05) == frozenset()


def test_forty_fields_of_noise_hardly_ever_alarm_together() -> None:
    chance, alarms = random.Random(1), 0
    for _ in range(300):
        alarms += bool(holm({str(field): chance.random() for field in range(40)}, 0.01))
    assert alarms <= 9


def test_a_histogram_is_cut_anywhere_even_within_a_bin_or_at_a_single_value() -> None:
    assert below(((0.0, 10.0), (100.0,)), 2.5) == 25
    assert below(((5.0, 5.0), (7.0,)), 5.0) == 7
    assert below(((5.0, 5.0), (7.0,)), 4.9) == 0
    assert binned([2.5, 20.0], ((0.0, 10.0), (100.0,))) == [25, 75, 0]


def test_edges_part_the_rows_into_about_equal_shares() -> None:
    histograms = [(tuple(float(edge) for edge in range(101)), (1.0,) * 100)] * 5
    edges = quantile_edges(histograms)
    assert len(edges) == 19
    assert binned(edges, histograms[0]) == pytest.approx([5.0] * 20, abs=1.1)


def test_adwin_finds_a_change_soon_and_forgets_what_was_before() -> None:
    chance, adwin = random.Random(2), Adwin()
    for _ in range(500):
        adwin.see(chance.gauss(0, 1))
    found = next(number for number in range(300) if adwin.see(chance.gauss(2, 1)))
    assert found < 30
    for _ in range(100):
        adwin.see(chance.gauss(2, 1))
    assert adwin.mean > 1.5


def test_adwin_is_quiet_on_a_stream_that_stays_and_its_memory_is_flat() -> None:
    chance, adwin, cuts = random.Random(3), Adwin(), 0
    for _ in range(10_000):
        cuts += adwin.see(chance.gauss(0, 1))
    assert cuts <= 1
    assert adwin.count > 5_000
    assert sum(len(row) for row in adwin._sizes) < 100


def test_adwin_follows_a_slow_change() -> None:
    chance, adwin, cuts = random.Random(4), Adwin(), 0
    for number in range(2_000):
        cuts += adwin.see(chance.gauss(number / 1_000, 1))
    assert cuts
    assert adwin.mean > 1.2
