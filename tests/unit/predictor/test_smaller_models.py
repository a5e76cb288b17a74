"""A file made smaller by the trainer, served: it is taken in like any other, and answers nearly as the full one."""

from pathlib import Path

import numpy as np
import pytest

from lepton.contracts import pipeline
from lepton.contracts.modelling.blocks import Export, Parameters
from services.trainer.core.export.session import Session
from services.trainer.core.learning import Given, learn
from services.trainer.core.preparing.rows import inputs_of
from tests.unit.predictor.learnt import Learnt, predict
from tests.unit.predictor.world import world
from tests.unit.trainer import samples

SPEC = pipeline.parse(
    "apiVersion: lepton/v1\nkind: Pipeline\nmetadata: {name: tumours}\nevents:\n  fields:\n"
    + "".join(f"    f{place}: {{type: float}}\n" for place in range(30)) + "  label: {field: benign, type: bool}\n")


@pytest.mark.parametrize("precision", ["dynamic_int8", "static_int8", "fp16"])
async def test_it_is_served_and_answers_as_the_full_one_but_for_little(tmp_path: Path, precision: str) -> None:
    plan, rows = samples.breast_cancer(family="mlp", parameters=Parameters(hidden=(32,), epochs=6))
    full = learn(plan, Given(rows), [])
    plan = plan.model_copy(update={"input_schema_digest": SPEC.input_schema_digest(),
                                   "export": Export.model_validate({"precision": precision, "max_cost": 0.05})})
    small = learn(plan, Given(rows), [])
    assert len(small.exported.data) < len(full.exported.data)
    some = rows.slice(0, 50)
    async with world(tmp_path) as here:
        await here.registry.create("tumours", partitions=2)
        await here.registry.announce_spec(SPEC)
        await here.registry.publish("tumours", Learnt(plan, small))
        await here.metric('lepton_predictor_model_version{model="tumours",provider="CPUExecutionProvider"} 1.0')
        told = await predict(here, "tumours", some.select([field.name for field in plan.fields]).to_pylist())
    served = [one.probabilities["true"] for one in told.rows]
    wide = Session(full.exported.data).answers(inputs_of(plan.fields, some))["probabilities"]
    assert np.abs(np.array(served) - wide[:, 1]).mean() < 0.02
