"""Which parts stand for which fields, once a Pipeline's transforms are known; what none of them names stays plain."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from lepton.contracts.modelling.transforms import (
    Hashing,
    Lda,
    OneHot,
    Pca,
    QuantileBins,
    Scale,
    TargetEncoding,
    Tfidf,
    Transform,
)
from services.trainer.core.dataset import Target
from services.trainer.core.preparing import choices
from services.trainer.core.preparing.choices import Choice, Choices
from services.trainer.core.preparing.field import PlannedField
from services.trainer.core.preparing.numbers import Numbers
from services.trainer.core.preparing.part import Part
from services.trainer.core.preparing.rows import Array, Inputs
from services.trainer.core.transforming import categories, numeric, texts, topics


@dataclass(frozen=True, slots=True)
class Shaping:
    """`signals` [rows, n] say of rows that are learnt from what the label is (`signals_of`); `learners` are their
    places among the rows that everything else is fitted on."""

    transforms: tuple[Transform, ...] = ()
    signals: Array | None = None
    learners: Array | None = None

    def numbers(self, plain: Numbers, inputs: Inputs) -> Part:
        """The numbers as they are, or what is asked of them."""
        places = {name: place for place, name in enumerate(plain.names)}
        asked = [one for one in self.transforms if isinstance(one, Scale | QuantileBins | Pca) and one.of[0] in places]
        if not asked:
            return plain
        standard = plain.transform(inputs)
        methods = {name: one.method for one in asked if isinstance(one, Scale) for name in one.of}
        named = {name for one in asked for name in one.of}
        return numeric.Derived(
            plain,
            tuple(numeric.scaled(place, methods.get(name, "standard"), standard[:, place], plain)
                  for name, place in places.items() if name in methods or name not in named),
            tuple(numeric.binned(places[name], one.bins, standard[:, places[name]])
                  for one in asked if isinstance(one, QuantileBins) for name in one.of),
            tuple(numeric.directions([places[name] for name in one.of], one.components, standard)
                  for one in asked if isinstance(one, Pca)))

    def choices(self, plain: Choices, fields: Sequence[PlannedField], inputs: Inputs) -> list[Part]:
        """One-hot columns of what is to have them, then buckets, means, words and topics."""
        by_name = {field.name: field for field in fields}
        named = {name for one in self.transforms for name in one.of} & set(by_name)
        hot = {name: choices.choice_of(by_name[name], inputs, one.max_categories, one.min_rows)
               for one in self.transforms if isinstance(one, OneHot) for name in one.of}
        kept = tuple(hot.get(one.name, one) for one in plain.choices if one.name in hot or one.name not in named)
        return [*([Choices(kept)] if kept else []), *self._coded(by_name, inputs), *self._texts(by_name, inputs)]

    def _coded(self, fields: Mapping[str, PlannedField], inputs: Inputs) -> Iterator[Part]:
        def known(name: str, min_rows: int) -> Choice:
            return choices.choice_of(fields[name], inputs, choices.MAX_CODES, min_rows)

        hashed = [(known(name, one.min_rows), one.buckets)
                  for one in self.transforms if isinstance(one, Hashing) for name in one.of]
        if hashed:
            yield categories.Hashed(tuple(one for one, _ in hashed), tuple(buckets for _, buckets in hashed))
        wanted = [(known(name, one.min_rows), one.smoothing)
                  for one in self.transforms if isinstance(one, TargetEncoding) for name in one.of]
        if wanted and self.signals is not None and self.learners is not None:
            yield categories.fit_means([one for one, _ in wanted], [weight for _, weight in wanted],
                                       inputs.take(self.learners), self.signals)

    def _texts(self, fields: Mapping[str, PlannedField], inputs: Inputs) -> Iterator[Part]:
        found = [texts.fit(fields[name], inputs, one.max_terms, one.max_words, one.components)
                 for one in self.transforms if isinstance(one, Tfidf) for name in one.of]
        if found:
            yield texts.Tfidf(tuple(found))
        mixed = [topics.fit(fields[name], inputs, one) for one in self.transforms if isinstance(one, Lda)
                 for name in one.of]
        if mixed:
            yield topics.Topics(tuple(mixed))


PLAIN = Shaping()


def signals_of(truth: Array, target: Target) -> Array:
    """The standardised number, or for each class (of two only the second) whether it is the row's: [rows, n]."""
    if target.task == "regression":
        return np.asarray((truth.astype(np.float64) - target.mean) / target.std)[:, None]
    first = 1 if len(target.classes) == 2 else 0
    return np.asarray(truth[:, None] == np.arange(first, len(target.classes))[None, :]).astype(np.float64)
