"""Rows in libraries the SDK does not bring along: found when they are asked for, or missed in one clear line."""

import importlib
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lepton.errors import Invalid, Missing

LABEL = "_label"


def library(name: str) -> Any:
    """The module. Raises Missing with how to get it."""
    try:
        return importlib.import_module(name)
    except ImportError as failure:
        raise Missing(f"{name} is not installed", field=name, remedy=f"pip install {name}") from failure


def tensors(table: pa.Table, columns: list[str] | None) -> Any:
    """See `AsyncStoredRows.to_torch`."""
    torch = library("torch")
    wanted = columns or [name for name in table.column_names if not name.startswith("_") and _is_input(table, name)]
    for name in wanted:
        if name not in table.column_names or not _is_input(table, name):
            what = f"is {table.column(name).type}" if name in table.column_names else "is not there"
            raise Invalid(f"column {name} {what}", field="columns", remedy="name numeric or boolean fields")
    classes: tuple[str, ...] = ()
    parts = []
    if LABEL in table.column_names:
        table = table.filter(pc.is_valid(table.column(LABEL)))
        label, classes = _label(table.column(LABEL).combine_chunks())
        parts = [torch.from_numpy(label)]
    inputs = np.empty((table.num_rows, len(wanted)), dtype=np.float32)
    for number, name in enumerate(wanted):
        inputs[:, number] = table.column(name).cast(pa.float32(), safe=False).to_numpy()
    found = torch.utils.data.TensorDataset(torch.from_numpy(inputs), *parts)
    found.columns, found.classes = tuple(wanted), classes
    return found


def _is_input(table: pa.Table, name: str) -> bool:
    kind = table.column(name).type
    return bool(pa.types.is_floating(kind) or pa.types.is_integer(kind) or pa.types.is_boolean(kind))


def _label(column: pa.Array) -> tuple[Any, tuple[str, ...]]:
    if pa.types.is_boolean(column.type):
        return column.cast(pa.int64()).to_numpy(zero_copy_only=False).copy(), ("false", "true")
    if pa.types.is_string(column.type):
        classes = sorted(set(column.to_pylist()))
        return pc.index_in(column, value_set=pa.array(classes, pa.string())).cast(pa.int64()).to_numpy(
            zero_copy_only=False).copy(), tuple(classes)
    return column.cast(pa.float32(), safe=False).to_numpy(zero_copy_only=False).copy(), ()
