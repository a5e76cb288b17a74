"""Texts as codes of words: which words have a code, and how a word is recognised whatever its case and what ends it.

ONNX can split text at spaces and look words up, and can neither change their case nor cut off what stands at their
ends. So a word's usual spellings are looked up themselves: small, capitalised and in capitals, each plain or before a
mark, and every spelling that the training rows had.
"""

import string
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from onnx import TensorProto

from services.trainer.core.preparing.field import PlannedField
from services.trainer.core.preparing.layout import Span
from services.trainer.core.preparing.part import ML, Emission
from services.trainer.core.preparing.rows import Array, Inputs

NONE, UNKNOWN, FIRST = 0, 1, 2
"""Codes: the text has ended; a word never learnt; the commonest word."""
# A word must come twice to be learnt; those that came once teach what an unknown one means.
MIN_WORD_COUNT = 2
_MARKS = ("", ".", ",", "?", "!", ";", ":")
_ENDS = string.punctuation + "“”„‘’«»…–—¿¡"


@dataclass(frozen=True, slots=True)
class Along:
    """How a network that looks along texts reads them: so many words are told apart, so many of a text are read."""

    vocabulary: int
    tokens: int


@dataclass(frozen=True, slots=True)
class Text:
    """`words` in the order of their codes; `spellings` of them that occurred, with the place in `words`."""

    name: str
    length: int
    words: tuple[str, ...]
    spellings: tuple[tuple[str, int], ...]

    @property
    def size(self) -> int:
        return len(self.words) + FIRST

    def codes(self, inputs: Inputs) -> Array:
        """[rows, length]."""
        known = _known(self.words, self.spellings)
        found = np.zeros((inputs.rows, self.length), dtype=np.int64)
        absent = inputs.absent([self.name])[:, 0]
        for row, text in enumerate(inputs.values[self.name]):
            if not absent[row]:
                codes = [known.get(word, UNKNOWN) for word in split(text, self.length)]
                found[row, :len(codes)] = codes
        return found

    def emit(self, emission: Emission) -> str:
        """int64 [rows, length]."""
        graph, name = emission.graph, f"{emission.prefix}:{self.name}"
        graph.add("StringSplit", [self.name], [f"{name}:words", f"{name}:count"], maxsplit=self.length)
        known = {"": NONE, **_known(self.words, self.spellings)}
        codes = graph.add("LabelEncoder", [f"{name}:words"], f"{name}:codes", ML, keys_strings=list(known),
                          values_int64s=list(known.values()), default_int64=UNKNOWN)
        # As many columns as the longest text of the request has words: some more, then the first ones.
        more = graph.constant(f"{name}:more", np.array([0, 0, 0, self.length], dtype=np.int64))
        padded = graph.add("Pad", [codes, more], f"{name}:padded")
        places = graph.constant(f"{name}:read", np.arange(self.length))
        read = graph.add("Gather", [padded, places], f"{name}:first", axis=1)
        told = Emission(graph, emission.fields, name).missing([self.name])
        return graph.add("Where", [told, graph.constant(f"{name}:none", np.array([[NONE]])), read], f"{name}:told")


@dataclass(frozen=True, slots=True)
class Words:
    """The first words of each text as codes; 0 behind the last."""

    texts: tuple[Text, ...]
    kind = "words"

    @property
    def spans(self) -> tuple[Span, ...]:
        spans, start = [], 0
        for text in self.texts:
            spans.append(Span(text.name, "tokens", start, text.length, (text.length,), text.size))
            start += text.length
        return tuple(spans)

    def transform(self, inputs: Inputs) -> Array:
        return np.concatenate([text.codes(inputs) for text in self.texts], axis=1).astype(np.float64)

    def emit(self, emission: Emission) -> str:
        blocks = [text.emit(emission) for text in self.texts]
        whole = blocks[0] if len(blocks) == 1 else emission.graph.add(
            "Concat", blocks, f"{emission.prefix}:all", axis=1)
        return emission.graph.add("Cast", [whole], emission.prefix, to=TensorProto.FLOAT)

    def to_data(self) -> dict[str, Any]:
        return {"texts": [asdict(one) for one in self.texts]}

    @classmethod
    def from_data(cls, data: Mapping[str, Any]) -> "Words":
        return cls(tuple(text_of(one) for one in data["texts"]))


def text_of(data: Mapping[str, Any]) -> Text:
    """What `asdict` made data of, by way of JSON."""
    return Text(data["name"], data["length"], tuple(data["words"]),
                tuple((spelling, place) for spelling, place in data["spellings"]))


def fit(fields: Sequence[PlannedField], inputs: Inputs, along: Along) -> Words:
    """Words are those of the training rows; the commonest have codes."""
    texts = []
    for field in fields:
        absent = inputs.absent([field.name])[:, 0]
        seen: Counter[str] = Counter()
        for text in inputs.values[field.name][~absent]:
            seen.update(split(text, along.tokens))
        counts: Counter[str] = Counter()
        for spelling, count in seen.items():
            counts[plain(spelling)] += count
        ranked = sorted((-count, word) for word, count in counts.items() if count >= MIN_WORD_COUNT)
        words = tuple(word for _, word in ranked[:along.vocabulary])
        places = {word: place for place, word in enumerate(words)}
        spellings = tuple((spelling, places[plain(spelling)]) for spelling in sorted(seen)
                          if plain(spelling) in places)
        texts.append(Text(field.name, along.tokens, words, spellings))
    return Words(tuple(texts))


def split(text: str, length: int) -> list[str]:
    """The first `length` words, cut at spaces and nothing else, as onnxruntime's StringSplit cuts."""
    return [word for word in text.split(" ") if word][:length]


def plain(word: str) -> str:
    """The word in small letters without what stands at its ends; a mark alone is a word."""
    return word.strip(_ENDS).lower() or word


@lru_cache(maxsize=8)
def _known(words: tuple[str, ...], spellings: tuple[tuple[str, int], ...]) -> dict[str, int]:
    """Every spelling that is looked up, with its code; what occurred comes first, then the commoner word."""
    known = {spelling: place + FIRST for spelling, place in spellings}
    for place, word in enumerate(words):
        for cased in (word, word.capitalize(), word.upper()):
            for mark in _MARKS:
                known.setdefault(cased + mark, place + FIRST)
    return known
