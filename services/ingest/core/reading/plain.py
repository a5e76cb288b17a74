"""JSON events read by the native loops: those that are plainly good become columns, all others are read in Python.

So every refusal, and its words, has one definition (`services.ingest.core.quality`).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from types import ModuleType

import numpy as np
import pyarrow as pa

from lepton.contracts.pipeline import Pipeline
from lepton.contracts.pipeline_blocks import FieldSpec
from lepton.contracts.reading.columns import FIELD_TYPES
from lepton.native import built
from services.ingest.core.reading.column import Mask, Read, Wholes, repairs_of
from services.ingest.core.reading.columnar import broker_us_of, values_of
from services.ingest.core.reading.fields import ReadColumn, reader_of
from services.ingest.core.reading.intake import UNKNOWN_SOURCE, RawEvent
from services.ingest.core.reading.lot import Lot, repeated
from services.ingest.core.schema import INT64, MAX_ID_CHARS, members_of

Buffers = tuple[int, bytes | None, bytes | None, bytes]
Member = tuple[str, str, bool, tuple[float, float] | None, tuple[int, int] | None, Sequence[str], int]

_KINDS = {"float": "float", "int": "int", "bool": "bool", "category": "text", "text": "text", "timestamp": "time"}
_TYPES = {"float": pa.float64(), "int": pa.int64(), "bool": pa.bool_(), "text": pa.string(), "name": pa.string(),
          "time": pa.int64()}


@dataclass(frozen=True, slots=True)
class _Field:
    place: int
    """Among the members."""
    name: str
    type: pa.DataType
    read: ReadColumn | None
    """What remains to be done to its column."""


class Plain:
    """Reads events of one Pipeline version, each member of which the loops know how to read."""

    def __init__(self, pipeline: Pipeline, members: Sequence[Member], loops: ModuleType) -> None:
        names = [member[0] for member in members]
        events = pipeline.events
        self._kinds = [member[1] for member in members]
        self._id, self._entity, self._time = map(names.index, (events.id, events.entity_member, events.time))
        label = events.label
        self._label = names.index(label.field) if label is not None and label.arrives == "with_event" else None
        self._fields = [_Field(names.index(name), name, FIELD_TYPES[spec.type],
                               reader_of(spec) if _is_unfinished(spec) else None)
                        for name, spec in pipeline.fields.items()]
        self._events = loops.Events(members)

    @classmethod
    def of(cls, pipeline: Pipeline) -> "Plain | None":
        """None where Python reads all events of the Pipeline."""
        loops = built()
        members = [_member(pipeline, name) for name in members_of(pipeline)]
        told = [member for member in members if member is not None]
        return cls(pipeline, told, loops) if loops is not None and len(told) == len(members) else None

    def read(self, events: Sequence[RawEvent], odd: bytes) -> tuple[Lot, Wholes]:
        """The events that are plainly good, and the positions of the others; `odd` of them are others anyway."""
        good, told = self._events.read(*values_of(events), odd)
        positions = np.frombuffer(good, np.int64)
        size = len(positions)
        columns = [_column(kind, buffers, size) for kind, buffers in zip(self._kinds, told, strict=True)]
        lot = self._lot(events, columns, positions)
        if size == len(events):
            return lot, np.zeros(0, np.int64)
        others: Mask = np.ones(len(events), np.bool_)
        others[positions] = False
        return lot, np.flatnonzero(others)

    def _lot(self, events: Sequence[RawEvent], columns: Sequence[pa.Array], positions: Wholes) -> Lot:
        size = len(positions)
        times = columns[self._time]
        micros = np.asarray(times.fill_null(0) if times.null_count else times)
        if times.null_count:
            micros = np.where(np.asarray(times.is_null()), broker_us_of(events)[positions], micros)
        labels = columns[self._label].to_pylist() if self._label is not None else []
        lot = Lot(columns[self._id], columns[self._entity], micros, positions, repeated(UNKNOWN_SOURCE, size), [], [],
                  labels=labels)
        taken: Mask = np.zeros(size, np.bool_)
        changes = []
        for number, one in enumerate(self._fields):
            read = Read(columns[one.place].cast(one.type)) if one.read is None else one.read(columns[one.place])
            for problem in read.problems:
                lot.rejections += [lot.rejection(row, problem.code, problem.message, one.name)
                                   for row in np.flatnonzero(problem.rows & ~taken).tolist()]
                taken |= problem.rows
            changes += [(number, change) for change in read.changes]
            lot.values.append(read.values)
        lot.repairs = repairs_of(changes, size)
        return lot.take(np.flatnonzero(~taken)) if taken.any() else lot


def _column(kind: str, told: Buffers, size: int) -> pa.Array:
    missing, *buffers = told
    known = [None if buffer is None else pa.py_buffer(buffer) for buffer in buffers]
    if kind not in ("text", "name"):
        known = [known[0], known[2]]
    return pa.Array.from_buffers(_TYPES[kind], size, known, missing)


def _member(pipeline: Pipeline, name: str) -> Member | None:
    """How the loops read it, as `services.ingest.core.schema` types it; None where they do not."""
    events = pipeline.events
    spec = events.fields.get(name)
    if spec is None and name == pipeline.label_field:
        spec = FieldSpec(type=pipeline.label_type, categories=pipeline.label_categories)  # type: ignore[arg-type]
    named = name in (events.id, events.entity_member)
    if spec is None:
        return (name, "name", True, None, None, (), MAX_ID_CHARS) if named else (name, "time", False, None, None, (), 0)
    kind = _KINDS.get(spec.type)
    # A name that is no text is made one, and a time that is none is refused: in Python.
    if kind is None or (named and kind != "text") or (name == events.time and kind != "time") \
            or (named and _is_unfinished(spec)):
        return None
    bounded = spec.range is not None and spec.out_of_range not in ("clip", "null") and not spec.accept_units
    low, high = spec.range if bounded and spec.range is not None else (None, None)
    reals = (-math.inf if low is None else low, math.inf if high is None else high) if kind == "float" else None
    wholes = (INT64[0] if low is None else max(INT64[0], math.ceil(low)),
              INT64[1] if high is None else min(INT64[1], math.floor(high))) if kind == "int" else None
    texts = tuple(spec.categories or ()) if kind == "text" and not spec.normalise else ()
    return name, kind, spec.required or named, reals, wholes, texts, MAX_ID_CHARS if named else 0


def _is_unfinished(spec: FieldSpec) -> bool:
    """Whether a value of the right type may still be refused or repaired."""
    return bool(spec.accept_units or spec.normalise or spec.out_of_range in ("clip", "null"))
