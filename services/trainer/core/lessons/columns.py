"""Which columns a task's rows have beside what a model takes, and whether rows without a label are among them."""

import pyarrow as pa

from lepton.contracts.features import ENTITY
from lepton.contracts.pipeline import Pipeline
from lepton.contracts.reading.columns import FIELD_TYPES


def columns_of(pipeline: Pipeline) -> dict[str, pa.DataType]:
    """The model's inputs, then fields with a role or by which rows are told apart, then the entity where its rows
    belong together."""
    columns = {name: FIELD_TYPES[spec.type] for name, spec in pipeline.inputs.items()}
    roles = pipeline.model.roles if pipeline.model else None
    for member in (roles.item, roles.action, roles.done, roles.propensity) if roles else ():
        if member is not None:
            columns[member] = FIELD_TYPES[pipeline.fields[member].type]
    evaluate = pipeline.model.evaluate if pipeline.model else None
    for member in (*evaluate.slices, *(evaluate.fairness.groups if evaluate.fairness else ())) if evaluate else ():
        columns[member] = FIELD_TYPES[pipeline.fields[member].type]
    return columns | ({ENTITY: pa.string()} if pipeline.task == "policy" else {})


def keeps_unlabelled(pipeline: Pipeline) -> bool:
    """A row without a label still is the next state of another, what usually is, or a liking by itself."""
    return pipeline.events.label is None or pipeline.task in ("policy", "anomaly")


def categories_of(pipeline: Pipeline) -> tuple[str, ...] | None:
    """What an answer is chosen from, where that is declared: the label's classes, the items or the actions."""
    roles = pipeline.model.roles if pipeline.model else None
    chosen = (roles.item or roles.action) if roles else None
    return pipeline.fields[chosen].categories if chosen else pipeline.label_categories
