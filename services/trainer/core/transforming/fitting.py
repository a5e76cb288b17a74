"""Which parts a preparation is made of: fitted on training rows, or made again from what was kept of them."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from lepton.contracts.pb.models_pb2 import FieldStatistics
from lepton.contracts.pipeline_blocks import Outliers
from services.trainer.core.preparing import choices, numbers, series, words
from services.trainer.core.preparing.choices import Choices, Codes
from services.trainer.core.preparing.field import PlannedField
from services.trainer.core.preparing.numbers import Numbers
from services.trainer.core.preparing.part import Part
from services.trainer.core.preparing.preparation import Preparation
from services.trainer.core.preparing.rows import Inputs, Taken
from services.trainer.core.preparing.series import Sequences, Vectors
from services.trainer.core.preparing.words import Along, Words
from services.trainer.core.transforming.categories import Hashed, TargetMeans
from services.trainer.core.transforming.numeric import Derived
from services.trainer.core.transforming.shaping import PLAIN, Shaping
from services.trainer.core.transforming.texts import Tfidf
from services.trainer.core.transforming.topics import Topics

KINDS: dict[str, Callable[[Mapping[str, Any]], Part]] = {
    "numbers": Numbers.from_data,
    "choices": Choices.from_data,
    "codes": Codes.from_data,
    "vectors": Vectors.from_data,
    "sequences": Sequences.from_data,
    "words": Words.from_data,
    "derived": Derived.from_data,
    "hashed": Hashed.from_data,
    "target_means": TargetMeans.from_data,
    "tfidf": Tfidf.from_data,
    "topics": Topics.from_data,
}
"""How a part is made again from what was kept of it."""


def prepared_by(data: Mapping[str, Any]) -> Preparation:
    """The preparation of `Preparation.to_data`, whichever release wrote it."""
    data = data if "parts" in data else _parted(data)
    return Preparation(
        tuple(Taken(**{**one, "tail": tuple(one["tail"])}) for one in data["takes"]),
        tuple(KINDS[one["kind"]]({name: value for name, value in one.items() if name != "kind"})
              for one in data["parts"]),
        tuple(FieldStatistics.FromString(bytes.fromhex(one)) for one in data["statistics"]))


def fit(fields: Sequence[PlannedField], outliers: Outliers, inputs: Inputs, along: Along | None = None,
        shaping: Shaping = PLAIN) -> Preparation:
    """Freeze the statistics of `inputs`; what was never seen is filled with 0, `false` or unknown.

    `along`: the network looks along its fields. A text is then its words, and the numbers of a vector share a scale.
    """
    coded = [field for field in fields if field.coded]
    texts = [field for field in fields if not field.coded and (
        field.type == "category" or (field.type == "text" and along is None))]
    plain = [field for field in fields if field.type in ("float", "int", "bool")]
    parts: list[Part] = []
    statistics: dict[str, FieldStatistics] = {}
    if plain:
        found = numbers.fit(plain, outliers, inputs)
        parts.append(shaping.numbers(found[0], inputs))
        statistics |= {one.field: one for one in found[1]}
    if texts:
        chosen = choices.fit(texts, inputs)
        parts += shaping.choices(chosen[0], texts, inputs)
        statistics |= {one.field: one for one in chosen[1]}
    if coded:
        parts.append((numbered := choices.fit_codes(coded, inputs))[0])
        statistics |= {one.field: one for one in numbered[1]}
    parts += _folded(fields, inputs, along)
    statistics |= {field.name: series.counted(field, inputs) for field in fields if field.name not in statistics}
    return Preparation(tuple(Taken(field.name, field.type, field.tail) for field in fields), tuple(parts),
                       tuple(statistics[field.name] for field in fields if field.name in statistics))


def _folded(fields: Sequence[PlannedField], inputs: Inputs, along: Along | None) -> list[Part]:
    """What a network may look along: vectors, sequences and, where it does, texts."""
    found: list[Part] = []
    if vectors := [field for field in fields if field.type == "vector"]:
        found.append(series.fit_vectors(vectors, inputs, together=along is not None))
    if sequences := [field for field in fields if field.type == "sequence"]:
        found.append(series.fit_sequences(sequences, inputs))
    if along is not None and (texts := [field for field in fields if field.type == "text"]):
        found.append(words.fit(texts, inputs, along))
    return found


def _parted(data: Mapping[str, Any]) -> dict[str, Any]:
    """What was written before there were parts: numbers and choices, each field in one of them."""
    types = {one["name"]: one["type"] for one in (*data["numbers"], *data["choices"])}
    parts = []
    if data["numbers"]:
        parts.append({"kind": "numbers", "numbers": data["numbers"], "imputers": data.get("imputers", ())})
    if data["choices"]:
        parts.append({"kind": "choices", "choices": data["choices"]})
    return {"takes": [{"name": name, "type": types[name], "tail": ()} for name in data["fields"]],
            "parts": parts, "statistics": data["statistics"]}
