"""How a row of fields becomes the numbers a network takes: statistics frozen in the training rows, then arithmetic.

The same arithmetic, with the same constants, is the first part of the exported graph (`core/export/graph.py`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from lepton.contracts.pb.models_pb2 import FieldStatistics
from lepton.contracts.pipeline_blocks import Outliers
from services.trainer.core.filling import ridge
from services.trainer.core.filling.ridge import Imputer
from services.trainer.core.plan import PlannedField
from services.trainer.core.preparing.layout import Layout, Span

Array = npt.NDArray[Any]

# A category a model can learn something about was seen at least twice, and one field must not drown the others.
MIN_CATEGORY_ROWS, MAX_CATEGORIES = 2, 64
# Standardised values beyond this carry no more meaning and would only overflow the network's 32 bits.
Z_LIMIT = 1e4
# Makes the median absolute deviation of normally distributed values equal to their standard deviation.
MAD_SCALE = 1.4826
ARROW_TYPES: dict[str, pa.DataType] = {"float": pa.float64(), "int": pa.int64(), "bool": pa.bool_(),
                                       "category": pa.string(), "text": pa.string()}


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


@dataclass(frozen=True, slots=True)
class Inputs:
    """Rows as the exported graph takes them: one array a field, and which values are absent ([rows, fields])."""

    values: dict[str, Array]
    missing: Array

    @property
    def rows(self) -> int:
        return len(self.missing)

    def take(self, which: Array) -> "Inputs":
        return Inputs({name: values[which] for name, values in self.values.items()}, self.missing[which])


@dataclass(frozen=True, slots=True)
class Preparation:
    """Everything frozen. Columns of the network: numbers in field order, then the one-hot columns of each choice."""

    fields: tuple[str, ...]
    numbers: tuple[Number, ...]
    choices: tuple[Choice, ...]
    statistics: tuple[FieldStatistics, ...] = ()
    imputers: tuple[Imputer, ...] = ()

    @property
    def layout(self) -> Layout:
        """Where each field's columns are in what `transform` gives."""
        spans = [Span(one.name, "number", place, 1) for place, one in enumerate(self.numbers)]
        start = len(spans)
        for choice in self.choices:
            spans.append(Span(choice.name, "choice", start, choice.width))
            start += choice.width
        return Layout(tuple(spans))

    @property
    def width(self) -> int:
        return self.layout.width

    def transform(self, inputs: Inputs) -> npt.NDArray[np.float32]:
        """[rows, width]; finite whatever comes in."""
        parts = [self._numbers(inputs), *(self._one_hot(choice, inputs) for choice in self.choices)]
        return np.concatenate(parts, axis=1).astype(np.float32)

    def outside(self, inputs: Inputs) -> npt.NDArray[np.bool_]:
        """Rows with a present number outside its outlier bounds."""
        found = np.zeros(inputs.rows, dtype=bool)
        bounds = {one.field: one for one in self.statistics if one.HasField("outlier_low")}
        for place, name in enumerate(self.fields):
            if name in bounds:
                values = inputs.values[name].astype(np.float64)
                beyond = (values < bounds[name].outlier_low) | (values > bounds[name].outlier_high)
                found |= beyond & ~inputs.missing[:, place]
        return found

    def to_data(self) -> dict[str, Any]:
        return {"fields": list(self.fields), "numbers": [asdict(one) for one in self.numbers],
                "choices": [asdict(one) for one in self.choices],
                "statistics": [one.SerializeToString(deterministic=True).hex() for one in self.statistics],
                "imputers": [asdict(one) for one in self.imputers]}

    @classmethod
    def from_data(cls, data: Mapping[str, Any]) -> "Preparation":
        return cls(tuple(data["fields"]), tuple(Number(**one) for one in data["numbers"]),
                   tuple(Choice(**{**one, "categories": tuple(one["categories"])}) for one in data["choices"]),
                   tuple(FieldStatistics.FromString(bytes.fromhex(one)) for one in data["statistics"]),
                   # Absent from what was written before there were any.
                   tuple(Imputer(**{**one, "weights": tuple(one["weights"])}) for one in data.get("imputers", ())))

    def standardised(self, inputs: Inputs) -> tuple[Array, Array]:
        """Numbers with constants in their gaps, and which were absent; both [rows, numbers]."""
        raw = np.stack([inputs.values[one.name].astype(np.float64) for one in self.numbers], axis=1)
        fill, low, high, center, scale, below, above = (
            np.array([getattr(one, what) for one in self.numbers])
            for what in ("fill", "low", "high", "center", "scale", "null_below", "null_above"))
        absent = inputs.missing[:, [self.fields.index(one.name) for one in self.numbers]] | ~np.isfinite(raw)
        absent |= (raw < below) | (raw > above)
        present = np.clip(np.where(absent, fill, raw), low, high)
        # The largest floats overflow here; the limit takes them in again.
        with np.errstate(over="ignore"):
            return np.clip((present - center) / scale, -Z_LIMIT, Z_LIMIT), absent

    def _numbers(self, inputs: Inputs) -> Array:
        if not self.numbers:
            return np.empty((inputs.rows, 0))
        return ridge.impute(self.imputers, [one.name for one in self.numbers], *self.standardised(inputs))

    def _one_hot(self, choice: Choice, inputs: Inputs) -> Array:
        known = pa.array(choice.categories, pa.string())
        found = pc.index_in(pa.array(inputs.values[choice.name], pa.string()), value_set=known)
        codes = pc.fill_null(found, -1).to_numpy(zero_copy_only=False) + 1
        codes = np.where(inputs.missing[:, self.fields.index(choice.name)], choice.fill, codes)
        return np.asarray(codes[:, None] == np.arange(choice.width)[None, :], dtype=np.float64)


