"""What a run needs of an example's Pipeline and rows, and how the learnt file is asked, without a platform."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from lepton.contracts import pipeline
from lepton.contracts.features import EVENT_ID
from lepton.contracts.modelling.blocks import Parameters
from lepton.contracts.modelling.families import Family
from lepton.contracts.pipeline import Pipeline
from lepton.contracts.pipeline_blocks import LabelType, Task
from services.trainer.core.dataset import LABEL
from services.trainer.core.export.session import Session
from services.trainer.core.plan import Plan, Snapshot, planned_fields
from services.trainer.core.preparing.rows import ARROW_TYPES, inputs_of

Row = Mapping[str, Any]
"""An event by field name, its label among them."""


def spec(example: str, file: str = "pipeline.yaml") -> Pipeline:
    """A Pipeline in the folder of the example."""
    return pipeline.parse((Path(__file__).parent / example / file).read_text())


def plan(of: Pipeline, seed: int | None = None, family: Family | None = None, **parameters: Any) -> Plan:
    """What the trainer would plan; `family` and what it takes may be another's, to stand beside the Pipeline's own.

    Another family takes the fields as they are: the Pipeline's transforms are for its own.
    """
    assert of.model is not None
    assert of.gate is not None
    own = of.model.parameters if family is None else Parameters(seed=of.model.parameters.seed)
    changed = parameters if seed is None else {**parameters, "seed": seed}
    return Plan(
        run_id="run-example", command_id="example", model=of.name, data_pipeline=of.name, generation=1, spec_version=1,
        spec_digest=of.digest(), input_schema_digest=of.input_schema_digest(), task=cast(Task, of.task),
        label=of.label_field or "", label_type=cast(LabelType | None, of.label_type), roles=of.model.roles,
        fields=planned_fields(of),
        outliers=of.clean.outliers, transforms=of.features.transforms if family is None else (),
        family=family or of.model.family, parameters=own.model_copy(update=changed),
        search=of.model.search if family is None else None, gate=of.gate,
        interval=of.serve.interval,
        augment=of.model.train.augment, adversarial=of.model.train.adversarial,
        evaluate=of.model.evaluate, explain=of.model.explain, rows=0, snapshot=Snapshot(ranges=()), promote=True,
        reason="command")


def table(of: Pipeline, rows: Sequence[Row]) -> pa.Table:
    """Rows as they lie in the store, with the fields that are no inputs; their ids choose which are held out."""
    columns = {name: pa.array([row.get(name) for row in rows], ARROW_TYPES[field.type])
               for name, field in of.events.fields.items()}
    label = pa.array([row[of.label_field] for row in rows]) if of.label_field else pa.nulls(len(rows), pa.float64())
    return pa.table({EVENT_ID: [str(row[of.events.id]) for row in rows], **columns, LABEL: label})


def answers(of: Pipeline, file: bytes, rows: Sequence[Row]) -> dict[str, npt.NDArray[Any]]:
    """What the exported file says of `rows`: `label` and `probabilities`, or of numbers `prediction`."""
    return Session(file).answers(inputs_of(planned_fields(of), table(of, rows)))


def attributions(of: Pipeline, file: bytes, row: Row) -> list[tuple[str, float]]:
    """What each field did to the answer, most first."""
    found = Session(file).attributions(inputs_of(planned_fields(of), table(of, [row])))[0]
    return sorted(zip(of.inputs, np.asarray(found).tolist(), strict=True), key=lambda one: -abs(one[1]))
