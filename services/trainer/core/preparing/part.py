"""What every part of a preparation promises: columns of some fields, the same in numpy and in the exported graph.

A part is made by a `fit` function of its module from the training rows, frozen, and listed in
`transforming.fitting.KINDS` under the name in which its data is kept.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np

from services.trainer.core.emitting.building import Graph
from services.trainer.core.preparing.layout import Span
from services.trainer.core.preparing.rows import Array, Inputs

MISSING = "_missing"
"""Name of the graph's input that says what is absent: bool [rows, fields]."""
EXPLAIN, ATTRIBUTIONS = "_explain", "attributions"
"""Input that says which rows to explain: bool [rows]; and the output that does: float32 [rows, fields]."""
PARTS = f"{ATTRIBUTIONS}:"
"""Before a field's name, the output that says what the parts of its value did: float32 [rows, *parts]."""

ML = "ai.onnx.ml"
"""Domain of the operators for text."""


@dataclass(frozen=True, slots=True)
class Emission:
    """Where a part writes its operators. Names of its values begin with `prefix`, which no other part has.

    A field's values are the graph's input of the field's name: [rows, *tail].
    """

    graph: Graph
    fields: tuple[str, ...]
    prefix: str

    def missing(self, names: Sequence[str]) -> str:
        """Which values of these fields the request calls absent: bool [rows or 1, names]."""
        places = np.array([self.fields.index(name) for name in names], dtype=np.int64)
        return self.graph.add("Gather", [MISSING, self.graph.constant(f"{self.prefix}:places", places)],
                              f"{self.prefix}:told_missing", axis=1)


class Part(Protocol):
    @property
    def kind(self) -> str:
        """Its name in `transforming.fitting.KINDS`."""

    @property
    def spans(self) -> tuple[Span, ...]:
        """Its columns, in order and without gaps, the first of them at 0."""

    def transform(self, inputs: Inputs) -> Array:
        """[rows, width of the spans]; finite whatever comes in."""

    def emit(self, emission: Emission) -> str:
        """Write the operators that give what `transform` gives; returns the name of a float32 [rows, width]."""

    def to_data(self) -> dict[str, Any]:
        """Plain JSON data from which `KINDS[kind]` makes an equal part."""


@runtime_checkable
class Teaching(Protocol):
    """A part whose columns come of labels, and are others for the rows that a network learns from."""

    def taught(self, inputs: Inputs, signals: Array) -> Array:
        """[rows, width], of which no row's tells of its own label; `signals` [rows, n] are the labels."""
