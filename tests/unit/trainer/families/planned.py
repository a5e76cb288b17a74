"""Plans and rows of a whole Pipeline, as the trainer's flow makes them, without a store between."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from lepton.contracts import pipeline
from lepton.contracts.features import ENTITY, EVENT_ID
from lepton.contracts.pipeline import Pipeline
from services.trainer.core.dataset import LABEL
from services.trainer.core.lessons.columns import categories_of, columns_of
from services.trainer.core.plan import Plan, Snapshot, planned_fields

EXAMPLES = Path(__file__).parents[4] / "examples"


def example(name: str) -> Pipeline:
    return pipeline.parse((EXAMPLES / name / "pipeline.yaml").read_text("utf-8"))


def plan_of(spec: Pipeline, parameters: Mapping[str, Any] | None = None, **changes: Any) -> Plan:
    """What a command without parameters of its own asks for; `parameters` replace some of the Pipeline's."""
    assert spec.model is not None
    assert spec.gate is not None
    whole: dict[str, Any] = {
        "run_id": "run-1", "command_id": "command-1", "model": spec.name, "data_pipeline": spec.name, "generation": 1,
        "spec_version": 1, "spec_digest": spec.digest(), "input_schema_digest": spec.input_schema_digest(),
        "task": spec.task, "label": spec.label_field or "", "label_type": spec.label_type,
        "label_categories": categories_of(spec), "roles": spec.model.roles, "fields": planned_fields(spec),
        "outliers": spec.clean.outliers, "family": spec.model.family,
        "parameters": spec.model.parameters.model_copy(update=dict(parameters or {})), "gate": spec.gate, "rows": 0,
        "snapshot": Snapshot(ranges=()), "promote": True, "reason": "command"}
    return Plan(**{**whole, **changes})


def rows_of(spec: Pipeline, events: Sequence[Mapping[str, Any]]) -> pa.Table:
    """Events with their label, if any, beside the fields, as `dataset.join` gives them."""
    label = spec.label_field
    columns: dict[str, Any] = {EVENT_ID: [one[spec.events.id] for one in events]}
    for name, kind in columns_of(spec).items():
        member = spec.events.entity_member if name == ENTITY else name
        columns[name] = pa.array([one.get(member) for one in events], kind)
    columns[LABEL] = pa.array([one.get(label) for one in events] if label else pa.nulls(len(events), pa.float64()))
    return pa.table(columns)
