"""What columns rows of a data set have, and how stored rows and their labels are brought into that form."""

from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa

from lepton.contracts.features import ENTITY, EVENT_ID, OCCURRED_AT, features_schema, outcome_schema, projected
from lepton.contracts.pipeline import Pipeline
from lepton.errors import Invalid

LABEL, LABEL_TIME = "_label", "_label_time"
_SHOWN = (EVENT_ID, ENTITY, OCCURRED_AT)


@dataclass(frozen=True, slots=True)
class Form:
    """The columns of a data set under one Pipeline, and those of them that are asked for, in that order."""

    pipeline: Pipeline
    whole: pa.Schema
    asked: pa.Schema

    @property
    def has_label(self) -> bool:
        return LABEL in self.whole.names

    @property
    def label_type(self) -> pa.DataType:
        return self.whole.field(LABEL).type

    def rows(self, stored: pa.Table, labels: pa.Array | None, times: pa.Array | None) -> pa.Table:
        """Stored rows with their labels: every column of the data set, null where a row was stored without it.

        Raises Invalid for rows of a version this one does not go on from.
        """
        stored = projected(stored, self.pipeline)
        beside = {LABEL: labels, LABEL_TIME: times}
        columns = [_column(stored, beside.get(field.name), field) for field in self.whole]
        return pa.table(columns, schema=self.whole)

    def shown(self, rows: pa.Table) -> pa.Table:
        return rows.select(self.asked.names).replace_schema_metadata(self.asked.metadata)


def form_of(pipeline: Pipeline, columns: Sequence[str] | None = None) -> Form:
    """Raises Invalid for a column there is not.

    Unless `columns` says otherwise: event id, entity, time, the Pipeline's fields and windows, label and label time.
    `_source`, `_traceparent`, `_source_offset`, `_outliers` and `_repairs` are there to be asked for.
    """
    fields = [pa.field(field.name, field.type) for field in features_schema(pipeline)]
    if pipeline.label_type is not None:
        fields += [pa.field(LABEL, outcome_schema(pipeline).field("label").type),
                   pa.field(LABEL_TIME, pa.timestamp("us", tz="UTC"))]
    whole = pa.schema(fields, metadata={"pipeline": pipeline.name})
    named = [field.name for field in fields]
    usual = [name for name in named if name in (*_SHOWN, LABEL, LABEL_TIME) or not name.startswith("_")]
    wanted = list(columns) if columns else usual
    absent = [name for name in wanted if name not in named]
    if absent:
        raise Invalid(f"there is no column {', '.join(absent)}", field="columns",
                      remedy=f"there are {', '.join(named)}")
    asked = pa.schema([whole.field(name) for name in dict.fromkeys(wanted)], metadata=whole.metadata)
    return Form(pipeline, whole, asked)


def _column(stored: pa.Table, beside: pa.Array | None, field: pa.Field) -> pa.ChunkedArray | pa.Array:
    if beside is not None:
        return beside
    if field.name in stored.column_names:
        return stored.column(field.name).cast(field.type)
    return pa.nulls(stored.num_rows, field.type)
