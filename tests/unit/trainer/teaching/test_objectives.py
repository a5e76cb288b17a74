"""Class weights, label smoothing and over-sampling: by themselves, and through whole runs on rare classes."""

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from torch.nn import functional

from lepton.contracts import pipeline
from lepton.contracts.modelling.blocks import Parameters
from lepton.contracts.pb import training_pb2
from lepton.contracts.pipeline_blocks import FieldType
from lepton.errors import Invalid
from services.trainer.core.failure import RunFailed
from services.trainer.core.handlers import Checkpoint
from services.trainer.core.learning import Given, learn
from services.trainer.core.loop import Loop
from services.trainer.core.plan import Plan, family_and_parameters
from services.trainer.core.teaching import sampling
from services.trainer.core.teaching.objective import PLAIN, Objective, objective
from tests.unit.trainer import samples

RARE = [("class_weights", "balanced"), ("sampling", "balanced")]


def test_plain_losses_are_torchs() -> None:
    scores, truth = torch.tensor([[0.3], [-1.2], [2.0]]), torch.tensor([1, 0, 0])
    assert float(PLAIN.loss("classification", scores, truth, smooth=True)) == pytest.approx(float(
        functional.binary_cross_entropy_with_logits(scores[:, 0], truth.float())))
    assert float(PLAIN.loss("regression", scores, truth.float(), smooth=True)) == pytest.approx(float(
        functional.mse_loss(scores[:, 0], truth.float())))


def test_smoothing_is_torchs_and_counts_in_training_only() -> None:
    scores, truth = torch.tensor([[0.3, 1.0, -0.2], [-1.2, 0.5, 0.1]]), torch.tensor([1, 0])
    smoothed = Objective(None, 0.2)
    assert float(smoothed.loss("classification", scores, truth, smooth=True)) == pytest.approx(float(
        functional.cross_entropy(scores, truth, label_smoothing=0.2)))
    assert float(smoothed.loss("classification", scores, truth, smooth=False)) == pytest.approx(float(
        functional.cross_entropy(scores, truth)))
    # Two classes by one score are judged as by two.
    two = torch.stack([torch.zeros(2), scores[:, 0]], dim=1)
    assert float(smoothed.loss("classification", scores[:, :1], truth, smooth=True)) == pytest.approx(float(
        functional.cross_entropy(two, truth, label_smoothing=0.2)))


def test_balanced_weights_make_every_class_count_alike() -> None:
    truth = np.array([0] * 90 + [1] * 9 + [3])
    found = objective(Parameters(class_weights="balanced"), truth, 4).weights
    assert found is not None
    assert found.numpy()[truth].mean() == pytest.approx(1.0)
    counted = [float(found[one]) * int((truth == one).sum()) for one in (0, 1, 3)]
    assert counted == pytest.approx([counted[0]] * 3)
    assert float(found[2]) == 1.0  # never seen: nothing to balance


def test_balanced_sampling_leaves_no_row_out_and_evens_classes() -> None:
    truth = torch.tensor([0] * 50 + [1] * 7 + [2] * 20)
    drawn = sampling.order(Parameters(sampling="balanced"), truth, torch.Generator().manual_seed(1))
    assert torch.bincount(truth[drawn]).tolist() == [50, 50, 50]
    times = torch.bincount(drawn, minlength=77)
    assert times.min() == 1
    for one in range(3):
        of_class = times[truth == one]
        assert of_class.max() - of_class.min() <= 1
    again = sampling.order(Parameters(sampling="balanced"), truth, torch.Generator().manual_seed(1))
    assert (drawn == again).all()


def rare(count: int = 600, **parameters: Any) -> tuple[Plan, pa.Table]:
    """One row in fifteen is of the class that matters, and it overlaps with the others."""
    chance = np.random.default_rng(2)
    label = np.arange(count) % 15 == 0
    fields: dict[str, FieldType] = {"x": "float", "z": "float"}
    columns = {"x": chance.normal(size=count) + 1.5 * label, "z": chance.normal(size=count)}
    plan = samples.plan(fields, parameters=Parameters(epochs=12, **parameters))
    return plan, samples.rows(columns, label, fields)


