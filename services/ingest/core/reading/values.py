"""Values of single events whose strict JSON type does not say all: how they become a column, and which are refused."""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from types import NoneType
from typing import Any

import numpy as np
import pyarrow as pa

from lepton.contracts.pipeline_blocks import FieldSpec
from lepton.contracts.reading.columns import FIELD_TYPES
from services.ingest.core.reading.column import Mask, Problem, Read, repairs_of
from services.ingest.core.reading.fields import read_pictures, reader_of
from services.ingest.core.reading.intake import Intake, Rejected
from services.ingest.core.reading.moments import EDGES, epoch_us, no_time
from services.ingest.core.reading.repairs import MEASURE, UNIT, VALUE

ReadValues = Callable[[Sequence[Any]], Read]
_TIME = FIELD_TYPES["timestamp"]


def values_reader_of(spec: FieldSpec) -> ReadValues | None:
    """How the decoded values of this field are read; None where their type says all."""
    if spec.type == "timestamp":
        return _stamps
    if spec.accept_units:
        return _measures(spec)
    if spec.image is not None:
        return lambda values: read_pictures(spec, values)
    if spec.type in ("vector", "image") or spec.normalise or spec.out_of_range in ("clip", "null"):
        arrives = pa.list_(pa.float64()) if spec.type == "vector" else FIELD_TYPES[spec.type]
        read = reader_of(spec)
        return lambda values: read(pa.array(values, arrives))
    return None


class Readings:
    """Turns decoded events of one Pipeline version into one array a field, in the Pipeline's order."""

    def __init__(self, fields: Mapping[str, FieldSpec], member: Callable[[str], Callable[[Any], Any]]) -> None:
        """`member`: how to get a field's value from a decoded event."""
        self._columns = [(name, member(name), FIELD_TYPES[spec.type], values_reader_of(spec))
                         for name, spec in fields.items()]
        self._plain = not any(read for *_, read in self._columns)

    def read(self, intake: Intake) -> None:
        """Fill `values` and `repairs`; the rows with a value that is not accepted become rejections."""
        if self._plain:
            intake.values = self.values(intake.rows)
        else:
            self._read(intake)

    def values(self, rows: Sequence[Any]) -> list[pa.Array]:
        """Of rows whose types say all of their values: nothing is cast here."""
        return [pa.array(list(map(get, rows)), kind) for _, get, kind, _ in self._columns]

    def _read(self, intake: Intake) -> None:
        size = len(intake.rows)
        taken: Mask = np.zeros(size, np.bool_)
        changes = []
        for place, (name, get, kind, read_values) in enumerate(self._columns):
            values = list(map(get, intake.rows))
            if read_values is None:
                intake.values.append(pa.array(values, kind))
                continue
            read = read_values(values)
            for problem in read.problems:
                intake.rejections += [intake.rejection(row, problem.code, problem.message, name)
                                      for row in np.flatnonzero(problem.rows & ~taken).tolist()]
                taken |= problem.rows
            changes += [(place, change) for change in read.changes]
            intake.values.append(read.values)
        intake.repairs = repairs_of(changes, size)
        if taken.any():
            intake.keep(np.flatnonzero(~taken).tolist())


def _stamps(values: Sequence[Any]) -> Read:
    """Times with a zone, or epochs in seconds or milliseconds."""
    kinds = set(map(type, values))
    if kinds <= {datetime, NoneType} and EDGES.isdisjoint(time.year for time in values if time is not None):
        return Read(pa.array(values, _TIME))
    kept: list[datetime | int | None] = []
    problems: dict[str, Mask] = {}
    for row, value in enumerate(values):
        kept.append(None)
        try:
            kept[-1] = value if value is None else _moment(value)
        except Rejected as error:
            problems.setdefault(str(error), np.zeros(len(values), np.bool_))[row] = True
    return Read(pa.array(kept, _TIME), [Problem(rows, "out_of_range", message) for message, rows in problems.items()])


def _moment(value: datetime | float) -> datetime | int:
    if not isinstance(value, datetime):
        return epoch_us(value, "")
    if value.year in EDGES:
        raise no_time(value, "")
    return value


def _measures(spec: FieldSpec) -> ReadValues:
    read = reader_of(spec)
    said = 'a value with a unit is {"value": NUMBER, "unit": TEXT}'

    def measures(values: Sequence[Any]) -> Read:
        if set(map(type, values)) <= {float, NoneType}:
            return read(pa.array(values, pa.float64()))
        numbers: list[float | None] = []
        units: list[str | None] = []
        wrong, large = np.zeros(len(values), np.bool_), np.zeros(len(values), np.bool_)
        for row, value in enumerate(values):
            number, unit = (value.get(VALUE), value.get(UNIT)) if isinstance(value, dict) else (value, None)
            if isinstance(value, dict) and not (
                    type(number) in (int, float) and isinstance(unit, str) and len(value) == 2):
                wrong[row], number, unit = True, None, None
            try:
                numbers.append(number if number is None else float(number))
            except OverflowError:
                large[row] = True
                numbers.append(None)
            units.append(unit)
        found = read(pa.StructArray.from_arrays([pa.array(numbers, pa.float64()), pa.array(units, pa.string())],
                                                fields=list(MEASURE)))
        found.refuse(wrong, "wrong_type", said)
        found.refuse(large, "out_of_range", "Number out of range")
        return found

    return measures
