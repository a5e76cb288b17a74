"""Rows read as if some fields had not been sent, and what was sent in those fields counted all the same.

While a field is quarantined each batch is read twice: once without it, which is what becomes of the rows, and once with
it, which is what the summaries say of it. So a value that would refuse its row is no reason to any more, and it shows
when the field is well again.
"""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pyarrow as pa

from lepton.contracts.pipeline import Pipeline
from lepton.contracts.reading.columns import FIELD_TYPES
from services.ingest.core.clean.past import Past
from services.ingest.core.clean.policies import Bounds, Cleaning, numbers_of
from services.ingest.core.clean.turned import Turned
from services.ingest.core.counting.rows import FieldTally, Rows, fields_of
from services.ingest.core.counting.summary import Tally
from services.ingest.core.reading.column import Wholes
from services.ingest.core.reading.lot import Lot

WITHHELD = ("quarantined", "its field is quarantined, and the pipeline drops rows without it")
"""Code and message of rows that go with the field."""
_ROWS = 2**32
"""More than a record can hold."""


class Withholding:
    """Of one version of a Pipeline and some of its fields, by name with the incident each is quarantined for."""

    def __init__(self, pipeline: Pipeline, fields: Mapping[str, str]) -> None:
        self.fields = dict(fields)
        self._pipeline = pipeline
        self._names = tuple(pipeline.fields)
        self._cleaning = Cleaning(pipeline)
        self._places = np.array([place for place, name in enumerate(self._names) if name not in fields], np.int16)

    def filled(self, lot: Lot) -> Lot:
        """What was read by the Pipeline without the fields, with them: missing in every row."""
        left = iter(lot.values)
        values = [pa.nulls(len(lot), FIELD_TYPES[self._pipeline.fields[name].type]) if name in self.fields
                  else next(left) for name in self._names]
        return replace(lot, values=values, repairs=None if lot.repairs is None else self._renumbered(lot.repairs))

    def drops(self, one: Turned) -> bool:
        """Whether a row is turned away for a field that was taken from it."""
        return one.field in self.fields and one.code == "missing"

    def tally(self, raw: Lot, lot: Lot, rows: Wholes, past: Past, champion: Bounds) -> Tally:
        """What the fields were sent as in these rows of `lot`, and in those they alone would have refused.

        `raw`: the same records read with the fields.
        """
        bounds = champion or past.statistics.bounds
        found = Tally()
        chosen = np.flatnonzero(np.isin(_keys(raw), _keys(lot)[rows]))
        for name, incident_id in self.fields.items():
            place = self._names.index(name)
            column = raw.values[place].take(pa.array(chosen))
            told = _counted(name, column, self._pipeline.fields[name].type == "category")
            told.invalid = sum(one.events for one in raw.rejections if one.field == name)
            told.outliers = self._outliers(name, column, bounds)
            told.quarantined, told.incident_id = True, incident_id
            found.tell(name, told)
        return found

    def _outliers(self, name: str, column: pa.Array, bounds: Bounds) -> int:
        if self._cleaning.method == "none" or name not in bounds:
            return 0
        low, high = bounds[name]
        numbers = numbers_of(column)
        return int(((numbers < low) | (numbers > high)).sum())

    def _renumbered(self, repairs: pa.Array) -> pa.Array:
        """Places among the fields that were read as places among all of them."""
        notes = repairs.values
        places, what, before = notes.flatten()
        known = np.asarray(places.fill_null(0))
        moved = pa.array(self._places[known], pa.int16(), mask=np.asarray(places.is_null())) if len(known) else places
        return pa.ListArray.from_arrays(
            repairs.offsets, pa.StructArray.from_arrays([moved, what, before], fields=list(notes.type)),
            mask=repairs.is_null() if repairs.null_count else None)


def without(pipeline: Pipeline, fields: Mapping[str, str]) -> Pipeline:
    """For reading only: what else speaks of the fields is left as it is."""
    kept = {name: spec for name, spec in pipeline.events.fields.items() if name not in fields}
    plain = {name: getattr(pipeline, name) for name in type(pipeline).model_fields}
    return Pipeline.model_construct(**plain | {"events": pipeline.events.model_copy(update={"fields": kept})})


def _counted(name: str, column: pa.Array, named: bool) -> FieldTally:
    rows = Rows((name,), (column,), None, pa.nulls(len(column), pa.string()), (name,) if named else ())
    _, told = next(fields_of(rows))
    return told


def _keys(lot: Lot) -> Wholes:
    """One number for each row: its record and where in that it is."""
    numbers = np.zeros(len(lot), np.int64) if lot.numbers is None else lot.numbers + 1
    return lot.positions * _ROWS + numbers
