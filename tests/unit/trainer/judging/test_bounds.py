"""Numbers come with bounds that hold as often as the Pipeline asks, or without any where too few rows tell them."""

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from lepton.contracts.modelling.blocks import Parameters
from lepton.contracts.pipeline import InvalidPipeline, parse
from services.trainer.core.export.session import Session
from services.trainer.core.learning import Given, learn
from services.trainer.core.plan import Plan
from services.trainer.core.preparing.rows import inputs_of
from tests.unit.trainer import samples


def prices(count: int = 2000, **changes: Any) -> tuple[Plan, pa.Table]:
    """A number that follows another, but for noise of one standard deviation of 3."""
    chance = np.random.default_rng(6)
    size = chance.uniform(0, 20, count)
    return (samples.plan({"size": "float"}, task="regression", label_type="float", family="linear_regression",
                         parameters=Parameters(epochs=15, learning_rate=0.05), **changes),
            samples.rows({"size": size}, 40 + 5 * size + chance.normal(0, 3, count), {"size": "float"}))


@pytest.mark.parametrize(("share", "deviations"), [(0.9, 1.645), (0.5, 0.674)])
def test_the_truth_lies_between_the_bounds_as_often_as_asked(share: float, deviations: float) -> None:
    plan, rows = prices(interval=share)
    learned = learn(plan, Given(rows), [])
    assert learned.metrics["interval_coverage"] == pytest.approx(share, abs=0.08)
    assert learned.metrics["interval_width"] == pytest.approx(2 * 3 * deviations, rel=0.2)
    assert [one.name for one in learned.exported.outputs] == ["prediction", "low", "high"]
    found = Session(learned.exported.data).answers(inputs_of(plan.fields, rows.slice(0, 20)))
    width = learned.metrics["interval_width"]
    assert found["prediction"] - found["low"] == pytest.approx(np.full(20, width / 2), rel=1e-4)
    assert found["high"] - found["low"] == pytest.approx(np.full(20, width), rel=1e-4)


def test_who_asks_for_no_bounds_gets_none() -> None:
    plan, rows = prices(200)
    learned = learn(plan, Given(rows), [])
    assert [one.name for one in learned.exported.outputs] == ["prediction"]
    assert "interval_coverage" not in learned.metrics and not learned.warnings


def test_a_run_that_goes_on_has_bounds_of_its_own() -> None:
    plan, rows = prices(400)
    parent = learn(plan, Given(rows), [])
    bounded = learn(plan.model_copy(update={"interval": 0.8}), Given(rows, parent=parent.weights), [])
    assert bounded.carried and bounded.target.reach is not None
    assert learn(plan, Given(rows, parent=bounded.weights), []).target.reach is None


def test_too_few_rows_answer_without_bounds_and_say_so() -> None:
    plan, rows = prices(30, interval=0.99)
    learned = learn(plan, Given(rows), [])
    assert [one.name for one in learned.exported.outputs] == ["prediction"]
    assert any("without bounds" in one for one in learned.warnings)


@pytest.mark.parametrize(("label", "train", "said"), [
    ("bool", "", "only an answered number lies between bounds"),
    ("float", "train: {stream: {}}", "what is learnt from a stream has no bounds")])
def test_where_there_are_no_bounds_they_are_refused(label: str, train: str, said: str) -> None:
    with pytest.raises(InvalidPipeline, match=said):
        parse("apiVersion: lepton/v1\nkind: Pipeline\nmetadata: {name: x}\nevents:\n  fields: {a: {type: float}}\n"
              f"  label: {{field: y, type: {label}}}\nmodel:\n  family: mlp\n  {train}\nserve: {{interval: 0.9}}\n")
