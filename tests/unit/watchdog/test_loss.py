"""Metrics are those of the trainer, and loss is what exceeds both the drop and chance."""

import math
import random

import pytest
from sklearn import metrics

from services.watchdog.core.inputs import Judged
from services.watchdog.core.quality.join import Joiner, Prediction, as_label
from services.watchdog.core.quality.loss import Reference, Window, judge, measure
from services.watchdog.core.thresholds.limits import QualityRule


def classified(seed: int, count: int = 400, classes: tuple[str, ...] = ("false", "true")) -> list[Judged]:
    chance = random.Random(seed)
    rows = []
    for _ in range(count):
        truth, answer = chance.choice(classes), chance.choice(classes)
        score = chance.random()
        rows.append(Judged("p", 1, truth, answer, score if truth == classes[1] else 1 - score, score))
    return rows


def numbers(seed: int, count: int = 400, error: float = 1.0) -> list[Judged]:
    chance = random.Random(seed)
    return [Judged("p", 1, truth, truth + chance.gauss(0, error)) for truth in (chance.gauss(0, 3)
                                                                                for _ in range(count))]


@pytest.mark.parametrize(("metric", "theirs"), [
    ("accuracy", metrics.accuracy_score), ("precision", metrics.precision_score), ("recall", metrics.recall_score),
    ("f1", metrics.f1_score)])
def test_shares_of_two_classes_are_scikit_learns(metric: str, theirs) -> None:  # type: ignore[no-untyped-def]
    rows = classified(1)
    truth, answers = [row.truth for row in rows], [row.answer for row in rows]
    wanted = theirs(truth, answers) if metric == "accuracy" else theirs(truth, answers, pos_label="true")
    found = measure(metric, rows)
    assert found is not None
    assert found.value == pytest.approx(wanted)


def test_shares_of_more_classes_are_the_mean_over_them() -> None:
    rows = classified(2, classes=("a", "b", "c"))
    found = measure("f1", rows)
    assert found is not None
    assert found.value == pytest.approx(
        metrics.f1_score([row.truth for row in rows], [row.answer for row in rows], average="macro"))


def test_area_and_log_loss_are_scikit_learns() -> None:
    rows = classified(3)
    truth, scores = [row.truth == "true" for row in rows], [row.score for row in rows]
    area, loss = measure("roc_auc", rows), measure("log_loss", rows)
    assert area is not None
    assert loss is not None
    assert area.value == pytest.approx(metrics.roc_auc_score(truth, scores))
    assert loss.value == pytest.approx(metrics.log_loss(truth, scores))


@pytest.mark.parametrize(("metric", "theirs"), [
    ("mse", metrics.mean_squared_error), ("mae", metrics.mean_absolute_error), ("r2", metrics.r2_score),
    ("rmse", metrics.root_mean_squared_error)])
def test_metrics_of_numbers_are_scikit_learns(metric: str, theirs) -> None:  # type: ignore[no-untyped-def]
    rows = numbers(4)
    found = measure(metric, rows)
    assert found is not None
    assert found.value == pytest.approx(theirs([row.truth for row in rows], [row.answer for row in rows]))


@pytest.mark.parametrize("metric", ["accuracy", "roc_auc", "log_loss", "mse", "r2"])
def test_a_metric_without_fitting_rows_is_not_defined(metric: str) -> None:
    assert measure(metric, []) is None


def window(metric: str, rows: list[Judged], drop: float = 0.15, min_labels: int = 60) -> Window:
    made = Window(QualityRule(metric, 100, min_labels, drop))
    for row in rows:
        made.add(row)
    return made


def shares(right: int, wrong: int) -> list[Judged]:
    return [Judged("p", 1, "t", "t")] * right + [Judged("p", 1, "t", "f")] * wrong


@pytest.mark.parametrize(("right", "wrong", "lost"), [(90, 10, False), (76, 24, False), (60, 40, True), (0, 60, True)])
def test_accuracy_is_lost_past_the_drop(right: int, wrong: int, lost: bool) -> None:
    found = judge(window("accuracy", shares(right, wrong)), Reference(0.9, 200))
    assert found is not None
    assert found.lost is lost


def test_a_large_drop_on_few_rows_is_chance() -> None:
    found = judge(window("accuracy", shares(7, 3), min_labels=10), Reference(0.9, 200))
    assert found is not None
    assert not found.lost


def test_too_few_labels_say_nothing() -> None:
    assert judge(window("accuracy", shares(0, 59)), Reference(0.9, 200)) is None


def test_without_a_published_value_the_first_window_is_the_reference() -> None:
    made = window("accuracy", shares(95, 5))
    assert made.first == Reference(0.95, 100)
    for row in shares(0, 60):
        made.add(row)
    found = judge(made, None)
    assert found is not None
    assert found.lost


@pytest.mark.parametrize(("metric", "reference"), [("rmse", 1.0), ("mse", 1.0), ("mae", 0.8), ("r2", 0.89)])
def test_errors_of_numbers_are_lost_when_they_grow(metric: str, reference: float) -> None:
    same = judge(window(metric, numbers(5)), Reference(reference, 100))
    worse = judge(window(metric, numbers(6, error=3.0)), Reference(reference, 100))
    assert same is not None
    assert worse is not None
    assert (same.lost, worse.lost) == (False, True)


def test_a_reversed_ranking_is_lost() -> None:
    def ranked(good: bool) -> list[Judged]:
        return [Judged("p", 1, "t" if (number % 2 == 0) == good else "f", "t", 0.5, 0.9 if number % 2 == 0 else 0.1)
                for number in range(100)]

    well, reversed_ = (judge(window("roc_auc", ranked(good)), Reference(0.95, 100)) for good in (True, False))
    assert well is not None
    assert reversed_ is not None
    assert (well.lost, reversed_.lost) == (False, True)


def test_sure_and_wrong_answers_cost_log_loss() -> None:
    rows = [Judged("p", 1, "t", "f", 0.01, 0.01)] * 80
    found = judge(window("log_loss", rows), Reference(0.3, 100))
    assert found is not None
    assert found.lost
    assert math.isfinite(found.value)


def test_chances_follow_the_order_of_the_versions_classes() -> None:
    joiner = Joiner("p", classes={1: ("false", "true"), 2: ("a", "b", "c")})
    joiner.predicted("e1", Prediction(1, "true", (0.3, 0.7)))
    joiner.predicted("e2", Prediction(2, "a", (0.5, 0.3, 0.2)))
    joiner.predicted("e3", Prediction(2, "a", (0.5, 0.3, 0.2)))
    for event, truth in (("e1", "false"), ("e2", "c"), ("e3", "unknown")):
        joiner.turned_out(event, truth)
    assert [(row.chance, row.score) for row in joiner.take()] == [(0.3, 0.7), (0.2, None), (0.0, None)]


@pytest.mark.parametrize(("truth", "label"), [("a", "a"), (3.0, "3"), (2.5, "2.5")])
def test_an_outcome_reads_like_an_answer(truth: str | float, label: str) -> None:
    assert as_label(truth) == label
