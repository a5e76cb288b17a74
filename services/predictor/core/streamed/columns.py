"""Answers as columns of a batch of predictions: a column at a time, whatever the rows are many."""

from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lepton.contracts import features
from lepton.contracts.arrow import predictions
from services.predictor.core.answers import Answers
from services.predictor.core.signature import Array

_TRUTHS = pa.array(["false", "true"])


def entities(batch: pa.RecordBatch) -> list[str]:
    """Whose rows those of a features batch are."""
    found: list[str] = batch.column(features.ENTITY).to_pylist()
    return found


def apart(rows: pa.RecordBatch, picked: Sequence[bool]) -> tuple[pa.RecordBatch, pa.RecordBatch]:
    """The rows that are picked, and the rest, each in their order."""
    mask = pa.array(picked, pa.bool_())
    return rows.filter(mask), rows.filter(pc.invert(mask))


def written(rows: pa.RecordBatch, version: int, answers: Answers, *, model: str, instance: str) -> Iterator[bytes]:
    """Values of the records that hold these answers. `rows`: the columns of `predictions.OURS` but for the version."""
    versions = pa.array(np.full(rows.num_rows, version, "u8"))
    ours = [versions if one.name == predictions.VERSION else rows.column(one.name) for one in predictions.OURS]
    return predictions.encode_batches(
        predictions.batch_of(ours, answered(answers), model=model, instance=instance))


def answered(answers: Answers) -> dict[str, pa.Array]:
    """The columns that hold the answers, by name; the same values as `Answers.rows` has."""
    if answers.numbers is not None:
        found = {predictions.NUMBER: pa.array(answers.numbers.astype("f8", copy=False))}
        if answers.bounds is not None:
            low, high = answers.bounds.astype("f8", copy=False).T
            found |= {predictions.LOW: pa.array(low), predictions.HIGH: pa.array(high)}
        return found
    found = {predictions.LABEL: _texts(answers)}
    if answers.probabilities is not None:
        return found | {predictions.PROBABILITIES: _floats(answers.probabilities)}
    if answers.items is not None and answers.scores is not None:
        items = pa.array([item for row in answers.item_texts() for item in row], pa.string())
        return found | {predictions.ITEMS: _lists(items, len(answers)), predictions.SCORES: _floats(answers.scores)}
    beside = answers.values if answers.values is not None else answers.score
    return found if beside is None else found | {predictions.SCORES: _floats(beside)}


def _texts(answers: Answers) -> pa.Array:
    labels = answers.labels
    kind = "" if labels is None else labels.dtype.kind
    if kind == "b":
        return _TRUTHS.take(pa.array(labels).cast(pa.int8()))
    if kind in ("i", "u"):
        return pc.cast(pa.array(labels), pa.string())
    return pa.array(labels if kind == "O" else answers.texts(), pa.string())


def _floats(rows: Array) -> pa.Array:
    """[rows] or [rows, k] as a list a row."""
    return _lists(pa.array(np.ascontiguousarray(rows, "f4").reshape(-1)), len(rows))


def _lists(values: pa.Array, rows: int) -> pa.Array:
    """As many lists as rows, all of one length, of values in a row."""
    size = len(values) // max(1, rows)
    return pa.ListArray.from_arrays(pa.array(np.arange(rows + 1, dtype="i4") * size, pa.int32()), values)
