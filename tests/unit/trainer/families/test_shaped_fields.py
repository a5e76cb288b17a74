"""Images, series and texts learnt from end to end: better than a guess, and answered by the file as by torch."""

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from services.trainer.core.export.session import Session, adversarial
from services.trainer.core.learning import Given, Learned, learn
from services.trainer.core.lessons.ready import along_of
from services.trainer.core.plan import Plan
from services.trainer.core.preparing.rows import Inputs, inputs_of
from services.trainer.core.preparing.series import FOLD_LIMIT
from services.trainer.core.transforming.fitting import fit, prepared_by
from tests.unit.trainer.families import shapes


def learnt(given: tuple[Plan, pa.Table]) -> Learned:
    return learn(given[0], Given(given[1]), [])


def answers(learned: Learned, plan: Plan, columns: dict[str, Any]) -> dict[str, np.ndarray]:
    """What the file says to rows of these columns; a field not among them is absent."""
    count = len(next(iter(columns.values())))
    table = shapes.rows([False] * count, {field: columns.get(field.name, [None] * count) for field in plan.fields})
    return Session(learned.exported.data).answers(inputs_of(plan.fields, table))


def test_digits_are_read_by_a_cnn() -> None:
    learned = learnt(shapes.digits(900, epochs=6, channels=(8, 16)))
    assert learned.metrics["accuracy"] >= 0.95
    assert learned.metrics["baseline_accuracy"] < 0.2
    (pixels, _) = learned.exported.inputs
    assert (pixels.datatype, list(pixels.shape), pixels.padded) == ("FP32", [-1, 64], False)


def test_the_same_images_give_the_same_file_and_weights() -> None:
    first, again = (learnt(shapes.digits(200, epochs=1, channels=(4,))) for _ in range(2))
    assert (first.exported.data, first.weights) == (again.exported.data, again.weights)


@pytest.mark.parametrize("family", ["logistic_regression", "mlp"])
def test_other_families_take_pixels_as_columns(family: str) -> None:
    assert learnt(shapes.digits(600, family, epochs=10)).metrics["accuracy"] >= 0.85


@pytest.mark.parametrize("family", ["rnn", "lstm", "gru", "transformer", "cnn"])
def test_series_of_any_length_are_learnt(family: str) -> None:
    plan, rows = shapes.walks(family, epochs=8, units=8, heads=2)
    learned = learnt((plan, rows))
    assert learned.metrics["accuracy"] >= learned.metrics["baseline_accuracy"] + 0.2
    steps = learned.exported.inputs[0]
    assert (steps.datatype, list(steps.shape), steps.padded) == ("FP64", [-1, 12], True)
    said = answers(learned, plan, {"steps": [[1.0, 2.0, 4.0, 5.0], [-1.0, -2.0, -4.0, -5.0]]})
    assert said["label"].tolist() == [True, False]


@pytest.mark.parametrize("family", ["transformer", "rnn", "lstm", "gru", "cnn"])
def test_texts_are_learnt_by_their_words(family: str) -> None:
    plan, rows = shapes.notes(family, epochs=8, units=16, learning_rate=0.02)
    learned = learnt((plan, rows))
    assert learned.metrics["accuracy"] >= 0.9
    usual = ["please make it warmer", "switch off the lights"]
    odd = ["PLEASE make it Warmer!", "  Switch   off the LIGHTS."]
    said = answers(learned, plan, {"note": usual + odd})
    assert said["label"].tolist() == [True, False, True, False]
    # Case and the marks behind a word are nothing to a model; how many blanks there are neither.
    np.testing.assert_array_equal(said["probabilities"][:2], said["probabilities"][2:])


def test_words_nobody_has_seen_are_alike_and_an_empty_text_is_answered() -> None:
    plan, rows = shapes.notes("transformer", epochs=2, units=8, heads=2)
    learned = learnt((plan, rows))
    said = answers(learned, plan, {"note": ["zyx make it", "qwerty make it", "", None, " ", "make it " * 500]})
    shares = said["probabilities"]
    np.testing.assert_array_equal(shares[0], shares[1])
    assert np.isfinite(shares).all()
    np.testing.assert_array_equal(shares[2:5], shares[[2, 2, 2]])


@pytest.mark.parametrize("field", ["pixels", "steps"])
def test_a_value_that_is_not_there_is_as_good_as_none(field: str) -> None:
    plan, rows = shapes.digits(200, epochs=1) if field == "pixels" else shapes.walks("gru", epochs=1)
    learned = learnt((plan, rows))
    length = plan.fields[0].tail[0]
    lacking = [float("nan")] * length
    said = answers(learned, plan, {field: [None, lacking, [float("inf")] * length]})
    np.testing.assert_array_equal(said["probabilities"][1:], said["probabilities"][:1].repeat(2, axis=0))


