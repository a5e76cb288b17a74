"""How a row of fields becomes the numbers a network takes: parts frozen in the training rows, side by side.

The same arithmetic, with the same constants, is the first part of the exported graph (`core/export/graph.py`).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from lepton.contracts.pb.models_pb2 import FieldStatistics
from lepton.contracts.pipeline_blocks import Outliers
from services.trainer.core.emitting.building import Graph
from services.trainer.core.preparing import choices, numbers, series, words
from services.trainer.core.preparing.choices import Choices, Codes
from services.trainer.core.preparing.field import PlannedField
from services.trainer.core.preparing.layout import Layout
from services.trainer.core.preparing.numbers import Numbers
from services.trainer.core.preparing.part import Emission, Part
from services.trainer.core.preparing.rows import Inputs, Taken
from services.trainer.core.preparing.series import Sequences, Vectors
from services.trainer.core.preparing.words import Along, Words

KINDS: dict[str, Callable[[Mapping[str, Any]], Part]] = {
    "numbers": Numbers.from_data,
    "choices": Choices.from_data,
    "codes": Codes.from_data,
    "vectors": Vectors.from_data,
    "sequences": Sequences.from_data,
    "words": Words.from_data,
}
"""How a part is made again from what was kept of it."""


@dataclass(frozen=True, slots=True)
class Preparation:
    """Everything frozen. The network's columns are those of the parts, in their order."""

    takes: tuple[Taken, ...]
    parts: tuple[Part, ...]
    statistics: tuple[FieldStatistics, ...] = ()

    @property
    def fields(self) -> tuple[str, ...]:
        return tuple(one.name for one in self.takes)

    @property
    def layout(self) -> Layout:
        """Where each field's columns are in what `transform` gives."""
        spans, start = [], 0
        for part in self.parts:
            spans += [replace(span, start=start + span.start) for span in part.spans]
            start += sum(span.width for span in part.spans)
        return Layout(tuple(spans))

    @property
    def width(self) -> int:
        return self.layout.width

    def transform(self, inputs: Inputs) -> npt.NDArray[np.float32]:
        """[rows, width]; finite whatever comes in."""
        return np.concatenate([part.transform(inputs) for part in self.parts], axis=1).astype(np.float32)

    def emit(self, graph: Graph) -> str:
        """Write what `transform` does; returns the name of the prepared rows, float32 [rows, width]."""
        blocks = []
        for place, part in enumerate(self.parts):
            alone = [one.kind for one in self.parts].count(part.kind) == 1
            prefix = part.kind if alone else f"{part.kind}_{place}"
            blocks.append(part.emit(Emission(graph, self.fields, prefix)))
        return blocks[0] if len(blocks) == 1 else graph.add("Concat", blocks, "prepared", axis=1)

    def outside(self, inputs: Inputs) -> npt.NDArray[np.bool_]:
        """Rows with a present number outside its outlier bounds."""
        found = np.zeros(inputs.rows, dtype=bool)
        for one in self.statistics:
            if one.HasField("outlier_low"):
                values = inputs.values[one.field].astype(np.float64)
                beyond = (values < one.outlier_low) | (values > one.outlier_high)
                found |= beyond & ~inputs.absent([one.field])[:, 0]
        return found

    def to_data(self) -> dict[str, Any]:
        return {"takes": [asdict(one) for one in self.takes],
                "parts": [{"kind": part.kind, **part.to_data()} for part in self.parts],
                "statistics": [one.SerializeToString(deterministic=True).hex() for one in self.statistics]}

    @classmethod
    def from_data(cls, data: Mapping[str, Any]) -> "Preparation":
        data = data if "parts" in data else _parted(data)
        return cls(tuple(Taken(**{**one, "tail": tuple(one["tail"])}) for one in data["takes"]),
                   tuple(KINDS[one["kind"]]({name: value for name, value in one.items() if name != "kind"})
                         for one in data["parts"]),
                   tuple(FieldStatistics.FromString(bytes.fromhex(one)) for one in data["statistics"]))


def fit(fields: Sequence[PlannedField], outliers: Outliers, inputs: Inputs, along: Along | None = None) -> Preparation:
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
        parts.append((found := numbers.fit(plain, outliers, inputs))[0])
        statistics |= {one.field: one for one in found[1]}
    if texts:
        parts.append((chosen := choices.fit(texts, inputs))[0])
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


def constant_fields(preparation: Preparation) -> list[str]:
    """Fields that had at most one distinct value: they are kept, and teach nothing."""
    return [one.field for one in preparation.statistics
            if (one.HasField("std") and one.std == 0) or len(one.categories) == 1 or one.count == 0]


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
