"""The examples over images and series answer well to rows they have never seen."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from examples.digits import data as digits
from examples.motors import data as motors
from lepton.contracts import pipeline
from services.trainer.core.export.session import Session
from services.trainer.core.learning import Given, Learned, learn
from services.trainer.core.plan import planned_fields
from services.trainer.core.preparing.rows import inputs_of
from tests.unit.trainer import samples
from tests.unit.trainer.families import shapes

EXAMPLES = Path(__file__).parents[4] / "examples"


def tried(example: str, first: Sequence[Any], rest: Sequence[Any], label: str) -> tuple[Learned, float]:
    """What the example's Pipeline makes of `first`, and the share of `rest` that it answers rightly."""
    spec = pipeline.parse((EXAMPLES / example / "pipeline.yaml").read_text())
    assert spec.model is not None
    assert spec.model.train.first_rows == len(first)
    plan = samples.plan({}, family=spec.model.family, label_type=spec.label_type or "", gate=spec.gate,
                        parameters=spec.model.parameters).model_copy(update={"fields": planned_fields(spec)})
    known, unseen = (shapes.rows([getattr(one, label) for one in some], {
        field: [getattr(one, field.name) for one in some] for field in plan.fields}) for some in (first, rest))
    learned = learn(plan, Given(known), [])
    assert learned.metrics[plan.gate.metric] >= (plan.gate.at_least or 1)
    said = Session(learned.exported.data).answers(inputs_of(plan.fields, unseen))["label"]
    return learned, sum(answer == getattr(one, label) for answer, one in zip(said, rest, strict=True)) / len(rest)


def test_digits_never_seen_are_read() -> None:
    rows = digits.images()
    _, right = tried("digits", rows[:digits.LEARNT_FROM], rows[digits.LEARNT_FROM:], "digit")
    assert right >= 0.985


def test_bearings_that_will_fail_are_heard() -> None:
    rows = motors.recordings()
    learned, right = tried("motors", rows[:motors.LEARNT_FROM], rows[motors.LEARNT_FROM:], "failed")
    assert right >= 0.9
    assert learned.metrics["roc_auc"] >= 0.94
