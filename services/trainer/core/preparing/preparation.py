"""How a row of fields becomes the numbers a network takes: parts frozen in the training rows, side by side.

The same arithmetic, with the same constants, is the first part of the exported graph (`core/export/graph.py`).
"""

from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from lepton.contracts.pb.models_pb2 import FieldStatistics
from services.trainer.core.emitting.building import Graph
from services.trainer.core.preparing.layout import Layout
from services.trainer.core.preparing.part import Emission, Part, Teaching
from services.trainer.core.preparing.rows import Inputs, Taken


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

    def taught(self, inputs: Inputs, signals: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        """The rows a network learns from, whose labels are `signals`: as `transform`, but no label tells of itself."""
        return np.concatenate([part.taught(inputs, signals) if isinstance(part, Teaching) else part.transform(inputs)
                               for part in self.parts], axis=1).astype(np.float32)

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


def constant_fields(preparation: Preparation) -> list[str]:
    """Fields that had at most one distinct value: they are kept, and teach nothing."""
    return [one.field for one in preparation.statistics
            if (one.HasField("std") and one.std == 0) or len(one.categories) == 1 or one.count == 0]
