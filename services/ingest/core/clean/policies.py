"""What of an accepted row is missing or outlying, and which rows the Pipeline's policies turn away for it."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from lepton.contracts.pb.models_pb2 import ModelManifest
from lepton.contracts.pipeline import Pipeline
from lepton.contracts.pipeline_blocks import NUMERIC
from services.ingest.core.clean.turned import Turned

BoolMatrix = np.ndarray[Any, np.dtype[np.bool_]]
Bounds = Mapping[str, tuple[float, float]]


def bounds_of(manifest: ModelManifest) -> dict[str, tuple[float, float]]:
    """What the champion's training snapshot calls ordinary, by field; the graph clips to the same numbers."""
    return {one.field: (one.outlier_low, one.outlier_high) for one in manifest.statistics
            if one.HasField("outlier_low") and one.HasField("outlier_high")}


class Cleaning:
    """The policies of one Pipeline version. Values are never changed here: the model's graph fills in and clips."""

    def __init__(self, pipeline: Pipeline) -> None:
        self._fields = tuple(pipeline.fields)
        self._dropped = [index for index, name in enumerate(self._fields)
                         if pipeline.missing_policy(name).kind == "drop"]
        self.numeric = [index for index, name in enumerate(self._fields) if pipeline.fields[name].type in NUMERIC]
        """Places of the numbers among the fields."""
        self.method = pipeline.clean.outliers.method
        self.width = pipeline.clean.outliers.width
        self.quarantines = pipeline.clean.outliers.action == "quarantine"

    def outlying(self, numbers: "np.ndarray[Any, np.dtype[Any]]", bounds: Bounds) -> BoolMatrix | None:
        """Rows by fields, true where a number lies outside its bounds; None when nothing can be.

        `numbers` are the numeric fields [rows, numeric], NaN where missing.
        """
        watched = [(place, index) for place, index in enumerate(self.numeric) if self._fields[index] in bounds] \
            if self.method != "none" else []
        if not watched:
            return None
        found = np.zeros((len(numbers), len(self._fields)), np.bool_, order="F")
        for place, index in watched:
            low, high = bounds[self._fields[index]]
            # NaN, the missing value, compares as neither.
            found[:, index] = (numbers[:, place] < low) | (numbers[:, place] > high)
        return found

    def incomplete(self, values: Sequence[pa.Array]) -> Iterator[Turned]:
        """Rows with a missing value the Pipeline drops them for, field by field; a row may come several times."""
        for index in self._dropped:
            if values[index].null_count:
                for row in np.flatnonzero(values[index].is_null().to_numpy(zero_copy_only=False)).tolist():
                    yield Turned(row, "missing", "is missing, and the pipeline drops rows without it",
                                 self._fields[index])

    def outlier(self, row: int, outlying: BoolMatrix, usual: str) -> Turned:
        """Why an outlying row is turned away: for its first field outside. `usual`: what it was compared with."""
        return Turned(row, "outlier", f"lies outside {usual}", self._fields[int(np.argmax(outlying[row]))])


def numbers_of(column: pa.Array) -> "np.ndarray[Any, np.dtype[np.float64]]":
    """A numeric column as float64, NaN where missing."""
    return np.asarray(column.to_numpy(zero_copy_only=False), np.float64)