@pytest.mark.parametrize(("name", "value"), RARE)
def test_a_rare_class_is_found_when_it_counts(name: str, value: Any) -> None:
    def recall(**parameters: Any) -> float:
        plan, rows = rare(**parameters)
        return learn(plan, Given(rows), []).metrics["recall"]

    assert recall(**{name: value}) > recall() + 0.2


class Killed(Exception):
    """Stands for the end of the process."""


@pytest.mark.parametrize("parameters", [
    {"optimizer": "sgd", "schedule": "step", "sampling": "balanced", "clip_norm": 0.5},
    {"optimizer": "adamw", "warmup_epochs": 3, "class_weights": "balanced", "label_smoothing": 0.1, "l1": 1e-3}])
def test_a_resumed_run_ends_with_the_bytes_of_an_uninterrupted_one(parameters: dict[str, Any]) -> None:
    plan, rows = rare(300, patience=4, **parameters)
    saved: list[bytes] = []

    def save_then_die(checkpoint: bytes) -> None:
        saved.append(checkpoint)
        if len(saved) == 3:
            raise Killed

    whole = learn(plan, Given(rows), [])
    with pytest.raises(Killed):
        learn(plan, Given(rows), [Checkpoint(save_then_die)])
    resumed = learn(plan, Given(rows, checkpoint=saved[-1]), [])
    assert (resumed.weights, resumed.exported.data, resumed.epochs) == (
        whole.weights, whole.exported.data, whole.epochs)


@pytest.mark.parametrize("patience", [1, 6])
def test_a_run_waits_as_long_as_it_is_told(patience: int) -> None:
    plan, rows = rare(patience=patience, learning_rate=1.5)
    losses: list[float] = []
    plan = plan.model_copy(update={"parameters": plan.parameters.model_copy(update={"epochs": 60})})
    assert learn(plan, Given(rows), [_Losses(losses)]).epochs == len(losses) < 60
    assert len(losses) - 1 - int(np.argmin(losses)) >= patience or len(losses) == patience


@pytest.mark.parametrize("interval", [None, 0.8])
def test_without_patience_all_rows_are_learnt_from_but_those_bounds_need(interval: float | None) -> None:
    plan, rows = rare(patience=0, learning_rate=1.5)
    seen: list[tuple[int, int]] = []
    learned = learn(plan.model_copy(update={"interval": interval}), Given(rows), [_Rows(seen)])
    ((taught, judging),) = set(seen)
    assert learned.epochs == len(seen) == plan.parameters.epochs
    assert (judging > 0) == (interval is not None)
    assert taught + judging == learned.train_rows


class _Rows:
    def __init__(self, seen: list[tuple[int, int]]) -> None:
        self._seen = seen

    def epoch_done(self, loop: Loop) -> None:
        self._seen.append((len(loop.work.training), len(loop.work.validation)))


class _Losses:
    def __init__(self, losses: list[float]) -> None:
        self._losses = losses

    def epoch_done(self, run: Any) -> None:
        self._losses.append(run.validation_loss)


SPEC = """
apiVersion: lepton/v1
kind: Pipeline
metadata: {name: m}
events:
  fields: {x: {type: float}}
  label: {field: y, type: float}
model: {family: mlp, parameters: {%s}}
"""


def test_what_is_for_classes_is_refused_for_numbers() -> None:
    for given in ("class_weights: balanced", "sampling: balanced", "label_smoothing: 0.1"):
        with pytest.raises(Invalid, match="is for classes"):
            pipeline.parse(SPEC % given)
    spec = pipeline.parse(SPEC % "optimizer: adamw, schedule: step, warmup_epochs: 2, l1: 0.001, clip_norm: 1")
    command = training_pb2.TrainingCommand(command_id="c", model="m", parameters_json='{"sampling": "balanced"}')
    with pytest.raises(RunFailed, match="`sampling` is for classes"):
        family_and_parameters(spec, command)
    command.parameters_json = '{"sampling": "plain", "momentum": 0.5}'
    assert family_and_parameters(spec, command)[1].momentum == 0.5
