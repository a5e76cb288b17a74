"""How the fields of accepted rows go together: rank correlations over an even sample of an interval's rows.

Spearman's coefficient (1904) is that of ranks, so that neither units nor outliers nor a field that moves as a whole
change it: what changes is only how one field goes with another, which no field shows by itself.
"""

from collections.abc import Container, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from lepton.contracts.pb.quality_pb2 import JointQuality
from services.ingest.core.clean.policies import numbers_of

MAX_FIELDS = 12
"""66 pairs, which fit into a summary."""
AT_ONCE = 256
"""Rows that are taken of those that are counted together; every n-th one, so that a replay takes the same."""
MAX_ROWS = 1_024
MIN_ROWS = 8
"""Fewer say nothing about how fields go together."""

Array = np.ndarray[Any, np.dtype[Any]]
Column = tuple[str, Array]


@dataclass(slots=True)
class Joint:
    """Sampled rows of an interval, by field; texts stay texts until they are ranked."""

    columns: tuple[Column, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(name for name, _ in self.columns)

    @property
    def rows(self) -> int:
        return len(self.columns[0][1]) if self.columns else 0

    def add(self, other: "Joint") -> None:
        """Rows of other fields than ours begin it anew: a Pipeline that changed."""
        if self.names != other.names or not self.rows:
            self.columns = other.columns
            return
        stride = -(-(self.rows + other.rows) // MAX_ROWS)
        self.columns = tuple((name, np.concatenate((mine, theirs))[::stride])
                             for (name, mine), (_, theirs) in zip(self.columns, other.columns, strict=True))

    def message(self) -> JointQuality | None:
        if len(self.columns) < 2 or self.rows < MIN_ROWS:
            return None
        ranked = np.array([_ranks(values) for _, values in self.columns])
        ranked -= ranked.mean(axis=1, keepdims=True)
        lengths = np.sqrt(np.square(ranked).sum(axis=1, keepdims=True))
        ranked = np.divide(ranked, lengths, out=np.zeros_like(ranked), where=lengths > 0)
        together = np.clip(ranked @ ranked.T, -1.0, 1.0)
        upper = np.triu_indices(len(self.columns), 1)
        return JointQuality(fields=self.names, rows=self.rows, correlations=together[upper].tolist())


def joint_of(names: Sequence[str], values: Sequence[pa.Array], categories: Container[str]) -> Joint:
    """Of the first fields that can be ranked, the rows that have them all. `values` by name."""
    rows = len(values[0]) if values else 0
    picked = pa.array(np.arange(0, rows, -(-rows // AT_ONCE) or 1))
    columns: list[Column] = []
    whole = np.ones(len(picked), np.bool_)
    for name, column in zip(names, values, strict=True):
        if len(columns) == MAX_FIELDS or not _ranks_well(column.type, counted=name in categories):
            continue
        sample = column.take(picked)
        if sample.null_count:
            whole &= sample.is_valid().to_numpy(zero_copy_only=False)
        columns.append((name, _comparable(sample)))
    return Joint(tuple((name, sampled[whole]) for name, sampled in columns))


def _ranks_well(kind: pa.DataType, *, counted: bool) -> bool:
    """Free text has no order that means anything; nor have lists."""
    return bool(pa.types.is_floating(kind) or pa.types.is_integer(kind) or pa.types.is_boolean(kind)
                or (counted and pa.types.is_string(kind)))


def _comparable(sample: pa.Array) -> Array:
    if pa.types.is_string(sample.type):
        return np.array(["" if one is None else one for one in sample.to_pylist()], dtype=np.str_)
    if pa.types.is_boolean(sample.type):
        return np.asarray(sample.fill_null(False).to_numpy(zero_copy_only=False))
    return np.asarray(numbers_of(sample))


def _ranks(values: Array) -> Array:
    """Ranks from 0; equal values share the mean of theirs."""
    _, places, counts = np.unique(values, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    return np.asarray((ends - (counts + 1) / 2)[places])
