"""Categories in other forms than one-hot: the label's mean for each value, and values that share a few buckets."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from onnx import TensorProto

from services.trainer.core.preparing.choices import Choice, emit_codes
from services.trainer.core.preparing.layout import Span
from services.trainer.core.preparing.part import Emission
from services.trainer.core.preparing.rows import Array, Inputs

FOLDS = 5
# The folds must not follow an order that the rows may have.
_FOLD_SEED = 20_261_121


@dataclass(frozen=True, slots=True)
class Hashed:
    """The bucket of each choice's value as one-hot columns, behind one for values not known.

    No operator of ONNX hashes a text. The values of the training rows are therefore looked up, with their bucket beside
    them: the network stays as small as the buckets are few, and the file holds the values.
    """

    choices: tuple[Choice, ...]
    buckets: tuple[int, ...]
    kind = "hashed"

    @property
    def spans(self) -> tuple[Span, ...]:
        return _spans(self.choices, "buckets", [count + 1 for count in self.buckets])

    def transform(self, inputs: Inputs) -> Array:
        hot = [_table(one, count)[one.codes(inputs)][:, None] == np.arange(count + 1)
               for one, count in zip(self.choices, self.buckets, strict=True)]
        return np.concatenate(hot, axis=1).astype(np.float64)

    def emit(self, emission: Emission) -> str:
        graph, prefix = emission.graph, emission.prefix
        blocks = []
        codes = _emit_each(emission, self.choices)
        for code, one, count in zip(codes, self.choices, self.buckets, strict=True):
            name = f"{prefix}:{one.name}"
            bucket = graph.add("Gather", [graph.constant(f"{name}:table", _table(one, count)), code], f"{name}:bucket")
            blocks.append(graph.add("Equal", [bucket, graph.constant(f"{name}:buckets", np.arange(count + 1)[None, :])],
                                    f"{name}:hot"))
        hot = blocks[0] if len(blocks) == 1 else graph.add("Concat", blocks, f"{prefix}:hot", axis=1)
        return graph.add("Cast", [hot], prefix, to=TensorProto.FLOAT)

    def to_data(self) -> dict[str, Any]:
        return {"choices": [asdict(one) for one in self.choices], "buckets": list(self.buckets)}

    @classmethod
    def from_data(cls, data: Mapping[str, Any]) -> "Hashed":
        return cls(_choices(data), tuple(data["buckets"]))


@dataclass(frozen=True, slots=True)
class TargetMeans:
    """`tables` [choice][code][signal]: the label's mean over training rows of each value, drawn to the overall mean as
    if `smoothing` more rows had it (Micci-Barreca 2001). A value not known has the overall mean."""

    choices: tuple[Choice, ...]
    smoothing: tuple[float, ...]
    tables: tuple[tuple[tuple[float, ...], ...], ...]
    kind = "target_means"

    @property
    def spans(self) -> tuple[Span, ...]:
        return _spans(self.choices, "target", [len(table[0]) for table in self.tables])

    def transform(self, inputs: Inputs) -> Array:
        return np.concatenate([np.array(table)[one.codes(inputs)]
                               for one, table in zip(self.choices, self.tables, strict=True)], axis=1)

    def taught(self, inputs: Inputs, signals: Array) -> Array:
        """What the rows a network learns from are to it: means over the other folds, never of a row's own label.

        Otherwise a rare value's column would tell the label itself (cross fitting, as scikit-learn's TargetEncoder).
        """
        fold = np.random.default_rng(_FOLD_SEED).permutation(inputs.rows) % FOLDS
        blocks = []
        for one, smoothing in zip(self.choices, self.smoothing, strict=True):
            codes = one.codes(inputs)
            block = np.zeros((inputs.rows, signals.shape[1]))
            for number in range(FOLDS):
                inside = fold == number
                # Fewer rows than folds: what is left to learn from is then the rows themselves.
                others = ~inside if (~inside).any() else inside
                block[inside] = means(one, smoothing, codes[others], signals[others])[codes[inside]]
            blocks.append(block)
        return np.concatenate(blocks, axis=1)

    def emit(self, emission: Emission) -> str:
        graph, prefix = emission.graph, emission.prefix
        codes = _emit_each(emission, self.choices)
        blocks, axis = [], graph.constant(f"{prefix}:one", np.array([1], dtype=np.int64))
        for code, one, table in zip(codes, self.choices, self.tables, strict=True):
            name = f"{prefix}:{one.name}"
            kept = graph.constant(f"{name}:table", np.array(table, dtype=np.float32))
            blocks.append(graph.add("Squeeze", [graph.add("Gather", [kept, code], f"{name}:looked_up"), axis],
                                    f"{name}:mean"))
        return graph.add("Concat", blocks, prefix, axis=1)

    def to_data(self) -> dict[str, Any]:
        return {"choices": [asdict(one) for one in self.choices], "smoothing": list(self.smoothing),
                "tables": [[list(row) for row in table] for table in self.tables]}

    @classmethod
    def from_data(cls, data: Mapping[str, Any]) -> "TargetMeans":
        return cls(_choices(data), tuple(data["smoothing"]),
                   tuple(tuple(tuple(row) for row in table) for table in data["tables"]))


def fit_means(choices: Sequence[Choice], smoothing: Sequence[float], inputs: Inputs, signals: Array) -> TargetMeans:
    """`signals` [rows, n]: what the label is of each row, a number or one a class."""
    tables = [means(one, weight, one.codes(inputs), signals) for one, weight in zip(choices, smoothing, strict=True)]
    return TargetMeans(tuple(choices), tuple(smoothing),
                       tuple(tuple(tuple(row) for row in table.tolist()) for table in tables))


def means(choice: Choice, smoothing: float, codes: Array, signals: Array) -> Array:
    """[codes, signals]; the first row, for values not known, is the overall mean."""
    overall = signals.mean(axis=0)
    counts = np.bincount(codes, minlength=choice.width).astype(np.float64)
    sums = np.stack([np.bincount(codes, weights=column, minlength=choice.width) for column in signals.T], axis=1)
    table: Array = (sums + smoothing * overall) / (counts + smoothing)[:, None]
    table[0] = overall
    return table


def bucket_of(value: str, buckets: int) -> int:
    """0 to buckets - 1, the same on every machine."""
    return int.from_bytes(hashlib.sha256(value.encode("utf-8", "surrogatepass")).digest()[:8], "big") % buckets


def _table(choice: Choice, buckets: int) -> Array:
    """The column of each code: 0 for values not known, then the buckets."""
    return np.array([0, *(1 + bucket_of(value, buckets) for value in choice.categories)], dtype=np.int64)


def _emit_each(emission: Emission, choices: Sequence[Choice]) -> list[str]:
    """The code of each choice, its fill where absent: int64 [rows, 1]."""
    graph, prefix = emission.graph, emission.prefix
    filled = emit_codes(emission, choices)
    return [graph.add("Gather", [filled, graph.constant(f"{prefix}:{one.name}:at", np.array([place], dtype=np.int64))],
                      f"{prefix}:{one.name}:filled", axis=1) for place, one in enumerate(choices)]


def _spans(choices: Sequence[Choice], kind: str, widths: Sequence[int]) -> tuple[Span, ...]:
    starts = np.cumsum([0, *widths]).tolist()
    return tuple(Span(one.name, kind, start, width)
                 for one, start, width in zip(choices, starts, widths, strict=False))


def _choices(data: Mapping[str, Any]) -> tuple[Choice, ...]:
    return tuple(Choice(**{**one, "categories": tuple(one["categories"])}) for one in data["choices"])
