"""Numbers and flags as columns: filled where absent, clipped, standardised, predicted from each other on request."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from dataclasses import fields as fields_of
from functools import lru_cache
from typing import Any

import numpy as np
from onnx import TensorProto

from lepton.contracts.pb.models_pb2 import FieldStatistics
from lepton.contracts.pipeline_blocks import Outliers
from services.trainer.core.emitting.building import Graph
from services.trainer.core.filling import ridge
from services.trainer.core.filling.ridge import Imputer
from services.trainer.core.preparing.field import PlannedField
from services.trainer.core.preparing.layout import Span
from services.trainer.core.preparing.part import Emission
from services.trainer.core.preparing.rows import Array, Inputs

# Standardised values beyond this carry no more meaning and would only overflow the network's 32 bits.
Z_LIMIT = 1e4
# Makes the median absolute deviation of normally distributed values equal to their standard deviation.
MAD_SCALE = 1.4826


@dataclass(frozen=True, slots=True)
class Number:
    """A float, int or bool field: `fill` where absent, clipped to [low, high], then (value - center) / scale.

    A value outside [null_below, null_above] counts as absent.
    """

    name: str
    type: str
    fill: float
    low: float
    high: float
    center: float = 0.0
    scale: float = 1.0
    null_below: float = -np.inf
    null_above: float = np.inf


@lru_cache(maxsize=64)
def _columns(numbers: tuple[Number, ...]) -> tuple[Array, ...]:
    """What each is filled, bounded and standardised by, [numbers] each: as `Number` lists them from `fill` on.

    A stream asks for the same with every few rows, of which making them anew would be a good part.
    """
    return tuple(np.array([getattr(one, what.name) for one in numbers]) for what in fields_of(Number)[2:])


@dataclass(frozen=True, slots=True)
class Numbers:
    """One column a number."""

    numbers: tuple[Number, ...]
    imputers: tuple[Imputer, ...] = ()
    kind = "numbers"

    @property
    def spans(self) -> tuple[Span, ...]:
        return tuple(Span(one.name, "number", place, 1) for place, one in enumerate(self.numbers))

    @property
    def names(self) -> list[str]:
        return [one.name for one in self.numbers]

    def transform(self, inputs: Inputs) -> Array:
        return ridge.impute(self.imputers, self.names, *self.standardised(inputs))

    def standardised(self, inputs: Inputs) -> tuple[Array, Array]:
        """Numbers with constants in their gaps, and which were absent; both [rows, numbers]."""
        raw = np.stack([inputs.values[one.name].astype(np.float64) for one in self.numbers], axis=1)
        fill, low, high, center, scale, below, above = _columns(self.numbers)
        absent = inputs.absent(self.names) | ~np.isfinite(raw)
        absent |= (raw < below) | (raw > above)
        present = np.clip(np.where(absent, fill, raw), low, high)
        # The largest floats overflow here; the limit takes them in again.
        with np.errstate(over="ignore"):
            return np.clip((present - center) / scale, -Z_LIMIT, Z_LIMIT), absent

    def emit(self, emission: Emission) -> str:
        return emission.graph.add("Cast", [self.emit_wide(emission)], emission.prefix, to=TensorProto.FLOAT)

    def emit_wide(self, emission: Emission) -> str:
        """All fields as one matrix, in 64 bits: what the last step makes 32 of."""
        graph, prefix, numbers = emission.graph, emission.prefix, self.numbers
        axis = graph.constant(f"{prefix}:axis", np.array([1], dtype=np.int64))
        columns = []
        for one in numbers:
            wide = one.name if one.type == "float" else graph.add(
                "Cast", [one.name], f"{prefix}:{one.name}:wide", to=TensorProto.DOUBLE)
            columns.append(graph.add("Unsqueeze", [wide, axis], f"{prefix}:{one.name}:column"))
        raw = graph.add("Concat", columns, f"{prefix}:raw", axis=1)
        unusable = graph.add("Or", [graph.add("IsNaN", [raw], f"{prefix}:nan"),
                                    graph.add("IsInf", [raw], f"{prefix}:inf")], f"{prefix}:unusable")
        absent = graph.add("Or", [unusable, emission.missing(self.names)], f"{prefix}:absent")
        if any(np.isfinite([one.null_below, one.null_above]).any() for one in numbers):
            below = graph.add("Less", [raw, self._row(graph, prefix, "null_below")], f"{prefix}:below")
            above = graph.add("Greater", [raw, self._row(graph, prefix, "null_above")], f"{prefix}:beyond")
            absent = graph.add("Or", [absent, graph.add("Or", [below, above], f"{prefix}:outlying")], f"{prefix}:none")
        value = graph.add("Where", [absent, self._row(graph, prefix, "fill"), raw], f"{prefix}:filled")
        if any(np.isfinite([one.low, one.high]).any() for one in numbers):
            value = graph.add("Max", [value, self._row(graph, prefix, "low")], f"{prefix}:above")
            value = graph.add("Min", [value, self._row(graph, prefix, "high")], f"{prefix}:clipped")
        value = graph.add("Sub", [value, self._row(graph, prefix, "center")], f"{prefix}:centered")
        value = graph.add("Div", [value, self._row(graph, prefix, "scale")], f"{prefix}:scaled")
        value = graph.add("Max", [value, graph.constant(f"{prefix}:z_low", np.array(-Z_LIMIT))], f"{prefix}:not_below")
        value = graph.add("Min", [value, graph.constant(f"{prefix}:z_high", np.array(Z_LIMIT))], f"{prefix}:bounded")
        if self.imputers:
            value = self._imputed(graph, prefix, value, absent)
        return value

    def _imputed(self, graph: Graph, prefix: str, value: str, absent: str) -> str:
        """Gaps of the fields that are predicted from the row's other numbers; the rest as it is."""
        weights = np.array([one.weights for one in self.imputers]).T
        predicted = graph.add("MatMul", [value, graph.constant(f"{prefix}:imputed:weights", weights)],
                              f"{prefix}:imputed:weighed")
        for operator, what in (("Add", "offset"), ("Max", "low"), ("Min", "high")):
            row = graph.constant(f"{prefix}:imputed:{what}", np.array([[getattr(one, what) for one in self.imputers]]))
            predicted = graph.add(operator, [predicted, row], f"{prefix}:imputed:by_{what}")
        fields = [one.field for one in self.imputers]
        place_of = np.array([fields.index(name) if name in fields else 0 for name in self.names], dtype=np.int64)
        spread = graph.add("Gather", [predicted, graph.constant(f"{prefix}:imputed:place_of_number", place_of)],
                           f"{prefix}:imputed:spread", axis=1)
        asked = graph.constant(f"{prefix}:imputed:asked", np.array([[name in fields for name in self.names]]))
        gaps = graph.add("And", [absent, asked], f"{prefix}:imputed:gaps")
        return graph.add("Where", [gaps, spread, value], f"{prefix}:imputed")

    def _row(self, graph: Graph, prefix: str, what: str) -> str:
        row = np.array([[getattr(one, what) for one in self.numbers]], dtype=np.float64)
        return graph.constant(f"{prefix}:{what}", row)

    def to_data(self) -> dict[str, Any]:
        return {"numbers": [asdict(one) for one in self.numbers], "imputers": [asdict(one) for one in self.imputers]}

    @classmethod
    def from_data(cls, data: Mapping[str, Any]) -> "Numbers":
        return cls(tuple(Number(**one) for one in data["numbers"]),
                   # Absent from what was written before there were any.
                   tuple(Imputer(**{**one, "weights": tuple(one["weights"])}) for one in data.get("imputers", ())))


