"""How unlike the rows lately a whole row is: river's half-space trees over a partition, rebuilt from a window of rows.

The trees' masses (Tan, Ting, Liu 2011) at any row follow from the seed, the frozen scale, and the rows since the
beginning of the last full window. Those rows are the state: nothing of the trees themselves is ever written.
"""

from collections.abc import Mapping
from itertools import islice
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
from river.anomaly import HalfSpaceTrees

from lepton.contracts.pipeline import Pipeline
from lepton.errors import Invalid
from services.ingest.core.keys.state import StateRecord
from services.ingest.core.steps.frozen import Frozen
from services.ingest.core.steps.statistics import fields_of, matrix

Array = np.ndarray[Any, np.dtype[Any]]
WINDOW = 250
TREES, HEIGHT, SEED = 10, 8, 7
# How many interquartile ranges beyond the quartiles the trees can tell apart; what lies further counts as being there.
REACH = 3.0
# A record holds at least one row, so the newest of so many hold two windows.
_SLOTS = 2 * WINDOW


class _Record(msgspec.Struct, frozen=True):
    number: int
    rows: int
    """Rows kept under this method up to the last of these."""
    fields: tuple[str, ...]
    values: bytes


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(_Record).decode


class TreesStep:
    """A `services.ingest.core.steps.step.Step`; adds nothing to the rows, and does nothing without the method.

    `score` and `learn` run ahead of `plan` while a batch is judged; `drop` takes that back.
    """

    prefix = "trees"

    def __init__(self, pipeline: Pipeline) -> None:
        self._fields = fields_of(pipeline)[0]
        self._latest: list[Array] = []
        self._rows = 0
        self._number = 0
        self._pending: tuple[list[Array], int] | None = None
        self.adopt(pipeline)

    @property
    def active(self) -> bool:
        return self._active

    def adopt(self, pipeline: Pipeline) -> None:
        fields = fields_of(pipeline)[0]
        self._active = pipeline.clean.outliers.method == "half_space_trees" and bool(fields)
        if fields != self._fields:
            self._latest = [_onto(row, self._fields, fields) for row in self._latest]
            if self._pending is not None:
                self._pending = [_onto(row, self._fields, fields) for row in self._pending[0]], self._pending[1]
            self._fields = fields
        self._ahead: list[Array] = []
        self._model: _Model | None = None

    def begin(self) -> None:
        """A batch is judged from here on: what an earlier one that was never kept has taught is forgotten."""
        if self._ahead:
            self.drop()

    def score(self, row: Array, frozen: Frozen | None) -> float:
        """From 0 (ordinary) to 1, for a row of numbers, NaN where missing; 0 before statistics were frozen."""
        return self._at(frozen).score(row) if frozen is not None else 0.0

    def learn(self, row: Array, frozen: Frozen | None) -> None:
        """The row is kept."""
        model = self._at(frozen) if frozen is not None else None
        self._ahead.append(row)
        if model is not None:
            model.learn(row)

    def plan(self, batch: pa.RecordBatch) -> tuple[pa.RecordBatch, list[StateRecord]]:
        if not self._active:
            return batch, []
        values = matrix([batch.column(name) for name in self._fields], batch.num_rows)
        rows = self._rows + len(values)
        latest = values[-_SLOTS:]
        self._pending = (list(latest), rows)
        record = _Record(self._number, rows, self._fields, np.ascontiguousarray(latest, "<f8").tobytes())
        return batch, [(f"trees/{self._number % _SLOTS}".encode(), _encode(record))]

    def keep(self) -> None:
        if self._pending is not None:
            latest, self._rows = self._pending
            self._latest = [*self._latest, *latest][-_SLOTS:]
            self._number += 1
        self._pending, self._ahead = None, []

    def drop(self) -> None:
        self._pending, self._ahead, self._model = None, [], None

    def restore(self, records: Mapping[bytes, bytes]) -> None:
        self.drop()
        self._latest, self._rows, self._number = [], 0, 0
        try:
            found = sorted((_decode(value) for value in records.values()), key=lambda one: one.number)
            for one in found:
                self._rows, self._number = one.rows, one.number + 1
                values = np.frombuffer(one.values, "<f8").reshape(-1, len(one.fields))
                self._latest = [*self._latest, *(_onto(row, one.fields, self._fields) for row in values)][-_SLOTS:]
        except (msgspec.MsgspecError, ValueError) as error:
            raise Invalid(f"the window of a partition's half-space trees cannot be read: {error}") from error

    def _at(self, frozen: Frozen) -> "_Model":
        """The trees as all rows up to here leave them, under this scale."""
        if self._model is None or self._model.frozen_rows != frozen.rows:
            rows = self._rows + len(self._ahead)
            needed = rows % WINDOW + (WINDOW if rows >= WINDOW else 0)
            known = [*self._latest, *self._ahead]
            self._model = _Model(self._fields, frozen)
            for row in islice(known, max(len(known) - needed, 0), None):
                self._model.learn(row)
        return self._model


class _Model:
    """River's trees over rows scaled to [0, 1]; a missing number is the median."""

    def __init__(self, fields: tuple[str, ...], frozen: Frozen) -> None:
        self.frozen_rows = frozen.rows
        spread = frozen.q3 - frozen.q1
        self._low = frozen.q1 - REACH * spread
        width = spread * (1 + 2 * REACH)
        usable = np.isfinite(width) & (width > 0)
        # A field without spread is a constant here, and so has no say.
        self._width = np.where(usable, width, np.inf)
        self._low, self._median = np.where(usable, self._low, 0.0), np.where(usable, frozen.median, 0.0)
        self._trees: Any = HalfSpaceTrees(n_trees=TREES, height=HEIGHT, window_size=WINDOW, seed=SEED)

    def score(self, row: Array) -> float:
        return float(self._trees.score_one(self._scaled(row)))

    def learn(self, row: Array) -> None:
        self._trees.learn_one(self._scaled(row))

    def _scaled(self, row: Array) -> dict[int, float]:
        values = (np.where(np.isfinite(row), row, self._median) - self._low) / self._width
        return dict(enumerate(np.clip(values, 0.0, 1.0).tolist()))


def _onto(row: Array, before: tuple[str, ...], now: tuple[str, ...]) -> Array:
    if before == now:
        return row
    return np.array([row[before.index(name)] if name in before else np.nan for name in now])