def inputs_of(fields: Sequence[PlannedField], rows: pa.Table) -> Inputs:
    """Rows of a table as the graph takes them; an absent value is a neutral one and True in `missing`."""
    values, missing = {}, np.zeros((rows.num_rows, len(fields)), dtype=bool)
    for place, field in enumerate(fields):
        column = rows.column(field.name).cast(ARROW_TYPES[field.type])
        missing[:, place] = column.is_null().to_numpy()
        neutral: Any = {"float": float("nan"), "int": 0, "bool": False}.get(field.type, "")
        filled = column.fill_null(neutral).to_numpy()
        values[field.name] = filled.astype(object) if ARROW_TYPES[field.type] == pa.string() else filled
        if field.type == "float":
            missing[:, place] |= ~np.isfinite(filled)
    return Inputs(values, missing)


def fit(fields: Sequence[PlannedField], outliers: Outliers, inputs: Inputs) -> Preparation:
    """Freeze the statistics of `inputs`; what was never seen is filled with 0, `false` or unknown."""
    numbers, choices, statistics = [], [], []
    for place, field in enumerate(fields):
        absent = inputs.missing[:, place]
        present = inputs.values[field.name][~absent]
        if ARROW_TYPES[field.type] == pa.string():
            known, found = _choice_statistics(field, present)
            choices.append(_choice(field, known, found))
        else:
            found = _number_statistics(field, present.astype(np.float64), outliers)
            numbers.append(_number(field, found, outliers, inputs.values[field.name], absent))
        found.missing = int(absent.sum())
        statistics.append(found)
    prepared = Preparation(tuple(field.name for field in fields), tuple(numbers), tuple(choices), tuple(statistics))
    return replace(prepared, imputers=_imputers(fields, prepared, inputs))


def _imputers(fields: Sequence[PlannedField], prepared: Preparation, inputs: Inputs) -> tuple[Imputer, ...]:
    wanted = {field.name for field in fields if field.missing.kind == "model"}
    places = [(place, one.name) for place, one in enumerate(prepared.numbers) if one.name in wanted]
    if not places:
        return ()
    standard, absent = prepared.standardised(inputs)
    return tuple(ridge.fit(name, place, standard, absent) for place, name in places)


def constant_fields(preparation: Preparation) -> list[str]:
    """Fields that had at most one distinct value: they are kept, and teach nothing."""
    return [one.field for one in preparation.statistics
            if (one.HasField("std") and one.std == 0) or len(one.categories) == 1 or one.count == 0]


def _number_statistics(field: PlannedField, present: Array, outliers: Outliers) -> FieldStatistics:
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
        found = _number_statistics(field, numbers[~absent], Outliers())
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


def _choice_statistics(field: PlannedField, present: Array) -> tuple[tuple[str, ...], FieldStatistics]:
    found = FieldStatistics(field=field.name, count=len(present))
    counted = pc.value_counts(pa.array(present, pa.string())).to_pylist()
    ranked = sorted(((one["counts"], one["values"]) for one in counted), key=lambda one: (-one[0], one[1]))
    if ranked:
        found.mode = ranked[0][1]
    known = field.categories or tuple(
        sorted(value for count, value in ranked[:MAX_CATEGORIES] if count >= MIN_CATEGORY_ROWS))
    found.categories.extend(known)
    return known, found


def _choice(field: PlannedField, known: tuple[str, ...], found: FieldStatistics) -> Choice:
    wanted = str(field.missing.value) if field.missing.kind == "constant" else found.mode
    return Choice(field.name, field.type, known, known.index(wanted) + 1 if wanted in known else 0)


def _text(field: PlannedField, value: float) -> str:
    if field.type == "bool":
        return "true" if value else "false"
    return str(int(value)) if field.type == "int" else repr(value)
