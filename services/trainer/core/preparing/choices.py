"""Categories and text as one-hot columns, or numbered: which values are known, and what stands for an absent one."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from onnx import TensorProto

from lepton.contracts.pb.models_pb2 import FieldStatistics
from services.trainer.core.emitting.building import Graph
from services.trainer.core.preparing.field import PlannedField
from services.trainer.core.preparing.layout import Span
from services.trainer.core.preparing.part import ML, Emission
from services.trainer.core.preparing.rows import Array, Inputs

# A category a model can learn something about was seen at least twice, and one field must not drown the others.
MIN_CATEGORY_ROWS, MAX_CATEGORIES = 2, 64
MAX_CODES = 1_000_000
"""Whole numbers of 32-bit floats are exact up to sixteen times this."""


@dataclass(frozen=True, slots=True)
class Choice:
    """A category or text field: one column for anything unknown, then one a category; `fill` is a column's number."""

    name: str
    type: str
    categories: tuple[str, ...]
    fill: int

    @property
    def width(self) -> int:
        return len(self.categories) + 1

    def codes(self, inputs: Inputs) -> Array:
        """The column's number for each row."""
        known = pa.array(self.categories, pa.string())
        found = pc.index_in(pa.array(inputs.values[self.name], pa.string()), value_set=known)
        codes = pc.fill_null(found, -1).to_numpy(zero_copy_only=False) + 1
        return np.where(inputs.absent([self.name])[:, 0], self.fill, codes)

    def emit_code(self, graph: Graph, output: str) -> str:
        """The number of a value's column, absent or not: int64 [rows]."""
        if self.categories:
            return graph.add("LabelEncoder", [self.name], output, ML, keys_strings=list(self.categories),
                             values_int64s=list(range(1, self.width)), default_int64=0)
        # No category was learnt: whatever the text, it is unknown. The operator asks for a key, so one leads there too.
        return graph.add("LabelEncoder", [self.name], output, ML, keys_strings=[""], values_int64s=[0],
                         default_int64=0)


@dataclass(frozen=True, slots=True)
class Choices:
    """The one-hot columns of each choice."""

    choices: tuple[Choice, ...]
    kind = "choices"

    @property
    def spans(self) -> tuple[Span, ...]:
        spans, start = [], 0
        for choice in self.choices:
            spans.append(Span(choice.name, "choice", start, choice.width))
            start += choice.width
        return tuple(spans)

    def transform(self, inputs: Inputs) -> Array:
        hot = [choice.codes(inputs)[:, None] == np.arange(choice.width)[None, :] for choice in self.choices]
        return np.concatenate(hot, axis=1).astype(np.float64)

    def emit(self, emission: Emission) -> str:
        """One block for all fields: each column asks whether its field has its code."""
        graph, prefix, choices = emission.graph, emission.prefix, self.choices
        filled = emit_codes(emission, choices)
        field_of = np.concatenate([np.full(one.width, place) for place, one in enumerate(choices)]).astype(np.int64)
        code_of = np.concatenate([np.arange(one.width) for one in choices]).astype(np.int64)
        spread = graph.add("Gather", [filled, graph.constant(f"{prefix}:field_of_column", field_of)],
                           f"{prefix}:spread", axis=1)
        hot = graph.add("Equal", [spread, graph.constant(f"{prefix}:code_of_column", code_of[None, :])],
                        f"{prefix}:hot")
        return graph.add("Cast", [hot], prefix, to=TensorProto.FLOAT)

    def to_data(self) -> dict[str, Any]:
        return {"choices": [asdict(one) for one in self.choices]}

    @classmethod
    def from_data(cls, data: Mapping[str, Any]) -> "Choices":
        return cls(tuple(Choice(**{**one, "categories": tuple(one["categories"])}) for one in data["choices"]))


