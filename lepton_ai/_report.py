"""What cleaning finds in rows and does about it, by the definitions the trainer uses, for a person to read."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lepton_ai._data import Rows

_MAD_SCALE: Final = 1.4826
_DEFAULT_K: Final = {"iqr": 1.5, "zscore": 3.0, "mad": 3.5}
_HEADINGS: Final = ("field", "type", "missing", "outliers", "repair")


@dataclass(frozen=True, slots=True)
class FieldReport:
    """`missing` and `outliers` are counts of rows; None: not known here."""

    name: str
    kind: str
    missing: int | None
    outliers: int | None
    repair: str


@dataclass(frozen=True, slots=True)
class CleaningReport:
    """What was found in a data set and what becomes of it in training and serving alike. Prints as a table."""

    dataset: str
    pipeline: str
    label: str
    rows: int | None
    accepted: int
    rejected: int | None
    identical: int | None
    fields: tuple[FieldReport, ...]
    rejections: Mapping[str, int]
    notes: tuple[str, ...]
    source: str

    @property
    def repaired(self) -> dict[str, int]:
        """Fields with values that are repaired, and how many."""
        counts = {one.name: (one.missing or 0) + ((one.outliers or 0) if "clipped" in one.repair else 0)
                  for one in self.fields}
        return {name: count for name, count in counts.items() if count}

    def summary(self) -> list[str]:
        lines = [f"Cleaning report for {self.dataset} (pipeline {self.pipeline})",
                 f"label: {self.label}",
                 f"rows: {_known(self.rows)} read, {self.accepted} accepted, {_known(self.rejected)} rejected; "
                 f"{_known(self.identical)} repeat an earlier row (kept)"]
        lines += [f"rejected {count}: {reason}" for reason, count in self.rejections.items()]
        lines += [f"note: {note}" for note in self.notes]
        return [*lines, f"counted from {self.source}; repairs are made inside the model, in training and in serving"]

    def __str__(self) -> str:
        table = [_HEADINGS, *(_cells(one) for one in self.fields)]
        widths = [max(len(row[column]) for row in table) for column in range(len(_HEADINGS))]
        padded = [[cell.ljust(width) for cell, width in zip(row, widths, strict=True)] for row in table]
        lines = ["  ".join(row).rstrip() for row in padded]
        return "\n".join([*self.summary(), "", *lines])

    def _repr_html_(self) -> str:
        head = "".join(f"<th>{escape(cell)}</th>" for cell in _HEADINGS)
        body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in _cells(one)) + "</tr>"
                       for one in self.fields)
        told = "".join(f"<p>{escape(line)}</p>" for line in self.summary())
        return f"{told}<table><tr>{head}</tr>{body}</table>"


def from_rows(rows: Rows, spec: Mapping[str, Any]) -> tuple[FieldReport, ...]:
    """One line a field, counted over all rows."""
    clean = spec.get("clean", {})
    return tuple(_field(name, told["type"], rows.table.column(name), clean)
                 for name, told in _model_fields(spec).items())


def from_statistics(statistics: Sequence[Mapping[str, Any]], spec: Mapping[str, Any]) -> tuple[FieldReport, ...]:
    """One line a field from what a trained version froze; outliers were not counted there."""
    known = {one["field"]: one for one in statistics}
    clean = spec.get("clean", {})
    lines = []
    for name, told in _model_fields(spec).items():
        one = known.get(name)
        if one is None:
            lines.append(FieldReport(name, told["type"], None, None, "not known before a version is trained"))
            continue
        bounds = (one["outlier_low"], one["outlier_high"]) if "outlier_low" in one else None
        fills = _Fills(one.get("mean"), one.get("median"), one.get("mode"), bounds)
        fill = _fill_text(name, told["type"], clean, fills)
        lines.append(FieldReport(name, told["type"], int(one.get("missing", 0)), None, _repair(fill, bounds, clean)))
    return tuple(lines)


def identical_rows(rows: Rows) -> int:
    """Rows that repeat an earlier one in every column."""
    names = rows.table.column_names
    return len(rows) - int(rows.table.group_by(names).aggregate([]).num_rows)


def _model_fields(spec: Mapping[str, Any]) -> dict[str, Any]:
    label = (spec["events"].get("label") or {}).get("field")
    return {name: told for name, told in spec["events"]["fields"].items() if name != label}


def _field(name: str, kind: str, column: pa.ChunkedArray, clean: Mapping[str, Any]) -> FieldReport:
    present = column.drop_null()
    numeric = kind in ("float", "int")
    values = np.asarray(present.to_numpy(), dtype=np.float64) if numeric else np.empty(0)
    bounds = _bounds(values, clean) if numeric and len(values) else None
    outliers = int(((values < bounds[0]) | (values > bounds[1])).sum()) if bounds else 0
    counted = present.value_counts().to_pylist()
    mode = min(counted, key=lambda one: (-one["counts"], str(one["values"])))["values"] if counted else None
    mean = float(values.mean()) if len(values) else None
    median = float(np.median(values)) if len(values) else None
    fill = _fill_text(name, kind, clean, _Fills(mean, median, mode, bounds))
    return FieldReport(name, kind, int(pc.sum(column.is_null()).as_py() or 0), outliers, _repair(fill, bounds, clean))


def _bounds(values: "np.ndarray[Any, np.dtype[np.float64]]", clean: Mapping[str, Any]) -> tuple[float, float] | None:
    """None where the method sees no spread: every other value would be an outlier."""
    told = clean.get("outliers", {})
    method = told.get("method", "none")
    if method == "none":
        return None
    q1, median, q3 = (float(one) for one in np.quantile(values, [0.25, 0.5, 0.75]))
    low, high, spread = {
        "iqr": (q1, q3, q3 - q1), "zscore": (float(values.mean()), float(values.mean()), float(values.std())),
        "mad": (median, median, _MAD_SCALE * float(np.median(np.abs(values - median)))),
    }[method]
    reach = float(told.get("k") or _DEFAULT_K[method]) * spread
    return (low - reach, high + reach) if spread > 0 else None


@dataclass(frozen=True, slots=True)
class _Fills:
    """What may stand in for a missing value of a column, and the bounds of what is no outlier."""

    mean: float | None
    median: float | None
    mode: Any
    bounds: tuple[float, float] | None


def _fill_text(name: str, kind: str, clean: Mapping[str, Any], fills: _Fills) -> str:
    missing = clean.get("missing", {})
    policy = missing.get(name, missing.get("default", "mean"))
    if isinstance(policy, Mapping):
        return f"missing become {policy['constant']}"
    if policy == "drop":
        return "rows without it are rejected"
    if kind not in ("float", "int"):
        return f"missing become the most frequent, {fills.mode}" if fills.mode is not None else "missing become unknown"
    value = {"median": fills.median, "mode": fills.mode}.get(policy, fills.mean)
    if value is None:
        return "missing become 0"
    number = float(value)
    if fills.bounds is not None and clean.get("outliers", {}).get("action") == "clip":
        # What stands in is clipped too: a mean that outliers have moved out of bounds comes back to the nearest.
        number = min(max(number, fills.bounds[0]), fills.bounds[1])
    return f"missing become the {policy}, about {number:.6g}"


def _repair(fill: str, bounds: tuple[float, float] | None, clean: Mapping[str, Any]) -> str:
    action = clean.get("outliers", {}).get("action", "keep")
    if bounds is None:
        return fill
    inside = f"{bounds[0]:.6g} to {bounds[1]:.6g}"
    done = {"clip": f"outliers are clipped to {inside}", "quarantine": f"outliers of {inside} are set aside",
            "keep": f"outliers of {inside} are flagged and kept"}[action]
    return f"{fill}; {done}"


def _known(count: int | None) -> str:
    return "an unknown number" if count is None else str(count)


def _cells(one: FieldReport) -> tuple[str, str, str, str, str]:
    return (one.name, one.kind, "?" if one.missing is None else str(one.missing),
            "?" if one.outliers is None else str(one.outliers), one.repair)
