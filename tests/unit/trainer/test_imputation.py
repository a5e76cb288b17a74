"""Missing numbers predicted from the row's others, and outlying ones that count as missing, in torch and ONNX."""

from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from sklearn.linear_model import Ridge

from lepton.contracts.modelling.blocks import Parameters
from lepton.contracts.pipeline_blocks import FieldType, MissingPolicy, Outliers
from services.trainer.core.export import session
from services.trainer.core.export.graph import export
from services.trainer.core.filling.ridge import PENALTY, fit, impute
from services.trainer.core.learning import Given, learn
from services.trainer.core.preparing.field import PlannedField
from services.trainer.core.preparing.numbers import Numbers
from services.trainer.core.preparing.rows import Inputs, inputs_of
from services.trainer.core.transforming.fitting import fit as prepare
from services.trainer.core.transforming.fitting import prepared_by
from tests.unit.trainer import samples

MODEL = MissingPolicy.model_validate("model")
MEAN = MissingPolicy.model_validate("mean")


def planned(kinds: dict[str, FieldType], predicted: tuple[str, ...]) -> list[PlannedField]:
    return [PlannedField(name=name, type=kind, missing=MODEL if name in predicted else MEAN)
            for name, kind in kinds.items()]


def related(rows: int = 400) -> dict[str, np.ndarray[Any, Any]]:
    """`c` is 3a - b + noise."""
    chance = np.random.default_rng(4)
    a, b = chance.normal(10, 2, rows), chance.normal(-5, 1, rows)
    return {"a": a, "b": b, "c": 3 * a - b + chance.normal(0, 0.1, rows)}


def with_gaps(columns: dict[str, np.ndarray[Any, Any]], every: int = 7) -> pa.Table:
    return pa.table({name: pa.array(np.where(np.arange(len(values)) % every == place, np.nan, values),
                                    from_pandas=True) for place, (name, values) in enumerate(columns.items())})


def test_a_gap_is_filled_with_what_the_other_numbers_say() -> None:
    truth = related()
    fields = planned({"a": "float", "b": "float", "c": "float"}, ("c",))
    rows = inputs_of(fields, with_gaps(truth))
    prepared = prepare(fields, Outliers(), rows)
    found = prepared.transform(rows)[:, 2]
    number = samples.part(prepared, Numbers).numbers[2]
    gaps = np.flatnonzero(rows.missing[:, 2])
    predicted = found[gaps] * number.scale + number.center
    by_mean = np.abs(truth["c"][gaps] - number.fill).mean()
    assert np.abs(predicted - truth["c"][gaps]).mean() < by_mean / 10
    there = np.flatnonzero(~rows.missing[:, 2])
    assert found[there] * number.scale + number.center == pytest.approx(truth["c"][there], rel=1e-5)


def test_the_weights_are_those_of_a_ridge_regression() -> None:
    chance = np.random.default_rng(1)
    standard = chance.normal(size=(60, 4))
    absent = chance.random((60, 4)) < 0.2
    one = fit("x", 1, standard, absent)
    have = ~absent[:, 1]
    peer = Ridge(alpha=PENALTY).fit(standard[have][:, [0, 2, 3]], standard[have, 1])
    assert np.array(one.weights)[[0, 2, 3]] == pytest.approx(peer.coef_)
    assert one.weights[1] == 0.0
    assert one.offset == pytest.approx(peer.intercept_)


def test_a_prediction_stays_within_what_training_rows_had() -> None:
    fields = planned({"a": "float", "b": "float", "c": "float"}, ("c",))
    prepared = prepare(fields, Outliers(), inputs_of(fields, with_gaps(related())))
    wild = inputs_of(fields, pa.table({"a": [1e9, -1e9], "b": [0.0, 0.0], "c": pa.array([None, None], pa.float64())}))
    part = samples.part(prepared, Numbers)
    number, one = part.numbers[2], part.imputers[0]
    assert prepared.transform(wild)[:, 2] == pytest.approx([one.high, one.low], rel=1e-5)
    assert prepared.statistics[2].max == pytest.approx(one.high * number.scale + number.center)


def test_fields_that_predict_each_other_are_read_before_either_is_filled() -> None:
    fields = planned({"a": "float", "b": "float", "c": "float"}, ("a", "c"))
    prepared = prepare(fields, Outliers(), inputs_of(fields, with_gaps(related())))
    both = inputs_of(fields, pa.table({"a": pa.array([None], pa.float64()), "b": [-5.0],
                                       "c": pa.array([None], pa.float64())}))
    part = samples.part(prepared, Numbers)
    standard, absent = part.standardised(both)
    assert (impute(part.imputers, part.names, standard, absent)
            == impute(part.imputers[::-1], part.names, standard, absent)).all()


@pytest.mark.parametrize("rows", [0, 1, 3])
def test_next_to_no_rows_still_give_finite_numbers(rows: int) -> None:
    fields = planned({"a": "float", "b": "float", "c": "float"}, ("a", "b", "c"))
    some = inputs_of(fields, with_gaps(related(), every=4).slice(0, rows))
    later = inputs_of(fields, pa.table({name: pa.array([None, 1.0], pa.float64()) for name in "abc"}))
    assert np.isfinite(prepare(fields, Outliers(), some).transform(later)).all()


