"""Texts as weighted words (TF-IDF), or as the few directions along which such texts differ most."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from onnx import TensorProto

from services.trainer.core.failure import bad_data
from services.trainer.core.preparing import words
from services.trainer.core.preparing.field import PlannedField
from services.trainer.core.preparing.layout import Span
from services.trainer.core.preparing.part import Emission
from services.trainer.core.preparing.rows import Array, Inputs
from services.trainer.core.preparing.words import FIRST, Along, Text

# A text without a known word has no length to divide by.
_SHORTEST = 1e-6
# Rows whose words are counted at once: bounds the memory of the whole vocabulary beside each.
_AT_ONCE = 4096


@dataclass(frozen=True, slots=True)
class Weighted:
    """A text's words by `idf`, then each text of length 1, then `weights` [words][components] where there are."""

    text: Text
    idf: tuple[float, ...]
    weights: tuple[tuple[float, ...], ...] | None = None

    @property
    def width(self) -> int:
        return len(self.weights[0]) if self.weights is not None else len(self.idf)

    def transform(self, inputs: Inputs) -> Array:
        unit = self.units(inputs)
        return unit if self.weights is None else unit @ np.array(self.weights)

    def units(self, inputs: Inputs) -> Array:
        """[rows, words], each row of length 1 or, where no word is known, 0."""
        heavy = np.concatenate(list(counted(self.text, inputs))) * np.array(self.idf)
        return np.asarray(heavy / np.maximum(np.linalg.norm(heavy, axis=1, keepdims=True), _SHORTEST))

    def emit(self, emission: Emission) -> str:
        """float32 [rows, width]."""
        graph, name = emission.graph, f"{emission.prefix}:{self.text.name}"
        heavy = emit_counts(self.text, emission, self.idf)
        axis = graph.constant(f"{name}:across", np.array([1], dtype=np.int64))
        length = graph.add("ReduceL2", [heavy, axis], f"{name}:length", keepdims=1)
        shortest = graph.constant(f"{name}:shortest", np.array(_SHORTEST, dtype=np.float32))
        unit = graph.add("Div", [heavy, graph.add("Max", [length, shortest], f"{name}:divisor")], f"{name}:unit")
        if self.weights is None:
            return unit
        along = graph.constant(f"{name}:directions", np.array(self.weights, dtype=np.float32))
        return graph.add("MatMul", [unit, along], f"{name}:along")

    @classmethod
    def from_data(cls, data: Mapping[str, Any]) -> "Weighted":
        weights = data["weights"]
        return cls(words.text_of(data["text"]), tuple(data["idf"]),
                   None if weights is None else tuple(tuple(row) for row in weights))


@dataclass(frozen=True, slots=True)
class Tfidf:
    """The columns of each text."""

    texts: tuple[Weighted, ...]
    kind = "tfidf"

    @property
    def spans(self) -> tuple[Span, ...]:
        starts = np.cumsum([0, *(one.width for one in self.texts)]).tolist()
        return tuple(Span(one.text.name, "terms", start, one.width)
                     for one, start in zip(self.texts, starts, strict=False))

    def transform(self, inputs: Inputs) -> Array:
        return np.concatenate([one.transform(inputs) for one in self.texts], axis=1)

    def emit(self, emission: Emission) -> str:
        blocks = [one.emit(emission) for one in self.texts]
        whole = emission.graph.add("Concat", blocks, f"{emission.prefix}:all", axis=1)
        return emission.graph.add("Cast", [whole], emission.prefix, to=TensorProto.FLOAT)

    def to_data(self) -> dict[str, Any]:
        return {"texts": [asdict(one) for one in self.texts]}

    @classmethod
    def from_data(cls, data: Mapping[str, Any]) -> "Tfidf":
        return cls(tuple(Weighted.from_data(one) for one in data["texts"]))


def fit(field: PlannedField, inputs: Inputs, terms: int, length: int, components: int | None) -> Weighted:
    """Inverse document frequencies as scikit-learn smooths them: ln((1 + texts) / (1 + texts with it)) + 1.

    With `components` a truncated singular value decomposition (Deerwester et al. 1990). Raises RunFailed(data) where no
    word came twice.
    """
    text, present = known_words(field, inputs, "tfidf", terms, length)
    holding = np.zeros(len(text.words))
    for block in counted(text, present):
        holding += (block > 0).sum(axis=0)
    found = Weighted(text, tuple((np.log((1 + present.rows) / (1 + holding)) + 1).tolist()))
    if components is None:
        return found
    products = np.zeros((len(text.words), len(text.words)))
    for some in _blocks(present):
        unit = found.units(some)
        products += unit.T @ unit
    _, vectors = np.linalg.eigh(products)
    weights = vectors[:, ::-1][:, :components]
    largest = np.take_along_axis(weights, np.abs(weights).argmax(axis=0)[None, :], axis=0)
    weights = weights * np.where(largest < 0, -1.0, 1.0)
    return Weighted(text, found.idf, tuple(tuple(row) for row in weights.tolist()))


def known_words(field: PlannedField, inputs: Inputs, kind: str, terms: int, length: int) -> tuple[Text, Inputs]:
    """The words that are counted, and the rows that have a text. Raises RunFailed(data) where no word came twice."""
    text = words.fit([field], inputs, Along(terms, length)).texts[0]
    if not text.words:
        raise bad_data(f"no word of `{field.name}` came twice in the training rows",
                       f"wait for more rows, or remove its {kind} from features.transforms")
    return text, inputs.take(np.flatnonzero(~inputs.absent([field.name])[:, 0]))


def emit_counts(text: Text, emission: Emission, weights: Sequence[float] = ()) -> str:
    """How often each word comes, times its weight where there are some: float32 [rows, words]."""
    codes, size = text.emit(emission), len(text.words)
    heavy = {"mode": "TFIDF", "weights": [float(one) for one in weights]} if weights else {"mode": "TF"}
    # The operator counts each code of its pool into the column beside it.
    return emission.graph.add("TfIdfVectorizer", [codes], f"{emission.prefix}:{text.name}:weighted", min_gram_length=1,
                              max_gram_length=1, max_skip_count=0, ngram_counts=[0], ngram_indexes=list(range(size)),
                              pool_int64s=list(range(FIRST, FIRST + size)), **heavy)


def counted(text: Text, inputs: Inputs) -> Iterator[Array]:
    """`counts` of some rows after the other: one block at least."""
    return (counts(text, some) for some in _blocks(inputs))


def _blocks(inputs: Inputs) -> Iterator[Inputs]:
    for start in range(0, max(inputs.rows, 1), _AT_ONCE):
        yield inputs.take(np.arange(start, min(start + _AT_ONCE, inputs.rows)))


def counts(text: Text, inputs: Inputs) -> Array:
    """How often each word comes: [rows, words]."""
    codes, size = text.codes(inputs), text.size
    flat = (codes + np.arange(inputs.rows)[:, None] * size).ravel()
    every = np.bincount(flat, minlength=inputs.rows * size).reshape(inputs.rows, size)
    return every[:, FIRST:].astype(np.float64)
