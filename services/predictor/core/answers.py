"""What a model's output tensors mean: numbers, or labels as text with their probabilities."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lepton.contracts.pb import models_pb2, prediction_pb2
from lepton.errors import Refused
from services.predictor.core.signature import Array, Signature

NUMBER, LABEL, PROBABILITIES = "prediction", "label", "probabilities"


@dataclass(frozen=True, slots=True)
class Answers:
    """One answer a row: `numbers` for regression, else `labels`; `probabilities` is [rows, classes] or None."""

    numbers: Sequence[float] | None
    labels: Sequence[str] | None
    probabilities: Array | None
    classes: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.numbers if self.numbers is not None else self.labels or ())

    def rows(self) -> Iterator[dict[str, Any]]:
        """For each row the members of a PredictionServed that hold its answer."""
        if self.numbers is not None:
            return ({"number": number} for number in self.numbers)
        labels = self.labels or ()
        if self.probabilities is None:
            return ({"label": label} for label in labels)
        return ({"label": label, "probabilities": row}
                for label, row in zip(labels, self.probabilities.tolist(), strict=True))


def check(manifest: models_pb2.ModelManifest, signature: Signature) -> None:
    """Raises Refused unless the outputs are those of the manifest's task."""
    outputs = signature.outputs
    if manifest.task == models_pb2.MODEL_TASK_REGRESSION:
        fits = NUMBER in outputs and not outputs[NUMBER].tail
    else:
        fits = LABEL in outputs and not outputs[LABEL].tail
        width = outputs[PROBABILITIES].tail if PROBABILITIES in outputs else (len(manifest.classes),)
        fits = fits and width in ((len(manifest.classes),), (-1,))
    if not fits:
        raise Refused("the outputs do not fit the model's task", field="outputs",
                      remedy=f"give `{NUMBER}` [-1] for regression, `{LABEL}` [-1] and `{PROBABILITIES}` "
                             f"[-1, {len(manifest.classes)}] for classification")


def read(outputs: Mapping[str, Array], classes: tuple[str, ...]) -> Answers:
    """Answers of one run; which kind follows from the outputs, as `check` has established."""
    if NUMBER in outputs:
        return Answers(outputs[NUMBER].tolist(), None, None, ())
    return Answers(None, _texts(outputs[LABEL]), outputs.get(PROBABILITIES), classes)


def named(answers: Answers) -> list[prediction_pb2.RowPrediction]:
    """One message a row, probabilities by class."""
    if answers.numbers is not None:
        return [prediction_pb2.RowPrediction(number=number) for number in answers.numbers]
    labels = answers.labels or ()
    if answers.probabilities is None:
        return [prediction_pb2.RowPrediction(label=label) for label in labels]
    return [prediction_pb2.RowPrediction(label=label, probabilities=dict(zip(answers.classes, row, strict=True)))
            for label, row in zip(labels, answers.probabilities.tolist(), strict=True)]


def _texts(labels: Array) -> list[str]:
    if labels.dtype == np.bool_:
        return ["true" if label else "false" for label in labels.tolist()]
    return [str(label) for label in labels.tolist()]