def test_an_outlying_value_counts_as_missing_where_the_pipeline_nulls_it() -> None:
    values = [0.0, 1.0, 2.0, 3.0, 4.0, 1000.0, None]
    fields = planned({"x": "float"}, ())
    rows = inputs_of(fields, pa.table({"x": pa.array(values, pa.float64())}))
    prepared = prepare(fields, Outliers(method="iqr", action="null"), rows)
    assert samples.part(prepared, Numbers).numbers[0].fill == 2.0
    found = prepared.transform(rows)[:, 0]
    assert found[5] == found[6] == found[2]
    assert prepared.statistics[0].max == 1000.0
    assert (prepared.statistics[0].missing, prepared.statistics[0].count) == (1, 6)


def test_half_space_trees_judge_rows_in_ingest_and_give_a_model_no_bounds() -> None:
    fields = planned({"a": "float", "b": "float", "c": "float"}, ())
    prepared = prepare(fields, Outliers(method="half_space_trees", action="quarantine"),
                       inputs_of(fields, with_gaps(related())))
    assert not any(one.HasField("outlier_low") for one in prepared.statistics)


def test_what_is_nulled_is_predicted_where_gaps_are() -> None:
    columns = related()
    fields = planned({"a": "float", "b": "float", "c": "float"}, ("c",))
    rows = inputs_of(fields, pa.table({**columns, "c": np.where(np.arange(400) == 3, 1e6, columns["c"])}))
    prepared = prepare(fields, Outliers(method="iqr", action="null"), rows)
    number = samples.part(prepared, Numbers).numbers[2]
    assert prepared.transform(rows)[3, 2] * number.scale + number.center == pytest.approx(columns["c"][3], abs=0.5)


def test_a_preparation_with_all_of_it_survives_its_written_form() -> None:
    fields = planned({"a": "float", "b": "float", "c": "float"}, ("c",))
    prepared = prepare(fields, Outliers(method="mad", action="null"), inputs_of(fields, with_gaps(related())))
    assert prepared_by(prepared.to_data()) == prepared
    before = {"fields": list(prepared.fields), "numbers": samples.part(prepared, Numbers).to_data()["numbers"],
              "choices": [], "statistics": prepared.to_data()["statistics"]}
    assert samples.part(prepared_by(before), Numbers).imputers == ()


@pytest.mark.parametrize("action", ["null", "clip", "keep"])
def test_the_exported_file_answers_as_torch_does(action: Any) -> None:
    plan, rows = samples.mixed(family="mlp", parameters=Parameters(hidden=(8,), epochs=3),
                               outliers=Outliers(method="iqr", action=action, k=0.5))
    plan = plan.model_copy(update={"fields": tuple(
        one.model_copy(update={"missing": MODEL}) if one.type in ("float", "int") else one for one in plan.fields)})
    learned = learn(plan, Given(rows), [])  # raises unless torch and ONNX agree, adversarial rows included
    assert [one.field for one in samples.part(learned.preparation, Numbers).imputers] == ["amount", "visits"]
    running = session.Session(learned.exported.data)
    row = inputs_of(plan.fields, rows).take(np.array([50, 50, 50]))
    row.values["amount"][:] = [1e6, 5.0, 7.0]
    row.missing[:, 0] = [False, True, True]
    answers = running.answers(row)["probabilities"]
    assert np.array_equal(answers[1], answers[2])
    assert np.array_equal(answers[0], answers[1]) == (action == "null")


def test_the_graph_without_them_is_the_graph_of_before() -> None:
    plan, rows = samples.mixed(parameters=Parameters(epochs=1))
    assert not {"ai.onnx::MatMul", "ai.onnx::Less", "ai.onnx::Greater"} & set(
        learn(plan, Given(rows), []).exported.operators)


def test_a_file_whose_weights_are_not_those_of_the_preparation_is_told_apart() -> None:
    fields = planned({"a": "float", "b": "float", "c": "float"}, ("c",))
    rows = inputs_of(fields, with_gaps(related()))
    prepared = prepare(fields, Outliers(), rows)
    target = learn(*_small(), []).target
    layers = [(np.ones((1, 3), np.float32), np.zeros(1, np.float32))]
    said = session.Session(export(prepared, samples.Layers(layers), target).data).answers(rows)
    session.check_parity(said, prepared.transform(rows) @ layers[0][0].T, target, "rows")
    without = replace(prepared, parts=(Numbers(samples.part(prepared, Numbers).numbers),))
    with pytest.raises(Exception, match="does not answer as the trained one"):
        session.check_parity(said, without.transform(rows) @ layers[0][0].T, target, "rows")


def _small() -> tuple[Any, Given]:
    columns = {"a": list(range(40)), "b": [1.0] * 40, "c": [2.0] * 40}
    kinds: dict[str, FieldType] = {"a": "float", "b": "float", "c": "float"}
    plan = samples.plan(kinds, task="regression", label_type="float", family="linear_regression",
                        parameters=Parameters(epochs=1))
    return plan, Given(samples.rows(columns, [float(value) for value in range(40)], kinds))


def test_absent_rows_are_no_rows() -> None:
    fields = planned({"a": "float", "b": "float", "c": "float"}, ("c",))
    prepared = prepare(fields, Outliers(), inputs_of(fields, with_gaps(related())))
    assert prepared.transform(Inputs({name: np.zeros(0) for name in "abc"}, np.zeros((0, 3), bool))).shape == (0, 3)