@dataclass(frozen=True, slots=True)
class Codes:
    """One column a field: 0 for anything unknown or absent, else the place of the value counted from 1."""

    choices: tuple[Choice, ...]
    kind = "codes"

    @property
    def spans(self) -> tuple[Span, ...]:
        return tuple(Span(one.name, "code", place, 1, size=one.width) for place, one in enumerate(self.choices))

    def transform(self, inputs: Inputs) -> Array:
        return np.stack([one.codes(inputs) for one in self.choices], axis=1).astype(np.float64)

    def emit(self, emission: Emission) -> str:
        filled = emit_codes(emission, self.choices)
        return emission.graph.add("Cast", [filled], emission.prefix, to=TensorProto.FLOAT)

    def to_data(self) -> dict[str, Any]:
        return {"choices": [asdict(one) for one in self.choices]}

    @classmethod
    def from_data(cls, data: Mapping[str, Any]) -> "Codes":
        return cls(tuple(Choice(**{**one, "categories": tuple(one["categories"])}) for one in data["choices"]))


def emit_codes(emission: Emission, choices: Sequence[Choice]) -> str:
    """The code of each choice, its fill where absent: int64 [rows, choices]."""
    graph, prefix = emission.graph, emission.prefix
    axis = graph.constant(f"{prefix}:axis", np.array([1], dtype=np.int64))
    codes = [graph.add("Unsqueeze", [one.emit_code(graph, f"{prefix}:{one.name}:code"), axis],
                       f"{prefix}:{one.name}:column") for one in choices]
    code = graph.add("Concat", codes, f"{prefix}:codes", axis=1)
    fill = graph.constant(f"{prefix}:fill", np.array([[one.fill for one in choices]], dtype=np.int64))
    return graph.add("Where", [emission.missing([one.name for one in choices]), fill, code], f"{prefix}:filled")


def fit(fields: Sequence[PlannedField], inputs: Inputs) -> tuple[Choices, list[FieldStatistics]]:
    """From training rows; declared categories are taken as they are."""
    found = [_fitted(field, inputs, MAX_CATEGORIES, MIN_CATEGORY_ROWS) for field in fields]
    return Choices(tuple(one for one, _ in found)), [statistics for _, statistics in found]


def choice_of(field: PlannedField, inputs: Inputs, most: int, min_rows: int) -> Choice:
    """The same with at most so many values, each in at least so many training rows."""
    return _fitted(field, inputs, most, min_rows)[0]


def _fitted(field: PlannedField, inputs: Inputs, most: int, min_rows: int) -> tuple[Choice, FieldStatistics]:
    absent = inputs.absent([field.name])[:, 0]
    found = FieldStatistics(field=field.name, count=int((~absent).sum()), missing=int(absent.sum()))
    counted = pc.value_counts(pa.array(inputs.values[field.name][~absent], pa.string())).to_pylist()
    ranked = sorted(((one["counts"], one["values"]) for one in counted), key=lambda one: (-one[0], one[1]))
    if ranked:
        found.mode = ranked[0][1]
    known = field.categories or tuple(sorted(value for count, value in ranked[:most] if count >= min_rows))
    found.categories.extend(known)
    wanted = str(field.missing.value) if field.missing.kind == "constant" else found.mode
    return Choice(field.name, field.type, known, known.index(wanted) + 1 if wanted in known else 0), found


def fit_codes(fields: Sequence[PlannedField], inputs: Inputs) -> tuple[Codes, list[FieldStatistics]]:
    """From training rows: values seen at least twice, the commonest `MAX_CODES` of them.

    The statistics name none of them: they are people more often than not, and the registry's state is read by all.
    """
    choices, statistics = [], []
    for field in fields:
        absent = inputs.absent([field.name])[:, 0]
        counted = pc.value_counts(pa.array(inputs.values[field.name][~absent], pa.string()))
        values, counts = np.array(counted.field(0).to_pylist(), dtype=object), counted.field(1).to_numpy()
        order = np.lexsort((values, -counts))[:MAX_CODES]
        known = field.categories or tuple(sorted(values[order][counts[order] >= MIN_CATEGORY_ROWS].tolist()))
        choices.append(Choice(field.name, field.type, known, 0))
        statistics.append(FieldStatistics(field=field.name, count=int((~absent).sum()), missing=int(absent.sum())))
    return Codes(tuple(choices)), statistics
