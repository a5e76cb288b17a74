"""Each starter's Pipeline is whole, its run passes its gate on rows it has not seen, and others can go on from it."""

import json
from typing import Any

import pyarrow as pa
import pytest

from lepton.contracts import pipeline
from lepton.contracts.features import EVENT_ID
from lepton.contracts.modelling.blocks import Transfer
from lepton.errors import Invalid
from lepton_ai._library.starters import STARTERS, described
from services.trainer.core.dataset import LABEL
from services.trainer.core.learning import Given, learn
from services.trainer.core.plan import Plan, Rival, planned_fields
from services.trainer.core.preparing.rows import ARROW_TYPES
from tests.unit.trainer import samples


def given(name: str) -> tuple[Plan, pa.Table]:
    """What the trainer is given once a starter's rows were sent."""
    made = described(name)
    spec = pipeline.from_json(json.dumps(made.spec))
    assert spec.model is not None
    plan = samples.plan({}, task=spec.task or "", family=spec.model.family, label_type=spec.label_type or "",
                        gate=spec.gate, parameters=spec.model.parameters)
    plan = plan.model_copy(update={"fields": planned_fields(spec)})
    ids = [made.event(place, {})["event_id"] for place in range(len(made.rows))]
    columns: dict[str, Any] = {one.name: made.rows.table.column(one.name).cast(ARROW_TYPES[one.type])
                               for one in plan.fields}
    return plan, pa.table({EVENT_ID: ids, **columns, LABEL: made.rows.table.column(made.label)}).combine_chunks()


@pytest.mark.parametrize("name", STARTERS)
def test_a_starter_passes_its_gate(name: str) -> None:
    plan, rows = given(name)
    found = learn(plan, Given(rows), []).metrics
    assert found[plan.gate.metric] >= (plan.gate.at_least or 1.0), found


def test_few_rows_of_ones_own_go_on_from_a_starter() -> None:
    plan, rows = given("wine")
    starter = learn(plan, Given(rows), [])
    few = rows.take(pa.array(range(0, rows.num_rows, 4)))
    own = plan.model_copy(update={"parent": Rival(version=1, model="starter-wine"), "transfer": Transfer(),
                                  "parameters": plan.parameters.model_copy(update={"epochs": 3})})
    begun = learn(own, Given(few, parent=starter.weights), [])
    alone = learn(own.model_copy(update={"parent": None, "transfer": None}), Given(few), [])
    assert any(one.startswith("layers.0.weight") for one in begun.carried)
    assert begun.metrics["log_loss"] < alone.metrics["log_loss"]


def test_the_same_rows_have_the_same_ids_and_a_name_that_is_none_lists_those_there_are() -> None:
    first, again = described("diabetes"), described("diabetes")
    assert [first.event(place, {}) for place in range(3)] == [again.event(place, {}) for place in range(3)]
    with pytest.raises(Invalid) as told:
        described("iris")
    assert told.value.remedy == "use one of breast-cancer, wine, diabetes, digits"
