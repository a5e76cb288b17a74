"""Which Pipeline fits rows nobody described: field types, the label, and settings under which a person is in charge."""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from lepton.errors import Invalid
from lepton_ai._data import Rows, field_name

LABEL_NAMES: Final = ("label", "target", "y")
REGRESSION: Final = ("linear_regression",)
CLASSIFICATION: Final = ("logistic_regression",)
FAMILIES: Final = (*REGRESSION, *CLASSIFICATION, "mlp", "auto")
# A text column with at most this many different values, in less than half as many as rows, is a category.
MAX_CATEGORIES: Final = 50
MAX_CLASSES: Final = 100
# Runs of a derived pipeline are asked for by a person, never started by a number of rows.
_NEVER_ROWS: Final = 1_000_000_000
_PARTITIONS: Final = 1
_AS_THE_MODELS: Final = "as in the model's data"
_OUTLIERS: Final = {"method": "iqr", "k": 3.0}
UNCLEANED: Final[Mapping[str, Any]] = {"missing": {"default": "mean"}, "outliers": {**_OUTLIERS, "action": "keep"}}
CLEANED: Final[Mapping[str, Any]] = {"missing": {"default": "mean"}, "outliers": {**_OUTLIERS, "action": "clip"}}


@dataclass(frozen=True, slots=True)
class Derived:
    """A Pipeline for rows: `spec` is the resource as plain data, `id_member` the JSON member of the event id."""

    name: str
    spec: Mapping[str, Any]
    label: str
    label_because: str
    id_member: str
    rows: Rows

    @property
    def fields(self) -> dict[str, str]:
        return {name: told["type"] for name, told in self.spec["events"]["fields"].items()}

    def event(self, index: int, row: Mapping[str, Any]) -> dict[str, Any]:
        """The row as an event. Its id is the same whenever the same source is loaded again."""
        return {self.id_member: event_id(self.rows.digest, index), **row}


def event_id(digest: str, index: int) -> str:
    return hashlib.sha256(f"{digest}:{index}".encode()).hexdigest()[:32]


def choose_label(rows: Rows, label: str | None) -> tuple[str, str]:
    """The label's field and why it is that: asked for, else by its name, else the last column."""
    names = rows.table.column_names
    if label is not None:
        known = {original: name for name, original in rows.columns.items()}
        found = known.get(label) or (field_name(label) if field_name(label) in names else None)
        if found is None:
            raise Invalid(f"no column {label!r} to be the label", field="label",
                          remedy=f"choose one of {', '.join(rows.columns.values())}")
        return found, "asked for"
    for name in LABEL_NAMES:
        if name in names:
            return name, f"the column is called {rows.columns[name]}"
    return names[-1], "the last column"


def derive(name: str, rows: Rows, label: str | None = None, *, task: str | None = None,
           like: Mapping[str, Any] | None = None) -> Derived:
    """A Pipeline for the rows.

    Args:
        label: the column to learn; chosen by `choose_label` when None.
        task: `regression` or `classification`; decided by the label's type when None.
        like: the resource of another pipeline whose fields these rows must have; types and task are taken from it.
    """
    preferred = like["events"]["label"]["field"] if like and like["events"].get("label") else None
    # Other rows for a model have its label; that they lack it is told with whatever else does not fit.
    chosen, because = (preferred, _AS_THE_MODELS) if preferred and label is None else choose_label(rows, label)
    rows = _as_like(rows, chosen, like) if like else rows
    if len(rows.table.column_names) < 2:
        raise Invalid("the label is the only column", field=chosen, remedy="add columns to predict it from")
    label_spec, rows = (like["events"]["label"], rows) if like else _label(rows, chosen, task)
    fields = like["events"]["fields"] if like else _fields(rows, chosen)
    id_member, time_member = _members(rows)
    events = {"id": id_member, "time": time_member, "partitions": _PARTITIONS, "fields": fields, "label": label_spec,
              "dedupe_window": min(1_000_000, max(100_000, len(rows)))}
    called = pipeline_name(name, rows, events)
    regression = task_of({"events": events}) == "regression"
    family = REGRESSION[0] if regression else CLASSIFICATION[0]
    spec: dict[str, Any] = {
        "apiVersion": "lepton/v1", "kind": "Pipeline",
        "metadata": {"name": called, "dataset": name},
        "events": events,
        "clean": like.get("clean", UNCLEANED) if like else UNCLEANED,
        "model": {"family": family, "train": {"first_rows": _NEVER_ROWS, "every_rows": 0, "window_rows": _NEVER_ROWS}},
        # Whether a version is good enough is decided by who calls deploy_model, who sees its metrics.
        "gate": {"metric": "r2" if regression else "accuracy", "beat_champion_by": -1e9},
    }
    return Derived(called, spec, label_spec["field"], because, id_member, rows)


