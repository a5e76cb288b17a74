"""Whole runs whose Pipeline asks for a smaller file: what is published, and what its cost does at the gate."""

from typing import Any

import pytest

from lepton.contracts import pipeline
from lepton.contracts.modelling.blocks import Export, Parameters
from lepton.contracts.pb import training_pb2
from lepton.contracts.pb.models_pb2 import VERSION_STATUS_REJECTED, ModelVersion
from lepton.errors import Invalid
from services.trainer.core.export.session import Session
from services.trainer.core.learning import Given, learn, manifest
from tests.unit.trainer import samples
from tests.unit.trainer.world import SPEC, World, state_of

PARAMETERS = "parameters: {hidden: [64, 32], epochs: 8, learning_rate: 0.01}"
GATE = "gate: {metric: log_loss, at_most: 0.6}"


def asking(export: str) -> str:
    """The tumours, learnt by a network with hidden layers whose file is to be smaller."""
    head, _, _ = SPEC.partition("model:")
    return f"{head}model:\n  family: mlp\n  {PARAMETERS}\n  export: {export}\n" \
           f"  train: {{first_rows: 100, every_rows: 50}}\n{GATE}\n"


async def published(world: World, export: str) -> tuple[int, str, ModelVersion]:
    world.pipelines = {"tumours": state_of(asking(export))}
    await world.rows(0, 300)
    run = await world.train()
    (version,) = (await world.stores.models.state("tumours")).versions
    return run.progress.state, run.progress.failure.message, version


async def test_a_run_publishes_the_smaller_file_with_its_cost(world: World) -> None:
    state, _, version = await published(world, "{prune: 0.25, precision: dynamic_int8, max_cost: 0.1}")
    assert state == training_pb2.RUN_STATE_SUCCEEDED
    told = version.manifest
    assert list(told.shrinking.methods) == ["prune", "dynamic_int8"]
    assert told.size_bytes == told.shrinking.shrunk_size_bytes < 0.7 * told.shrinking.full_size_bytes
    file = await world.stores.artifacts.get(told.sha256)
    assert len(file) == told.size_bytes
    assert Session(file)
    assert "ai.onnx::MatMulInteger" in told.operators
    assert (told.shrinking.metric, told.shrinking.max_cost) == ("log_loss", 0.1)
    # What is said of the version is what the file answers that is served.
    assert told.metrics["log_loss"] == told.shrinking.shrunk_metrics["log_loss"]
    assert told.shrinking.cost == pytest.approx(
        told.shrinking.shrunk_metrics["log_loss"] - told.shrinking.full_metrics["log_loss"])


async def test_a_file_that_costs_more_than_was_allowed_is_kept_out_by_the_gate(world: World) -> None:
    state, why, version = await published(world, "{prune: 0.97, max_cost: 0}")
    assert state == training_pb2.RUN_STATE_REJECTED
    assert version.status == VERSION_STATUS_REJECTED
    assert "prune costs" in why
    assert "more than 0" in why
    assert await world.champion() == 0


async def test_the_full_file_is_served_where_the_pipeline_has_it_so(world: World) -> None:
    state, _, version = await published(world, "{prune: 0.97, max_cost: 0, otherwise: full}")
    assert state == training_pb2.RUN_STATE_SUCCEEDED
    told = version.manifest
    assert told.shrinking.full_served
    assert told.size_bytes == told.shrinking.full_size_bytes > told.shrinking.shrunk_size_bytes
    assert told.metrics["log_loss"] == told.shrinking.full_metrics["log_loss"]


@pytest.mark.parametrize("sample", [samples.breast_cancer, samples.diabetes])
def test_the_weights_a_later_run_continues_are_the_full_ones(sample: Any) -> None:
    changes = {"family": "mlp", "parameters": Parameters(hidden=(128,), epochs=4)}
    plan, rows = sample(**changes)
    full = learn(plan, Given(rows), [])
    small = learn(plan.model_copy(update={"export": Export(prune=0.5, precision="static_int8")}), Given(rows), [])
    assert small.weights == full.weights
    assert len(small.exported.data) < len(full.exported.data)
    assert full.shrinking is None
    assert not manifest(plan, full, "test").HasField("shrinking")
    again = learn(plan.model_copy(update={"export": Export(prune=0.5, precision="static_int8")}), Given(rows), [])
    assert again.exported.data == small.exported.data


def test_a_network_too_small_to_gain_by_it_is_warned_of() -> None:
    plan, rows = samples.diabetes(export=Export(precision="static_int8", max_cost=1.0))
    (warning,) = learn(plan, Given(rows), []).warnings
    assert warning.startswith("static_int8 makes this file no smaller")


def test_a_pipeline_cannot_ask_for_units_a_family_does_not_have() -> None:
    with pytest.raises(Invalid, match="logistic_regression has no hidden units"):
        pipeline.parse(SPEC.replace("  train:", "  export: {prune: 0.5}\n  train:"))
