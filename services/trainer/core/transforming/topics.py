"""Texts as mixtures of topics (latent Dirichlet allocation), inferred in a fixed number of steps, in numpy and in ONNX.

The usual inference stops where a text's mixture changes little. Here every text gets the same number of steps, and
scikit-learn is made to learn the topics with just these steps: what was fitted, what `transform` gives and what the
file answers are one inference (Hoffman, Blei and Bach 2010, algorithm 1, E-step).
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from onnx import TensorProto
from scipy import sparse
from sklearn.decomposition import LatentDirichletAllocation

from lepton.contracts.modelling.transforms import Lda
from services.trainer.core.emitting.building import Graph
from services.trainer.core.preparing import words
from services.trainer.core.preparing.field import PlannedField
from services.trainer.core.preparing.layout import Span
from services.trainer.core.preparing.part import Emission
from services.trainer.core.preparing.rows import Array, Inputs
from services.trainer.core.preparing.words import Text
from services.trainer.core.transforming import texts

# Learning takes each text one by one, in every pass: about 0.2 ms each time.
_MOST_TEXTS, _PASSES, _BATCH = 20_000, 10, 128
_SEED = 20_261_121
# What scikit-learn adds so that a word which no topic has divides nothing by 0.
_LEAST = float(np.finfo(np.float64).eps)
# digamma(x) = digamma(x + 6) - sum of 1 / (x + i), i < 6; there the series is right to nine digits.
_SHIFTS = np.arange(6.0)
# ln y - 1/(2y) - r (1/12 - r (1/120 - r / 252)) with r = 1 / y^2 (Bernardo 1976, algorithm AS 103).
_SERIES = (1 / 12, 1 / 120, 1 / 252)


@dataclass(frozen=True, slots=True)
class Mixed:
    """A text's share of each topic. `topics` [topics][words]: the exponential of the expected logarithm of each word's
    share of the topic; `prior` is what a text has of each topic before its first word."""

    text: Text
    prior: float
    steps: int
    topics: tuple[tuple[float, ...], ...]

    def transform(self, inputs: Inputs) -> Array:
        """[rows, topics], each row's sum 1; a text without a known word has equal shares."""
        return np.concatenate([self._shares(some) for some in texts.counted(self.text, inputs)])

    def _shares(self, counts: Array) -> Array:
        known = np.array(self.topics)
        mixture = np.ones((len(counts), len(known)))
        for _ in range(self.steps):
            weight = np.exp(digamma(mixture) - digamma(mixture.sum(axis=1, keepdims=True)))
            mixture = self.prior + weight * ((counts / (weight @ known + _LEAST)) @ known.T)
        return np.asarray(mixture / mixture.sum(axis=1, keepdims=True))

    def emit(self, emission: Emission) -> str:
        """float32 [rows, topics], calculated in 64 bits."""
        graph, name = emission.graph, f"{emission.prefix}:{self.text.name}:mixed"
        known = np.array(self.topics)
        counts = graph.add("Cast", [texts.emit_counts(self.text, emission)], f"{name}:counts", to=TensorProto.DOUBLE)
        write = _Writing(graph, name)
        digammas = _Digamma.of(write)
        forth, back = write.constant("topics", known), write.constant("words", known.T)
        least, prior = write.constant("least", _LEAST), write.constant("prior", self.prior)
        # A mixture beside its sum, and digammas less that of the sum, are products with these.
        beside = write.constant("beside", np.hstack([np.eye(len(known)), np.ones((len(known), 1))]))
        less = write.constant("less", np.vstack([np.eye(len(known)), -np.ones((1, len(known)))]))
        first = np.exp(digamma(np.ones(len(known))) - digamma(np.array(float(len(known)))))
        weight = write.constant("first", first[None, :])
        mixture = ""
        for step in range(self.steps):
            if step:
                expected = digammas.of_values(write.add("MatMul", mixture, beside))
                weight = write.add("Exp", write.add("MatMul", expected, less))
            of_words = write.add("Add", write.add("MatMul", weight, forth), least)
            taken = write.add("MatMul", write.add("Div", counts, of_words), back)
            mixture = write.add("Add", write.add("Mul", weight, taken), prior)
        across = graph.constant(f"{name}:across", np.array([1], dtype=np.int64))
        shares = write.add("Div", mixture, write.add("ReduceSum", mixture, across))
        return graph.add("Cast", [shares], f"{name}:shares", to=TensorProto.FLOAT)

    @classmethod
    def from_data(cls, data: Mapping[str, Any]) -> "Mixed":
        return cls(words.text_of(data["text"]), data["prior"], data["steps"],
                   tuple(tuple(row) for row in data["topics"]))