def is_derived(spec: Mapping[str, Any]) -> bool:
    """Whether a resource is one of ours, so that its rules may be set for the person who loaded the data."""
    train = (spec.get("model") or {}).get("train", {})
    return bool(spec["metadata"].get("dataset")) and train.get("first_rows") == _NEVER_ROWS


def cleaned(spec: Mapping[str, Any]) -> dict[str, Any]:
    """The resource with outliers clipped as well as missing values filled in."""
    return {**spec, "clean": CLEANED}


def task_for(family: str) -> str | None:
    """The task a family learns; None when it learns both. Raises Invalid for one that is not known."""
    if family not in FAMILIES:
        raise Invalid(f"no model family {family!r}", field="family", remedy=f"use one of {', '.join(FAMILIES)}")
    return "regression" if family in REGRESSION else "classification" if family in CLASSIFICATION else None


def task_of(spec: Mapping[str, Any]) -> str:
    """What a pipeline's resource is to predict: `regression` or `classification`. Raises Invalid without a label."""
    label = spec["events"].get("label")
    if label is None:
        raise Invalid("the pipeline has no label to learn", field="events.label", remedy="declare one in its spec")
    kind = label.get("type") or spec["events"]["fields"][label["field"]]["type"]
    return str(label.get("task") or _task_of(kind))


def inputs_of(spec: Mapping[str, Any]) -> dict[str, str]:
    """What a pipeline's model takes, name to type, in order."""
    label = (spec["events"].get("label") or {}).get("field")
    return {name: str(told["type"]) for name, told in spec["events"]["fields"].items() if name != label}


def pipeline_name(name: str, rows: Rows, events: Mapping[str, Any]) -> str:
    """Name of the pipeline: the data set's, and a digest of its contents and of how they are read."""
    slug = re.sub(r"[^a-z0-9]+", "-", name.rpartition("/")[2].lower()).strip("-")[:31].strip("-") or "data"
    read_as = json.dumps(events, sort_keys=True)
    return f"{slug}-{hashlib.sha256(f'{rows.digest}:{read_as}'.encode()).hexdigest()[:8]}"


def _members(rows: Rows) -> tuple[str, str]:
    """Names of the event's own id and time, beside whatever the columns are called."""
    taken = rows.table.column_names
    event, time = (own if own not in taken else f"lepton_{own}" for own in ("event_id", "occurred_at"))
    return event, time


def _task_of(kind: str) -> str:
    return "regression" if kind in ("int", "float") else "classification"