def fit(fields: Sequence[PlannedField], outliers: Outliers, inputs: Inputs) -> tuple[Numbers, list[FieldStatistics]]:
    """From training rows; what was never seen is filled with 0 or `false`."""
    numbers, statistics = [], []
    for field in fields:
        absent = inputs.absent([field.name])[:, 0]
        found = _statistics(field, inputs.values[field.name][~absent].astype(np.float64), outliers)
        found.missing = int(absent.sum())
        numbers.append(_number(field, found, outliers, inputs.values[field.name], absent))
        statistics.append(found)
    part = Numbers(tuple(numbers))
    wanted = [(place, field.name) for place, field in enumerate(fields) if field.missing.kind == "model"]
    if wanted:
        standard, absent = part.standardised(inputs)
        part = replace(part, imputers=tuple(ridge.fit(name, place, standard, absent) for place, name in wanted))
    return part, statistics


def _statistics(field: PlannedField, present: Array, outliers: Outliers) -> FieldStatistics:
    found = FieldStatistics(field=field.name, count=len(present))
    if not len(present):
        return found
    found.mean, found.std = float(present.mean()), float(present.std())
    found.q1, found.median, found.q3 = (float(one) for one in np.quantile(present, [0.25, 0.5, 0.75]))
    found.min, found.max = float(present.min()), float(present.max())
    distinct, counts = np.unique(present, return_counts=True)
    found.mode = _text(field, float(distinct[counts.argmax()]))
    if len(distinct) == 1:
        found.std = 0.0  # rounding leaves a trace of a spread that is not there
    bounds = _bounds(found, present, outliers) if field.type != "bool" else None
    if bounds is not None:
        found.outlier_low, found.outlier_high = bounds
    return found


