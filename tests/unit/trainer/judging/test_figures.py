"""The arithmetic of a judgement, beside scikit-learn's and scipy's or counted by hand."""

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics

from services.trainer.core.dataset import HELD_OUT, TRAIN
from services.trainer.core.failure import RunFailed
from services.trainer.core.judging.answered import Answered
from services.trainer.core.judging.calibration import calibration
from services.trainer.core.judging.comparison import compare, mcnemar, wilcoxon
from services.trainer.core.judging.folds import Folds, by_chance, by_time, parts_of, roles_of
from services.trainer.core.judging.judge import last_value

CLASSES = ("no", "yes")


def yes_no(scores: np.ndarray, truth: np.ndarray) -> Answered:
    return Answered(np.stack([1 - scores, scores], axis=1), truth.astype(np.int64), CLASSES)


def coin(rows: int, right: float, seed: int = 3) -> tuple[Answered, np.ndarray]:
    """Answers of which a share is right, and what was true."""
    chance = np.random.default_rng(seed)
    truth = chance.integers(0, 2, rows)
    said = np.where(chance.random(rows) < right, truth, 1 - truth)
    return yes_no(np.where(said == 1, 0.8, 0.2), truth), truth


def test_probabilities_that_come_true_as_often_as_they_say_have_no_error() -> None:
    scores = np.repeat([0.25, 0.75], 400)
    truth = np.concatenate([np.arange(400) < 100, np.arange(400) < 300])
    found = calibration(yes_no(scores, truth))
    assert found.error == pytest.approx(0.0, abs=1e-12)
    assert [(one.said, one.rows) for one in found.bins] == [(0.25, 400), (0.75, 400)]
    # scikit-learn's score is of the second class alone; over both it is twice that.
    assert found.brier == pytest.approx(2 * metrics.brier_score_loss(truth, scores))


def test_a_boastful_model_is_off_by_what_it_boasts() -> None:
    assert calibration(yes_no(np.full(1000, 0.95), np.arange(1000) < 600)).error == pytest.approx(0.35)


def test_mcnemar_is_the_binomial_test_of_the_rows_where_one_alone_is_right() -> None:
    truth = np.ones(100)
    one, other = yes_no(np.where(np.arange(100) < 90, 0.9, 0.1), truth), yes_no(
        np.where(np.arange(100) >= 25, 0.9, 0.1), truth)
    # `one` alone is right on 25 rows, `other` alone on 10.
    assert mcnemar(one, other) == pytest.approx(stats.binomtest(10, 35).pvalue)
    assert mcnemar(one, one) == 1.0


def test_wilcoxon_is_scipys_normal_approximation_with_ties() -> None:
    differences = np.random.default_rng(1).normal(0.2, 1.0, 300).round(1)
    expected = stats.wilcoxon(differences[differences != 0], correction=False, method="approx").pvalue
    assert wilcoxon(differences) == pytest.approx(expected)
    assert wilcoxon(np.zeros(9)) == 1.0


def test_a_lead_that_many_rows_show_is_no_luck_and_one_of_few_rows_may_be() -> None:
    better, _ = coin(2000, 0.95)
    worse, _ = coin(2000, 0.85)
    sure = compare(better, worse, "accuracy")
    assert sure is not None
    assert sure.chance < 0.01
    assert sure.low < sure.lead < sure.high
    assert sure.low > 0
    few = np.arange(20)
    unsure = compare(better.take(few), worse.take(few), "accuracy")
    assert unsure is not None
    assert unsure.chance > sure.chance


def test_two_equal_models_have_no_lead_and_are_as_good_within_a_margin() -> None:
    same, _ = coin(500, 0.9)
    even = compare(same, same, "accuracy", 0.0)
    tolerated = compare(same, same, "accuracy", -0.02)
    assert even is not None
    assert (even.lead, even.chance, even.paired_chance) == (0.0, 1.0, 1.0)
    assert tolerated is not None
    assert tolerated.chance < 0.01


@pytest.mark.parametrize("metric", ["rmse", "mae", "r2"])
def test_numbers_are_compared_towards_better_whichever_way_that_is(metric: str) -> None:
    chance = np.random.default_rng(2)
    truth = chance.normal(size=400)
    near, far = Answered(truth + chance.normal(0, 0.1, 400), truth), Answered(truth + chance.normal(0, 0.5, 400), truth)
    found = compare(near, far, metric)
    assert found is not None
    assert found.lead > 0
    assert found.chance < 0.01
    assert found.paired_chance < 0.01


def test_a_metric_that_is_not_defined_on_the_rows_cannot_be_compared() -> None:
    only = yes_no(np.full(20, 0.7), np.ones(20))
    assert compare(only, only, "roc_auc") is None


def test_random_parts_cover_every_row_once_with_even_shares_of_each_class() -> None:
    labels = np.array([0] * 80 + [1] * 20)
    parts = by_chance(labels, 5, seed=7)
    assert np.sum([part.held_out for part in parts], axis=0).tolist() == [1] * 100
    assert [int(labels[part.held_out].sum()) for part in parts] == [4] * 5
    assert all(np.array_equal(one.held_out, other.held_out)
               for one, other in zip(parts, by_chance(labels, 5, seed=7), strict=True))


def test_parts_by_time_learn_only_of_what_came_before() -> None:
    parts = by_time(100, 4)
    assert [len(part.rows) for part in parts] == [40, 60, 80, 100]
    for part in parts:
        assert part.rows[part.held_out].min() == part.rows[~part.held_out].max() + 1


def test_a_part_alone_is_held_out() -> None:
    part = by_time(60, 2)[0]
    found = roles_of(part, np.full(60, TRAIN, dtype=np.int8))
    assert np.flatnonzero(found == HELD_OUT).tolist() == list(range(20, 40))
    assert len(found) == 40


def test_rows_too_few_for_so_many_parts_are_refused() -> None:
    with pytest.raises(RunFailed, match="12 rows are too few"):
        parts_of("chance", np.arange(12), 10, 7)


def test_the_summary_of_folds_has_the_mean_and_its_standard_error() -> None:
    found = Folds("chance", ({"accuracy": 0.8, "roc_auc": 0.9}, {"accuracy": 0.9})).summary()
    assert list(found) == ["accuracy"]
    assert found["accuracy"] == pytest.approx((0.85, 0.05))


def test_the_last_value_is_the_label_of_the_row_before() -> None:
    roles = np.array([HELD_OUT, TRAIN, HELD_OUT, HELD_OUT, HELD_OUT], dtype=np.int8)
    assert last_value("classification", np.array([0, 1, 1, 1, 0]), roles) == {
        "last_value_accuracy": pytest.approx(2 / 3)}
    assert last_value("regression", np.array([1.0, 2.0, 4.0, 4.0, 4.0]), roles)["last_value_mae"] == (
        pytest.approx(2 / 3))
    assert last_value("anomaly", np.zeros(5), roles) == {}