def _label(rows: Rows, label: str, task: str | None) -> tuple[dict[str, Any], Rows]:
    """How the label is described, and the rows with the label in a type that fits the task."""
    column = rows.table.column(label)
    kind = "category" if pa.types.is_string(column.type) else _kind(column)
    wanted = task or _task_of(kind)
    told: dict[str, Any] = {"field": label, "type": kind, "arrives": "with_event"}
    if wanted == "regression" and kind == "bool":
        rows = _with(rows, label, column.cast(pa.int8()).cast(pa.float64()), "was read as the numbers 0 and 1")
        told["type"] = "float"
    elif wanted == "regression" and kind == "category":
        raise Invalid(f"the label {label} is text, and regression needs a number", field="label",
                      remedy="train logistic_regression or mlp, or name another label")
    elif wanted == "classification" and kind == "float":
        raise Invalid(f"the label {label} is a fraction, and classification needs classes", field="label",
                      remedy="train linear_regression or mlp, or name another label")
    elif wanted == "classification" and kind == "int":
        told["task"] = "classification"
    classes = pc.count_distinct(column, mode="only_valid").as_py()
    if wanted == "classification" and not 2 <= classes <= MAX_CLASSES:
        raise Invalid(f"the label {label} has {classes} different values, which are no classes", field="label",
                      remedy=f"classes are between 2 and {MAX_CLASSES}; name another label, or train linear_regression")
    return told, rows


def _fields(rows: Rows, label: str) -> dict[str, dict[str, Any]]:
    return {name: {"type": _kind(rows.table.column(name))} for name in rows.table.column_names if name != label}


def _kind(column: pa.ChunkedArray) -> str:
    if pa.types.is_boolean(column.type):
        return "bool"
    if pa.types.is_integer(column.type):
        return "int"
    if pa.types.is_floating(column.type):
        return "float"
    distinct = pc.count_distinct(column, mode="only_valid").as_py()
    return "category" if distinct <= MAX_CATEGORIES and distinct * 2 <= len(column) else "text"


def _with(rows: Rows, name: str, column: pa.ChunkedArray, note: str) -> Rows:
    table = rows.table.set_column(rows.table.column_names.index(name), name, column)
    return Rows(table, rows.digest, rows.columns, (*rows.notes, f"column {rows.columns[name]} {note}"))


def _as_like(rows: Rows, label: str, like: Mapping[str, Any]) -> Rows:
    """The rows with the other pipeline's columns and types. Raises Invalid naming every column that cannot be."""
    wanted = {name: told["type"] for name, told in like["events"]["fields"].items()}
    label_spec = like["events"].get("label")
    if label_spec is None:
        raise Invalid("the model's pipeline has no label", field="label")
    wanted[label_spec["field"]] = label_spec.get("type") or wanted[label_spec["field"]]
    if label != label_spec["field"] and label in rows.table.column_names:
        rows = _renamed(rows, label, label_spec["field"])
    have = set(rows.table.column_names)
    problems = [f"{name} is missing" for name in wanted if name not in have]
    problems += [f"{name} is not one of the model's" for name in rows.table.column_names if name not in wanted]
    arrays: dict[str, pa.ChunkedArray] = {}
    for name in (one for one in wanted if one in have):
        try:
            arrays[name] = _cast(rows.table.column(name), wanted[name])
        except pa.ArrowInvalid:
            problems.append(f"{name} is no {wanted[name]}")
    if problems:
        raise Invalid(f"the columns do not fit the model: {'; '.join(problems)}", field="data",
                      remedy="give data with the columns and types the model was trained on")
    return Rows(pa.table(arrays), rows.digest, {name: rows.columns[name] for name in arrays}, rows.notes)


def _renamed(rows: Rows, old: str, new: str) -> Rows:
    names = [new if name == old else name for name in rows.table.column_names]
    columns = {new if name == old else name: original for name, original in rows.columns.items()}
    return Rows(rows.table.rename_columns(names), rows.digest, columns, rows.notes)


def _cast(column: pa.ChunkedArray, kind: str) -> pa.ChunkedArray:
    wanted = {"float": pa.float64(), "int": pa.int64(), "bool": pa.bool_()}.get(kind, pa.string())
    if column.type == wanted:
        return column
    if pa.types.is_boolean(column.type) and kind in ("float", "int"):
        return column.cast(pa.int8()).cast(wanted)
    if kind in ("float", "int") and (pa.types.is_integer(column.type) or pa.types.is_floating(column.type)):
        return column.cast(wanted)
    if kind in ("category", "text") and pa.types.is_integer(column.type):
        return column.cast(wanted)
    raise pa.ArrowInvalid(f"{column.type} is no {kind}")
