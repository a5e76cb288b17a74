"""What a model's output tensors mean, task by task: numbers, or labels with what else is said beside them."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from lepton.contracts.pb import models_pb2
from lepton.contracts.pb.prediction_pb2 import RankedItem, RowPrediction
from lepton.errors import Refused
from services.predictor.core.signature import Array, Signature

NUMBER, LABEL, PROBABILITIES = "prediction", "label", "probabilities"
LOW, HIGH = "low", "high"
ITEMS, SCORES, VALUES, SCORE = "items", "scores", "values", "score"


@dataclass(frozen=True, slots=True)
class Answers:
    """One answer a row: `numbers` for regression, else `labels`, and beside them what the task says more.

    All are as the model gave them, which calls classes by text, truth or number: `texts` and `item_texts` are what is
    answered. `probabilities` (classification) and `values` (policy: expected returns) are [rows, classes]; `items`,
    best first, and their `scores` (ranking) are [rows, k]; `score` (anomaly) is [rows]. None where the task has none.
    """

    numbers: Array | None
    labels: Array | None
    probabilities: Array | None
    classes: tuple[str, ...]
    items: Array | None = None
    scores: Array | None = None
    values: Array | None = None
    score: Array | None = None
    bounds: Array | None = None
    """[rows, 2]: below and above a number."""

    def __len__(self) -> int:
        answered = self.numbers if self.numbers is not None else self.labels
        return 0 if answered is None else len(answered)

    def texts(self) -> list[str]:
        """The labels; empty where there are none."""
        return [] if self.labels is None else _texts(self.labels)

    def item_texts(self) -> list[list[str]]:
        """The items of each row; empty where there are none."""
        return [] if self.items is None else [_texts(row) for row in self.items]

    def rows(self) -> Iterator[dict[str, Any]]:
        """For each row the members of a PredictionServed that hold its answer."""
        if self.numbers is not None and self.bounds is not None:
            return ({"number": number, "low": low, "high": high}
                    for number, (low, high) in zip(self.numbers.tolist(), self.bounds.tolist(), strict=True))
        if self.numbers is not None:
            return ({"number": number} for number in self.numbers.tolist())
        labels = self.texts()
        if self.probabilities is not None:
            return ({"label": label, "probabilities": row}
                    for label, row in zip(labels, self.probabilities.tolist(), strict=True))
        if self.items is not None and self.scores is not None:
            return ({"label": label, "items": items, "scores": scores}
                    for label, items, scores in zip(labels, self.item_texts(), self.scores.tolist(), strict=True))
        beside = self.values if self.values is not None else None if self.score is None else self.score[:, None]
        if beside is None:
            return ({"label": label} for label in labels)
        return ({"label": label, "scores": row} for label, row in zip(labels, beside.tolist(), strict=True))


def check(manifest: models_pb2.ModelManifest, signature: Signature) -> None:
    """Raises Refused unless the outputs are those of the manifest's task."""
    tails = {name: tensor.tail for name, tensor in signature.outputs.items()}
    classes = (len(manifest.classes),)
    if manifest.task == models_pb2.MODEL_TASK_REGRESSION:
        fits = tails.get(NUMBER) == () and tails.get(LOW, ()) == tails.get(HIGH, ()) == ()
    elif manifest.task == models_pb2.MODEL_TASK_RANKING:
        fits = tails.get(LABEL) == () and len(tails.get(ITEMS, ())) == 1 and tails[ITEMS] == tails.get(SCORES)
    elif manifest.task == models_pb2.MODEL_TASK_POLICY:
        fits = tails.get(LABEL) == () and tails.get(VALUES) == classes
    elif manifest.task == models_pb2.MODEL_TASK_ANOMALY:
        fits = tails.get(LABEL) == () and tails.get(SCORE) == ()
    else:
        fits = tails.get(LABEL) == () and tails.get(PROBABILITIES, classes) in (classes, (-1,))
    if not fits:
        raise Refused("the outputs do not fit the model's task", field="outputs",
                      remedy=f"give `{NUMBER}` [-1] for regression, else `{LABEL}` [-1] and beside it "
                             f"`{PROBABILITIES}` [-1, {len(manifest.classes)}] for classification, `{ITEMS}` and "
                             f"`{SCORES}` [-1, k] for ranking, `{VALUES}` [-1, actions] for a policy, `{SCORE}` [-1] "
                             f"for anomaly")


def read(outputs: Mapping[str, Array], classes: tuple[str, ...]) -> Answers:
    """Answers of one run; which kind follows from the outputs, as `check` has established."""
    if NUMBER in outputs:
        bounds = np.stack([outputs[LOW], outputs[HIGH]], axis=1) if LOW in outputs and HIGH in outputs else None
        return Answers(outputs[NUMBER], None, None, (), bounds=bounds)
    labels = outputs[LABEL]
    if ITEMS in outputs:
        return Answers(None, labels, None, (), outputs[ITEMS], outputs[SCORES])
    return Answers(None, labels, outputs.get(PROBABILITIES), classes, values=outputs.get(VALUES),
                   score=outputs.get(SCORE))


def named(answers: Answers) -> list[RowPrediction]:
    """One message a row: probabilities by class, expected returns by action, items with their scores."""
    if answers.numbers is not None:
        return [RowPrediction(**members) for members in answers.rows()]
    labels, classes = answers.texts(), answers.classes
    if answers.probabilities is not None:
        return [RowPrediction(label=label, probabilities=dict(zip(classes, row, strict=True)))
                for label, row in zip(labels, answers.probabilities.tolist(), strict=True)]
    if answers.items is not None and answers.scores is not None:
        return [RowPrediction(label=label, top=[RankedItem(item=item, score=score)
                                                for item, score in zip(items, scores, strict=True)])
                for label, items, scores in zip(labels, answers.item_texts(), answers.scores.tolist(), strict=True)]
    if answers.values is not None:
        return [RowPrediction(label=label, values=dict(zip(classes, row, strict=True)))
                for label, row in zip(labels, answers.values.tolist(), strict=True)]
    if answers.score is not None:
        return [RowPrediction(label=label, score=score)
                for label, score in zip(labels, answers.score.tolist(), strict=True)]
    return [RowPrediction(label=label) for label in labels]


def _texts(labels: Array) -> list[str]:
    if labels.dtype == np.bool_:
        return ["true" if label else "false" for label in labels.tolist()]
    return [str(label) for label in labels.tolist()]