@dataclass(frozen=True, slots=True)
class Topics:
    """The shares of each text."""

    texts: tuple[Mixed, ...]
    kind = "topics"

    @property
    def spans(self) -> tuple[Span, ...]:
        starts = np.cumsum([0, *(len(one.topics) for one in self.texts)]).tolist()
        return tuple(Span(one.text.name, "topics", start, len(one.topics))
                     for one, start in zip(self.texts, starts, strict=False))

    def transform(self, inputs: Inputs) -> Array:
        return np.concatenate([one.transform(inputs) for one in self.texts], axis=1)

    def emit(self, emission: Emission) -> str:
        return emission.graph.add("Concat", [one.emit(emission) for one in self.texts], emission.prefix, axis=1)

    def to_data(self) -> dict[str, Any]:
        return {"texts": [asdict(one) for one in self.texts]}

    @classmethod
    def from_data(cls, data: Mapping[str, Any]) -> "Topics":
        return cls(tuple(Mixed.from_data(one) for one in data["texts"]))


@dataclass(slots=True)
class _Writing:
    """Operators in 64 bits under the name of a text, each with a number of its own."""

    graph: Graph
    name: str
    written: int = 0

    def constant(self, name: str, value: Any) -> str:
        return self.graph.constant(f"{self.name}:{name}", np.asarray(value, dtype=np.float64))

    def add(self, operator: str, *inputs: str, **attributes: Any) -> str:
        self.written += 1
        return self.graph.add(operator, inputs, f"{self.name}:{self.written}", **attributes)


@dataclass(frozen=True, slots=True)
class _Digamma:
    """`digamma` in operators, for values of two dimensions; its constants are written once."""

    write: _Writing
    constants: tuple[str, ...]
    last: str

    @classmethod
    def of(cls, write: _Writing) -> "_Digamma":
        values = {"shifts": _SHIFTS[None, None, :], "far": float(len(_SHIFTS)), "half": 0.5,
                  **{f"series{place}": value for place, value in enumerate(_SERIES)}}
        return cls(write, tuple(write.constant(name, value) for name, value in values.items()),
                   write.graph.constant(f"{write.name}:last", np.array([-1], dtype=np.int64)))

    def of_values(self, values: str) -> str:
        write, (shifts, far, half, *series) = self.write, self.constants
        near = write.add("Add", write.add("Unsqueeze", values, self.last), shifts)
        passed = write.add("ReduceSum", write.add("Reciprocal", near), self.last, keepdims=0)
        beyond = write.add("Add", values, far)
        inverse = write.add("Reciprocal", beyond)
        square = write.add("Mul", inverse, inverse)
        tail = series[-1]
        for one in reversed(series[:-1]):
            tail = write.add("Sub", one, write.add("Mul", square, tail))
        whole = write.add("Sub", write.add("Log", beyond), write.add("Mul", inverse, half))
        return write.add("Sub", write.add("Sub", whole, write.add("Mul", square, tail)), passed)


def digamma(values: Array) -> Array:
    """Of positive numbers, to about nine digits."""
    passed = (1 / (values[..., None] + _SHIFTS)).sum(axis=-1)
    inverse = 1 / (values + len(_SHIFTS))
    square = inverse * inverse
    tail: Any = _SERIES[-1]
    for one in reversed(_SERIES[:-1]):
        tail = one - square * tail
    return np.asarray(-np.log(inverse) - 0.5 * inverse - square * tail - passed)


def fit(field: PlannedField, inputs: Inputs, wanted: Lda) -> Mixed:
    """Topics of the training rows by online variational Bayes; of very many texts, of some evenly among them.

    Raises RunFailed(data) where no word came twice.
    """
    text, present = texts.known_words(field, inputs, "lda", wanted.max_terms, wanted.max_words)
    some = present.take(np.unique(np.linspace(0, present.rows - 1, _MOST_TEXTS).astype(np.int64)))
    counts = sparse.vstack([sparse.csr_matrix(block) for block in texts.counted(text, some)])
    # No text stops early: a change less than nothing there is not.
    found = LatentDirichletAllocation(wanted.topics, learning_method="online", max_iter=_PASSES, batch_size=_BATCH,
                                      max_doc_update_iter=wanted.steps, mean_change_tol=0.0, random_state=_SEED)
    found.fit(counts)
    known = found.exp_dirichlet_component_
    return Mixed(text, 1 / wanted.topics, wanted.steps, tuple(tuple(row) for row in known.tolist()))
