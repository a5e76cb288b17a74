"""Statistics and transforms beside plain numpy; what is absent, constant, outlying or never seen."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from lepton.contracts.pipeline_blocks import MissingPolicy, Outliers
from services.trainer.core.preparing.choices import Choices
from services.trainer.core.preparing.field import PlannedField
from services.trainer.core.preparing.numbers import Numbers
from services.trainer.core.preparing.rows import Inputs, inputs_of
from services.trainer.core.transforming.fitting import fit, prepared_by
from tests.unit.trainer import samples

NONE = Outliers()


def field(name: str, kind: Any, missing: Any = "mean", categories: tuple[str, ...] | None = None) -> PlannedField:
    return PlannedField(name=name, type=kind, missing=MissingPolicy.model_validate(missing), categories=categories)


def inputs(fields: list[PlannedField], **columns: Any) -> Inputs:
    return inputs_of(fields, pa.table(columns))


def floats(values: Sequence[float | None]) -> pa.Array:
    return pa.array(values, pa.float64())


def test_statistics_of_a_number_are_those_of_its_present_values() -> None:
    values = [3.0, None, 1.0, 2.0, 2.0, float("nan"), 8.0]
    fields = [field("x", "float")]
    (found,) = fit(fields, NONE, inputs(fields, x=floats(values))).statistics
    present = np.array([3.0, 1.0, 2.0, 2.0, 8.0])
    assert (found.count, found.missing) == (5, 2)
    assert (found.mean, found.std) == (present.mean(), present.std())
    assert (found.q1, found.median, found.q3) == tuple(np.quantile(present, [0.25, 0.5, 0.75]))
    assert (found.min, found.max, found.mode) == (1.0, 8.0, "2.0")
    assert not found.HasField("outlier_low")


@pytest.mark.parametrize(("outliers", "low", "high"), [
    (Outliers(method="iqr", k=1.0), 1.0 - 2.0, 3.0 + 2.0),
    (Outliers(method="zscore", k=2.0), 2.0 - 2.0 * np.sqrt(2), 2.0 + 2.0 * np.sqrt(2)),
    (Outliers(method="mad", k=1.0), 2.0 - 1.4826, 2.0 + 1.4826)])
def test_outlier_bounds_follow_their_method(outliers: Outliers, low: float, high: float) -> None:
    fields = [field("x", "float")]
    (found,) = fit(fields, outliers, inputs(fields, x=floats([0.0, 1.0, 2.0, 3.0, 4.0]))).statistics
    assert (found.outlier_low, found.outlier_high) == pytest.approx((low, high))


def test_a_field_most_rows_of_which_agree_has_no_outliers() -> None:
    # Its interquartile range is 0: every other value would be clipped away, and with it all it could teach.
    fields = [field("x", "float")]
    rows = inputs(fields, x=floats([0.0] * 9 + [1.0]))
    prepared = fit(fields, Outliers(method="iqr", action="clip"), rows)
    assert not prepared.statistics[0].HasField("outlier_low")
    assert len(np.unique(prepared.transform(rows))) == 2


def test_numbers_are_filled_clipped_and_standardised() -> None:
    fields = [field("x", "float", "median")]
    rows = inputs(fields, x=floats([0.0, 1.0, 2.0, 3.0, 4.0, 100.0, None]))
    prepared = fit(fields, Outliers(method="iqr", action="clip", k=1.5), rows)
    high = prepared.statistics[0].outlier_high
    seen = np.array([0.0, 1.0, 2.0, 3.0, 4.0, high, 2.5])
    assert prepared.transform(rows)[:, 0] == pytest.approx((seen - seen.mean()) / seen.std(), abs=1e-6)
    assert prepared.outside(rows).tolist() == [False] * 5 + [True, False]


@pytest.mark.parametrize(("policy", "value"), [
    ("mean", 5.0), ("median", 2.0), ("mode", 1.0), ({"constant": 42}, 42.0), ("drop", 5.0)])
def test_an_absent_number_is_filled_by_its_policy(policy: Any, value: float) -> None:
    fields = [field("x", "float", policy)]
    prepared = fit(fields, NONE, inputs(fields, x=floats([1.0, 1.0, 3.0, 15.0, None])))
    assert samples.part(prepared, Numbers).numbers[0].fill == pytest.approx(value)


def test_flags_and_integers_are_numbers_too() -> None:
    fields = [field("yes", "bool", "mode"), field("count", "int", "mode")]
    rows = inputs(fields, yes=pa.array([True, True, False, None]), count=pa.array([7, 7, None, 1], pa.int64()))
    prepared = fit(fields, NONE, rows)
    assert prepared.transform(rows)[:, 0].tolist() == [1.0, 1.0, 0.0, 1.0]
    assert [one.mode for one in prepared.statistics] == ["true", "7"]


def test_categories_are_one_hot_with_a_column_for_the_unknown() -> None:
    fields = [field("c", "category", "mode")]
    rows = inputs(fields, c=pa.array(["b", "a", "b", "a", "b", "once", None], pa.string()))
    prepared = fit(fields, NONE, rows)
    assert samples.part(prepared, Choices).choices[0].categories == ("a", "b")
    assert prepared.transform(rows).tolist() == [
        [0, 0, 1], [0, 1, 0], [0, 0, 1], [0, 1, 0], [0, 0, 1], [1, 0, 0], [0, 0, 1]]


def test_declared_categories_are_taken_as_they_are() -> None:
    fields = [field("c", "category", {"constant": "z"}, categories=("x", "y", "z"))]
    rows = inputs(fields, c=pa.array(["y", None], pa.string()))
    assert fit(fields, NONE, rows).transform(rows).tolist() == [[0, 0, 1, 0], [0, 0, 0, 1]]


def test_fields_that_were_never_present_still_take_values() -> None:
    fields = [field("x", "float"), field("c", "category", "mode")]
    nothing = inputs(fields, x=floats([None, None]), c=pa.array([None, None], pa.string()))
    prepared = fit(fields, NONE, nothing)
    later = inputs(fields, x=floats([3.0, None]), c=pa.array(["a", None], pa.string()))
    assert prepared.transform(later).tolist() == [[3.0, 1.0], [0.0, 1.0]]


def test_whatever_comes_in_comes_out_finite() -> None:
    fields = [field("x", "float"), field("n", "int")]
    prepared = fit(fields, NONE, inputs(fields, x=floats([1.0, 1.0 + 1e-9]), n=pa.array([1, 2], pa.int64())))
    wild = inputs(fields, x=floats([1.7e308, float("-inf"), None]), n=pa.array([2**63 - 1, -(2**63), None], pa.int64()))
    assert np.isfinite(prepared.transform(wild)).all()


def test_a_preparation_survives_its_written_form() -> None:
    fields = [field("x", "float"), field("c", "category", "mode")]
    prepared = fit(fields, Outliers(method="iqr", action="clip"),
                   inputs(fields, x=floats([1.0, 2.0, 3.5]), c=pa.array(["a", "a", "b"], pa.string())))
    assert prepared_by(prepared.to_data()) == prepared


def test_what_was_kept_before_there_were_parts_is_still_read() -> None:
    fields = [field("c", "category", "mode"), field("x", "float")]
    rows = inputs(fields, x=floats([1.0, 2.0, None]), c=pa.array(["a", "a", "b"], pa.string()))
    prepared = fit(fields, NONE, rows)
    now = prepared.to_data()
    numbers, choices = (next(one for one in now["parts"] if one["kind"] == kind) for kind in ("numbers", "choices"))
    before = {"fields": ["c", "x"], "numbers": numbers["numbers"], "choices": choices["choices"],
              "statistics": now["statistics"]}
    assert prepared_by(before) == prepared
    assert prepared_by({**before, "imputers": []}).transform(rows).tolist() == prepared.transform(
        rows).tolist()
