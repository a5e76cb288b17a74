"""The example of digits reads nearly every image it has never seen."""

from pathlib import Path

from examples.digits.data import LEARNT_FROM, images
from lepton.contracts import pipeline
from services.trainer.core.export.session import Session
from services.trainer.core.learning import Given, learn
from services.trainer.core.plan import planned_fields
from services.trainer.core.preparing.rows import inputs_of
from tests.unit.trainer import samples
from tests.unit.trainer.families import shapes

SPEC = pipeline.parse((Path(__file__).parents[4] / "examples" / "digits" / "pipeline.yaml").read_text())


def test_the_example_reads_digits_it_has_never_seen() -> None:
    model, gate = SPEC.model, SPEC.gate
    assert model is not None
    assert gate is not None
    assert model.train.first_rows == LEARNT_FROM
    plan = samples.plan({}, family=model.family, label_type="int", parameters=model.parameters, gate=gate).model_copy(
        update={"fields": planned_fields(SPEC)})
    (field,) = plan.fields
    first, rest = (shapes.rows([one.digit for one in some], {field: [one.pixels for one in some]})
                   for some in (images()[:LEARNT_FROM], images()[LEARNT_FROM:]))
    learned = learn(plan, Given(first), [])
    assert learned.metrics["accuracy"] >= (gate.at_least or 1)
    said = Session(learned.exported.data).answers(inputs_of(plan.fields, rest))["label"]
    right = sum(digit == one.digit for digit, one in zip(said.tolist(), images()[LEARNT_FROM:], strict=True))
    assert right / rest.num_rows >= 0.985
