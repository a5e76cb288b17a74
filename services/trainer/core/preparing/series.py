"""Vectors and sequences as columns: what is centred and scaled by what, and where a sequence ends."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from onnx import TensorProto

from lepton.contracts.pb.models_pb2 import FieldStatistics
from services.trainer.core.emitting.building import Graph
from services.trainer.core.preparing.field import PlannedField
from services.trainer.core.preparing.layout import Span
from services.trainer.core.preparing.part import Emission
from services.trainer.core.preparing.rows import Array, Inputs

# A value this many spreads away says no more than one nearer, and would drown the rest of its series.
FOLD_LIMIT = 20.0


@dataclass(frozen=True, slots=True)
class Folded:
    """A vector or sequence of at most `length` values: (value - center) / scale, one for all or one for each place."""

    name: str
    length: int
    center: tuple[float, ...]
    scale: tuple[float, ...]

    def standard(self, inputs: Inputs) -> tuple[Array, Array]:
        """Values with 0 where there is none, and which there are; both [rows, length]."""
        values = inputs.values[self.name].astype(np.float64)
        there = np.isfinite(values) & ~inputs.absent([self.name])
        with np.errstate(over="ignore"):
            scaled = (np.where(there, values, 0.0) - np.array(self.center)) / np.array(self.scale)
        return np.where(there, np.clip(scaled, -FOLD_LIMIT, FOLD_LIMIT), 0.0), there

    def emit(self, emission: Emission) -> tuple[str, str]:
        """The same in ONNX, in 64 bits; returns both names."""
        graph, name, zero = emission.graph, f"{emission.prefix}:{self.name}", np.array([[0.0]])
        wide = graph.add("Cast", [self.name], f"{name}:wide", to=TensorProto.DOUBLE)
        unusable = graph.add("Or", [graph.add("IsNaN", [wide], f"{name}:nan"),
                                    graph.add("IsInf", [wide], f"{name}:inf")], f"{name}:unusable")
        told = Emission(graph, emission.fields, name).missing([self.name])
        absent = graph.add("Or", [unusable, told], f"{name}:absent")
        none = graph.constant(f"{name}:none", zero)
        value = graph.add("Where", [absent, none, wide], f"{name}:filled")
        value = _standard(graph, value, self.center, self.scale, name)
        return graph.add("Where", [absent, none, value], f"{name}:standard"), absent


@dataclass(frozen=True, slots=True)
class Vectors:
    """The values of each vector; an absent vector, or value, is 0."""

    vectors: tuple[Folded, ...]
    kind = "vectors"

    @property
    def spans(self) -> tuple[Span, ...]:
        return _spans("vector", [(one.name, one.length, (one.length,)) for one in self.vectors])

    def transform(self, inputs: Inputs) -> Array:
        return np.concatenate([one.standard(inputs)[0] for one in self.vectors], axis=1)

    def emit(self, emission: Emission) -> str:
        return _joined(emission, [one.emit(emission)[0] for one in self.vectors])

    def to_data(self) -> dict[str, Any]:
        return {"vectors": [asdict(one) for one in self.vectors]}

    @classmethod
    def from_data(cls, data: Mapping[str, Any]) -> "Vectors":
        return cls(_folded(data["vectors"]))


@dataclass(frozen=True, slots=True)
class Sequences:
    """The values of each sequence, then a flag for each place: 1 where there is a value."""

    sequences: tuple[Folded, ...]
    kind = "sequences"

    @property
    def spans(self) -> tuple[Span, ...]:
        return _spans("sequence", [(one.name, 2 * one.length, (2, one.length)) for one in self.sequences])

    def transform(self, inputs: Inputs) -> Array:
        return np.concatenate([block for one in self.sequences for block in one.standard(inputs)], axis=1)

    def emit(self, emission: Emission) -> str:
        blocks = []
        for one in self.sequences:
            value, absent = one.emit(emission)
            there = emission.graph.add("Not", [absent], f"{value}:there")
            blocks += [value, emission.graph.add("Cast", [there], f"{value}:flags", to=TensorProto.DOUBLE)]
        return _joined(emission, blocks)

    def to_data(self) -> dict[str, Any]:
        return {"sequences": [asdict(one) for one in self.sequences]}

    @classmethod
    def from_data(cls, data: Mapping[str, Any]) -> "Sequences":
        return cls(_folded(data["sequences"]))


def fit_vectors(fields: Sequence[PlannedField], inputs: Inputs, *, together: bool) -> Vectors:
    """`together`: one centre and scale for a whole vector, as an image or series wants it; else one for each place."""
    found = []
    for field in fields:
        values = _present(inputs, field.name)
        if together:
            center, scale = _center_and_scale(values[np.isfinite(values)])
            figures = [(center, scale)]
        else:
            figures = [_center_and_scale(column[np.isfinite(column)]) for column in values.T]
        centers, scales = zip(*figures, strict=True)
        found.append(Folded(field.name, field.tail[0], tuple(centers), tuple(scales)))
    return Vectors(tuple(found))


def fit_sequences(fields: Sequence[PlannedField], inputs: Inputs) -> Sequences:
    """One centre and scale for all values of a sequence."""
    found = []
    for field in fields:
        values = _present(inputs, field.name)
        center, scale = _center_and_scale(values[np.isfinite(values)])
        found.append(Folded(field.name, field.tail[0], (center,), (scale,)))
    return Sequences(tuple(found))


def counted(field: PlannedField, inputs: Inputs) -> FieldStatistics:
    """How often there was a value; of what has no single number no more is told."""
    missing = int(inputs.absent([field.name]).sum())
    return FieldStatistics(field=field.name, count=inputs.rows - missing, missing=missing)


def _present(inputs: Inputs, name: str) -> Array:
    values: Array = inputs.values[name][~inputs.absent([name])[:, 0]].astype(np.float64)
    return values


def _center_and_scale(values: Array) -> tuple[float, float]:
    # Halves first, so that the largest values there are do not overflow into a mean that is none.
    if not len(values) or values.min() == values.max():
        return (float(values[0]) if len(values) else 0.0), 1.0
    with np.errstate(over="ignore"):
        spread = float(values.std())
    return float((values / 2).mean() * 2), spread if math.isfinite(spread) and spread > 0 else 1.0


def _standard(graph: Graph, value: str, center: Sequence[float], scale: Sequence[float], name: str) -> str:
    value = graph.add("Sub", [value, graph.constant(f"{name}:center", np.array([center]))], f"{name}:centered")
    value = graph.add("Div", [value, graph.constant(f"{name}:scale", np.array([scale]))], f"{name}:scaled")
    value = graph.add("Max", [value, graph.constant(f"{name}:low", np.array([-FOLD_LIMIT]))], f"{name}:above")
    return graph.add("Min", [value, graph.constant(f"{name}:high", np.array([FOLD_LIMIT]))], f"{name}:bounded")


def _joined(emission: Emission, blocks: list[str]) -> str:
    whole = blocks[0] if len(blocks) == 1 else emission.graph.add("Concat", blocks, f"{emission.prefix}:all", axis=1)
    return emission.graph.add("Cast", [whole], emission.prefix, to=TensorProto.FLOAT)


def _spans(kind: str, found: Sequence[tuple[str, int, tuple[int, ...]]]) -> tuple[Span, ...]:
    spans, start = [], 0
    for name, width, shape in found:
        spans.append(Span(name, kind, start, width, shape))
        start += width
    return tuple(spans)


def _folded(data: Sequence[Mapping[str, Any]]) -> tuple[Folded, ...]:
    return tuple(Folded(one["name"], one["length"], tuple(one["center"]), tuple(one["scale"])) for one in data)