def _bounds(found: FieldStatistics, present: Array, outliers: Outliers) -> tuple[float, float] | None:
    """None where the method sees no spread: most rows then share one value, and every other would be an outlier."""
    middle_low, middle_high, spread = {
        "iqr": (found.q1, found.q3, found.q3 - found.q1),
        "zscore": (found.mean, found.mean, found.std),
        "mad": (found.median, found.median, MAD_SCALE * float(np.median(np.abs(present - found.median)))),
        # Half-space trees judge rows, in ingest, and give no bounds for values.
        "half_space_trees": (0.0, 0.0, 0.0), "none": (0.0, 0.0, 0.0)}[outliers.method]
    reach = outliers.width * spread
    return (middle_low - reach, middle_high + reach) if spread > 0 else None


def _number(field: PlannedField, found: FieldStatistics, outliers: Outliers, values: Array, absent: Array) -> Number:
    bounded = found.HasField("outlier_low")
    low, high = (found.outlier_low, found.outlier_high) if bounded and outliers.action == "clip" else (-np.inf, np.inf)
    below, above = (found.outlier_low, found.outlier_high) if bounded and outliers.action == "null" \
        else (-np.inf, np.inf)
    numbers = values.astype(np.float64)
    absent = absent | (numbers < below) | (numbers > above)
    if bounded and outliers.action == "null":
        # What stands in for a missing value is not to come from values that count as missing.
        found = _statistics(field, numbers[~absent], Outliers())
    fill = float(np.clip(_fill(field, found), low, high))
    if field.type == "bool":
        return Number(field.name, field.type, fill, low, high)
    seen = np.clip(np.where(absent, fill, numbers), low, high)
    # Rounding would give a constant column a mean that is not its value, and a spread that is noise.
    if not len(seen) or seen.min() == seen.max():
        return Number(field.name, field.type, fill, low, high, float(seen[0]) if len(seen) else 0.0, 1.0, below, above)
    return Number(field.name, field.type, fill, low, high, float(seen.mean()), float(seen.std()), below, above)


def _fill(field: PlannedField, found: FieldStatistics) -> float:
    """`drop` keeps incomplete rows out of training; a request with one is still answered, by the mean."""
    if field.missing.kind == "constant":
        return float(field.missing.value or 0.0)
    if not found.count:
        return 0.0
    if field.missing.kind == "mode" or field.type == "bool":
        return float({"true": 1.0, "false": 0.0}.get(found.mode, 0.0)) if field.type == "bool" else float(found.mode)
    return found.median if field.missing.kind == "median" else found.mean


def _text(field: PlannedField, value: float) -> str:
    if field.type == "bool":
        return "true" if value else "false"
    return str(int(value)) if field.type == "int" else repr(value)
