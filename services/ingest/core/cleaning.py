"""What of an accepted row is missing or outlying, and which rows the Pipeline's policies turn away for it."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from lepton.contracts.pb.models_pb2 import ModelManifest
from lepton.contracts.pipeline import Pipeline

BoolMatrix = np.ndarray[Any, np.dtype[np.bool_]]
Bounds = Mapping[str, tuple[float, float]]


def bounds_of(manifest: ModelManifest) -> dict[str, tuple[float, float]]:
    """What the champion's training snapshot calls ordinary, by field; the graph clips to the same numbers."""
    return {one.field: (one.outlier_low, one.outlier_high) for one in manifest.statistics
            if one.HasField("outlier_low") and one.HasField("outlier_high")}


@dataclass(frozen=True, slots=True)
class Turned:
    """A row a policy turns away."""

    index: int
    code: str
    message: str
    field: str | None


class Cleaning:
    """The policies of one Pipeline version. Values are never changed here: the model's graph fills in and clips."""

    def __init__(self, pipeline: Pipeline) -> None:
        self._fields = tuple(pipeline.fields)
        self._dropped = [index for index, name in enumerate(self._fields)
                         if pipeline.missing_policy(name).kind == "drop"]
        self._numeric = [index for index, name in enumerate(self._fields)
                         if pipeline.fields[name].type in ("float", "int")]
        self._flags = pipeline.clean.outliers.method != "none"
        self._quarantines = pipeline.clean.outliers.action == "quarantine"

    def outlying(self, values: Sequence[pa.Array], bounds: Bounds) -> BoolMatrix | None:
        """Rows by fields, true where a number lies outside its bounds; None when nothing can be."""
        watched = [index for index in self._numeric if self._fields[index] in bounds] if self._flags else []
        if not watched:
            return None
        found = np.zeros((len(values[0]), len(self._fields)), np.bool_)
        for index in watched:
            low, high = bounds[self._fields[index]]
            numbers = numbers_of(values[index])
            # NaN, the missing value, compares as neither.
            found[:, index] = (numbers < low) | (numbers > high)
        return found

    def turned_away(self, values: Sequence[pa.Array], outlying: BoolMatrix | None) -> Iterator[Turned]:
        """Rows with a missing value the Pipeline drops for, then outlying ones it quarantines; one reason a row."""
        seen: set[int] = set()
        for index in self._dropped:
            if values[index].null_count:
                for row in np.flatnonzero(values[index].is_null().to_numpy(zero_copy_only=False)).tolist():
                    if row not in seen:
                        seen.add(row)
                        yield Turned(row, "missing", "is missing, and the pipeline drops rows without it",
                                     self._fields[index])
        if self._quarantines and outlying is not None:
            for row in np.flatnonzero(outlying.any(axis=1)).tolist():
                if row not in seen:
                    yield Turned(row, "outlier", "lies outside what the model was trained on",
                                 self._fields[int(np.argmax(outlying[row]))])


def numbers_of(column: pa.Array) -> "np.ndarray[Any, np.dtype[np.float64]]":
    """A numeric column as float64, NaN where missing."""
    return np.asarray(column.to_numpy(zero_copy_only=False), np.float64)