def test_a_vector_with_too_few_numbers_says_nothing_and_a_sequence_with_too_many_is_cut() -> None:
    plan = shapes.plan("gru", shapes.PIXELS, shapes.STEPS)
    table = shapes.rows([True] * 3, {shapes.PIXELS: [[1.0] * 64, [1.0] * 63, None],
                                     shapes.STEPS: [[1.0] * 3, list(range(20)), []]})
    inputs = inputs_of(plan.fields, table)
    assert inputs.missing.tolist() == [[False, False], [True, False], [True, False]]
    assert inputs.values["steps"][1].tolist() == list(range(12))
    assert np.isnan(inputs.values["steps"][0, 3:]).all()


def readied(given: tuple[Plan, pa.Table]) -> np.ndarray:
    """A plan's rows as its network takes them, everything frozen in these very rows."""
    plan, rows = given
    inputs = inputs_of(plan.fields, rows)
    return fit(plan.fields, plan.outliers, inputs, along_of(plan)).transform(inputs)


def test_pixels_are_scaled_all_together_for_a_cnn_and_each_by_itself_as_columns() -> None:
    image, columns = readied(shapes.digits(300)), readied(shapes.digits(300, "mlp"))
    assert (image.mean(), image.std()) == (pytest.approx(0.0, abs=1e-5), pytest.approx(1.0, abs=1e-5))
    # What is never inked stays the darkest of all: the image is not bent.
    np.testing.assert_allclose(image[:, 0], image.min(), atol=1e-6)
    pixels = np.array(shapes.digits(300)[1].column("pixels").to_pylist())
    varied = pixels.std(axis=0) > 0
    np.testing.assert_allclose(columns.mean(axis=0), 0.0, atol=1e-5)
    np.testing.assert_allclose(columns.std(axis=0), np.where(varied, 1.0, 0.0), atol=1e-5)
    assert not varied[0]


def test_a_sequence_is_scaled_by_the_values_that_it_has() -> None:
    chance = np.random.default_rng(8)
    steps = [chance.normal(50.0, 4.0, length).tolist() for length in (3, 12, 5, 8) * 20]
    rows = shapes.rows([True] * len(steps), {shapes.STEPS: steps})
    values, there = np.split(readied((shapes.plan("gru", shapes.STEPS), rows)), 2, axis=1)
    assert there.sum(axis=1).tolist() == [len(one) for one in steps]
    known = values[there == 1]
    assert (known.mean(), known.std()) == (pytest.approx(0.0, abs=1e-5), pytest.approx(1.0, abs=1e-5))
    assert not values[there == 0].any()


def test_extreme_values_leave_the_preparation_finite_and_bounded() -> None:
    for given in (shapes.digits(100, epochs=1), shapes.walks("rnn", 100, epochs=1), shapes.notes("rnn", 100, epochs=1)):
        learned = learnt(given)
        strange = adversarial(learned.preparation)
        prepared = learned.preparation.transform(strange)
        assert np.isfinite(prepared).all()
        for span in learned.preparation.layout.spans:
            if span.kind in ("vector", "sequence"):
                assert np.abs(prepared[:, span.start:span.start + span.width]).max() == FOLD_LIMIT


@pytest.mark.parametrize("family", ["lstm", "gru", "rnn", "transformer", "cnn"])
def test_no_rows_are_no_end_of_the_process(family: str) -> None:
    plan, rows = shapes.walks(family, 100, epochs=1)
    learned = learnt((plan, rows))
    empty: Inputs = inputs_of(plan.fields, rows.slice(0, 0))
    assert Session(learned.exported.data).answers(empty)["probabilities"].shape == (0, 2)


def test_what_is_kept_of_a_preparation_makes_an_equal_one() -> None:
    fields = (shapes.PIXELS, shapes.STEPS, shapes.NOTE)
    table = shapes.rows([True, False] * 20, {
        shapes.PIXELS: [[float(number)] * 64 for number in range(40)],
        shapes.STEPS: [[1.0, number] for number in range(40)],
        shapes.NOTE: ["Good day, sir", "good night"] * 20})
    learned = learn(shapes.plan("transformer", *fields, epochs=1), Given(table), [])
    kept = prepared_by(learned.preparation.to_data())
    strange = adversarial(kept)
    assert kept == learned.preparation
    np.testing.assert_array_equal(kept.transform(strange), learned.preparation.transform(strange))
